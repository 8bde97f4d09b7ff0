"""Which node is to be a primary and which a replica, in a cluster that has owners.

Rules: present roles stay, counts and failure domains matter; a leaving owner hands its slots to a
replica that stays where there is one, since that moves no key; equal views give equal roles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .facts import Facts
from .replica_placement import place_replicas
from .shard_assignment import first_primaries
from .topology import NodeId, NodeView, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What each member is to be.

    Attributes:
        primaries: The staying primaries in the end, by ordinal.
        new: Those of them that own nothing yet.
        drain: Owners that are to own nothing: they leave, or there are too many primaries.
        failovers: Staying replicas that are to take over from an owner that leaves.
        convert: Replicas that must become empty primaries, since there are too few otherwise.
        following: The primary that each other staying node is to replicate, where that is
            settled now; replicas of a drained owner keep a copy of its keys until it is empty.
    """

    primaries: tuple[NodeId, ...]
    new: tuple[NodeId, ...]
    drain: tuple[NodeId, ...]
    failovers: tuple[NodeId, ...]
    convert: tuple[NodeId, ...]
    following: Mapping[NodeId, NodeId]


def assign_roles(facts: Facts) -> Roles:
    """Decide roles in a cluster that has owners, changing as little as the counts allow."""
    drain = _choose_drains(facts)
    successors: dict[NodeId, NodeId] = {}
    primaries: list[NodeId] = []
    for owner in facts.owners:
        if owner.node_id in drain:
            continue
        if facts.stays(owner):
            primaries.append(owner.node_id)
        elif successor := _successor(facts, owner, primaries):
            successors[owner.node_id] = successor.node_id
            primaries.append(successor.node_id)
        else:
            drain.append(owner.node_id)
    new = _choose_new(facts, primaries)
    primaries += new
    convert = _choose_converts(facts, primaries)
    following = place_replicas(
        facts,
        primaries=primaries,
        successors=successors,
        drained=drain,
        converted=convert,
        preferred=_preferred(facts),
    )
    return Roles(
        primaries=tuple(sorted(primaries, key=lambda i: facts.live[i].ordinal)),
        new=tuple(new),
        drain=tuple(drain),
        failovers=tuple(successors.values()),
        convert=tuple(convert),
        following=following,
    )


def _preferred(facts: Facts) -> dict[NodeId, NodeId]:
    """Return the primary that each pod follows in a new cluster, while this one resembles it.

    These pairs meet first (`introductions`). Where a replica follows another one, nothing.
    """
    preferred = first_primaries(facts.staying, facts.desired.primaries)
    replicas = (n for n in facts.staying if n.role is Role.REPLICA)
    fits = all(n.myself.primary_id == preferred.get(n.node_id) for n in replicas)
    return preferred if fits else {}


def _choose_drains(facts: Facts) -> list[NodeId]:
    """Choose the owners to drain when there are more than wanted: leaving ones first.

    Of the leaving ones those without a successor come first, since the others can leave without
    moving a slot; then those with the fewest slots.
    """
    surplus = max(0, len(facts.owners) - facts.desired.primaries)

    def cost(owner: NodeView) -> tuple[bool, bool, int, int]:
        stays = facts.stays(owner)
        has_successor = not stays and _successor(facts, owner) is not None
        return (stays, has_successor, len(owner.slots), -owner.ordinal)

    return [owner.node_id for owner in sorted(facts.owners, key=cost)[:surplus]]


def _successor(facts: Facts, owner: NodeView, primaries: Sequence[NodeId] = ()) -> NodeView | None:
    """Return the staying replica in sync that takes over, in the least crowded domain."""
    replicas = (n for n in facts.replicas_of(owner.node_id) if facts.stays(n) and n.link_up)
    crowd = _primaries_per_domain(facts, primaries)
    return min(replicas, key=lambda n: (crowd[n.place.domain], n.ordinal), default=None)


def _choose_new(facts: Facts, primaries: Sequence[NodeId]) -> list[NodeId]:
    """Choose staying primaries without slots to own some, in the least crowded domains."""
    wanted = facts.desired.primaries - len(primaries)
    empty = [n for n in facts.staying_primaries if not n.slots and not n.is_isolated]
    crowd = _primaries_per_domain(facts, primaries)
    chosen: list[NodeId] = []
    while empty and len(chosen) < wanted:
        node = min(empty, key=lambda n: (crowd[n.place.domain], n.ordinal))
        empty.remove(node)
        crowd[node.place.domain] += 1
        chosen.append(node.node_id)
    return chosen


def _choose_converts(facts: Facts, primaries: Sequence[NodeId]) -> list[NodeId]:
    """Choose replicas to make into empty primaries; only where every pod is a member already.

    A pod that has not joined yet is an empty primary without a RESET.
    """
    wanted = facts.desired.primaries - len(primaries)
    if any(n.is_isolated for n in facts.staying):
        return []
    counts = Counter(n.myself.primary_id for n in facts.staying if n.role is Role.REPLICA)
    crowd = _primaries_per_domain(facts, primaries)
    chosen: list[NodeId] = []

    def worth(node: NodeView) -> tuple[int, int, int]:
        siblings = counts[node.myself.primary_id]
        return (siblings, -crowd[node.place.domain], node.ordinal)

    replicas = [n for n in facts.staying if n.role is Role.REPLICA and n.node_id not in primaries]
    while replicas and len(chosen) < wanted:
        node = max(replicas, key=worth)
        replicas.remove(node)
        counts[node.myself.primary_id] -= 1
        crowd[node.place.domain] += 1
        chosen.append(node.node_id)
    return chosen


def _primaries_per_domain(facts: Facts, primaries: Iterable[NodeId]) -> Counter[str]:
    return Counter(facts.live[i].place.domain for i in primaries)
