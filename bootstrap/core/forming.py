"""From single nodes to one cluster: first slots, REPLICATE, functions.

Rules: slots and epochs go to a fresh node before it meets another, because a primary reports
`cluster_state:ok` only 5 s after it first owned a slot. Which nodes meet, and when, is decided in
`introductions`.

Invariant: no slot is assigned while any node has keys or a member is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from . import introductions, key_holders
from .actions import Action, AssignSlots, CopyFunctions, Replicate
from .facts import Facts
from .findings import FindingCode, functions_missing
from .roles import Roles
from .shard_assignment import assign_shards
from .slots import SLOT_COUNT, SlotSet, even_split
from .topology import NodeId, NodeView, Role


def form(facts: Facts) -> list[Action]:
    """Return the epochs, the first slots and the MEETs of a new cluster.

    They go out together, each node's in one pipeline: a node that owns its slots before it meets
    another sends them with the first header.
    """
    return [
        *introductions.epochs(facts),
        *_first_slots(facts),
        *introductions.disable_failovers(facts),
        *introductions.meets(facts),
    ]


def may_assign_first_slots(facts: Facts) -> bool:
    """Return whether slots are uncovered and nothing can be lost: no keys, no member gone."""
    return bool(facts.uncovered) and facts.has_nothing_to_lose


def _first_slots(facts: Facts) -> Iterator[AssignSlots]:
    """Yield the ranges of a new cluster, or, where others own slots already, what is left."""
    shards = assign_shards(facts.staying, facts.desired.primaries)
    chosen = [shard[0] for shard in shards]
    split = {n.node_id: part for n, part in zip(chosen, even_split(len(chosen)), strict=True)}
    is_new = all(n.role is Role.PRIMARY for n in chosen) and not any(
        owner.slots - split.get(owner.node_id, SlotSet()) for owner in facts.owners
    )
    for node_id, slots in split.items() if is_new else _fill_up(facts, chosen):
        uncovered = slots & facts.uncovered
        if uncovered:
            yield AssignSlots(node=node_id, slots=uncovered, reason=FindingCode.SLOTS_UNCOVERED)


def _fill_up(facts: Facts, chosen: Sequence[NodeView]) -> Iterator[tuple[NodeId, SlotSet]]:
    """Yield shares of the uncovered slots for the owners, then for further primaries."""
    owners = [n for n in facts.owners if facts.stays(n)]
    further = [n for n in (*chosen, *facts.staying) if n.role is Role.PRIMARY]
    most = max(len(owners), facts.desired.primaries)
    primaries = [*{n.node_id: n for n in (*owners, *further)}.values()][:most]
    left = facts.uncovered
    for node in primaries:
        share = -(-SLOT_COUNT // len(primaries)) - len(node.slots)
        slots = left.lowest(share)
        left -= slots
        yield node.node_id, slots


def replicate(facts: Facts, roles: Roles) -> list[Replicate]:
    """Return the REPLICATEs that each node's own view allows already."""
    nodes = sorted((facts.live[i] for i in roles.following), key=lambda n: n.ordinal)
    return [
        Replicate(
            node=node.node_id,
            primary=roles.following[node.node_id],
            reason=FindingCode.PRIMARY_COUNT
            if node.role is Role.PRIMARY
            else FindingCode.REPLICA_COUNT,
        )
        for node in nodes
        if _can_replicate(facts, node, roles.following[node.node_id])
    ]


def _can_replicate(facts: Facts, node: NodeView, primary: NodeId) -> bool:
    if node.role is Role.REPLICA:
        if node.myself.primary_id == primary:
            return _dials_elsewhere(node, facts.live[primary])
        old = facts.primary_of(node)
        is_copy = old and old.role is Role.PRIMARY and (old.slots or node.keys)
        if (is_copy and not node.link_up) or node in key_holders.last_copy_replicas(facts):
            return False  # it may have the newest copy of what its primary lost
    elif node.keys or node.slots:
        return False
    line = node.known.get(primary)
    target = facts.truth[primary]
    return line is not None and line.role is Role.PRIMARY and target.role is Role.PRIMARY


def _dials_elsewhere(node: NodeView, primary: NodeView) -> bool:
    """Return whether a replica dials an address that its primary does not have any more.

    A node that learns a new address from gossip does not pass it to its own replication
    (clusterProcessGossipSection), which dials the old one forever; another REPLICATE with the
    same primary fixes that.
    """
    return not node.link_up and node.primary_ip not in {"", *primary.ips}


def copy_functions(facts: Facts) -> list[Action]:
    """Return copies of the function libraries to new primaries; no server copies them itself."""
    why = FindingCode.FUNCTIONS_MISSING
    sources = [n.node_id for n in facts.owners if n.libraries]
    return [
        CopyFunctions(source=sources[0], target=node.node_id, reason=why)
        for node in functions_missing(facts)
    ]
