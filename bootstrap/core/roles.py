"""Who is primary, who replicates whom.

Rules: roles that are there stay, counts and failure domains matter; a shard repeats a zone or a
node only where that cannot be helped; equal views give equal roles.

A fresh cluster is dealt: pods sorted by (zone, node, ordinal), pod i to shard i mod M. Pods of one
domain are consecutive then, so a shard repeats a domain only if the domain has more than M pods:
the least possible number, for zones and nodes at once. Without known places this is the order of
ordinals: the first M pods are primaries, pod i replicates i mod M.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .facts import Facts
from .topology import NodeId, NodeView, Place, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Who is to be what.

    Attributes:
        primaries: The staying primaries in the end, by ordinal.
        new: Those of them that own nothing yet.
        drain: Owners that are to own nothing: they leave, or there are too many primaries.
        failovers: Staying replicas that are to take over from an owner that leaves.
        convert: Replicas that must become empty primaries, as there are too few nodes else.
        following: The primary that each other staying node is to replicate, where that is
            settled now; replicas of a node that is drained keep watching its keys until then.
    """

    primaries: tuple[NodeId, ...]
    new: tuple[NodeId, ...]
    drain: tuple[NodeId, ...]
    failovers: tuple[NodeId, ...]
    convert: tuple[NodeId, ...]
    following: Mapping[NodeId, NodeId]


def assign_shards(nodes: Sequence[NodeView], shards: int) -> list[list[NodeView]]:
    """Deal nodes to shards, the primary first in each, shards by the primary's ordinal."""
    order = sorted(nodes, key=lambda n: (n.place.zone, n.place.node, n.endpoint.ordinal))
    groups = [order[index::shards] for index in range(shards)]
    primaries = _spread_primaries(groups)
    for hand, primary in zip(groups, primaries, strict=True):
        hand.sort(key=lambda n: (n is not primary, n.endpoint.ordinal))
    return sorted(groups, key=lambda hand: hand[0].endpoint.ordinal)


def _domain(place: Place) -> str:
    return place.zone or place.node


def _spread_primaries(groups: Sequence[Sequence[NodeView]]) -> list[NodeView]:
    """Choose one member a shard so that the most crowded domain has as few as can be.

    A zone with a majority of the primaries takes the cluster's quorum along when it fails.
    Bipartite matching of shards to domains with a rising capacity; the lowest ordinal first.
    """
    ranked = [sorted(hand, key=lambda n: n.endpoint.ordinal) for hand in groups]
    domains = {_domain(n.place) for hand in groups for n in hand}
    capacities = range(-(-len(groups) // len(domains)), len(groups) + 1)
    assigned = next(filter(None, (_assign_zones(ranked, domains, most) for most in capacities)))
    return [
        next(n for n in hand if _domain(n.place) == assigned[shard])
        for shard, hand in enumerate(ranked)
    ]


def _assign_zones(
    ranked: Sequence[Sequence[NodeView]], domains: set[str], capacity: int
) -> dict[int, str]:
    """Return the domain of each shard's primary; empty where the capacity is too small."""
    seats: dict[str, list[int]] = {domain: [] for domain in domains}
    if all(_assign_zone(shard, ranked, seats, capacity, set()) for shard in range(len(ranked))):
        return {shard: domain for domain, shards in seats.items() for shard in shards}
    return {}


def _assign_zone(
    shard: int,
    ranked: Sequence[Sequence[NodeView]],
    seats: dict[str, list[int]],
    capacity: int,
    tried: set[str],
) -> bool:
    """Find the shard a domain with a free seat, moving others along (Kuhn's augmenting path)."""
    for node in ranked[shard]:
        domain = _domain(node.place)
        if domain in tried:
            continue
        tried.add(domain)
        if len(seats[domain]) < capacity:
            seats[domain].append(shard)
            return True
        for other in list(seats[domain]):
            if _assign_zone(other, ranked, seats, capacity, tried):
                seats[domain].remove(other)
                seats[domain].append(shard)
                return True
    return False


def assign_roles(facts: Facts) -> Roles:
    """Decide roles in a cluster that has owners, changing as little as the counts allow."""
    drain = _choose_drains(facts)
    failovers: dict[NodeId, NodeId] = {}
    primaries: list[NodeId] = []
    for owner in facts.owners:
        if owner.node_id in drain:
            continue
        if facts.desired.stays(owner.endpoint.ordinal):
            primaries.append(owner.node_id)
        elif heir := _heir(facts, owner, primaries):
            failovers[owner.node_id] = heir.node_id
            primaries.append(heir.node_id)
        else:
            drain.append(owner.node_id)
    new = _choose_new(facts, primaries)
    primaries += new
    convert = _choose_converts(facts, primaries, set(failovers.values()))
    following = _Followers(facts, primaries, failovers, drain, convert).settle()
    ordinal = {n.node_id: n.endpoint.ordinal for n in facts.staying}
    return Roles(
        primaries=tuple(sorted(primaries, key=ordinal.__getitem__)),
        new=tuple(new),
        drain=tuple(drain),
        failovers=tuple(failovers.values()),
        convert=tuple(convert),
        following=following,
    )


def _choose_drains(facts: Facts) -> list[NodeId]:
    """Choose the owners to drain when there are more than wanted: leaving ones first."""
    surplus = len(facts.owners) - facts.desired.primaries
    if surplus <= 0:
        return []

    def cost(owner: NodeView) -> tuple[bool, bool, int, int]:
        stays = facts.desired.stays(owner.endpoint.ordinal)
        heir = not stays and _heir(facts, owner) is not None
        return (stays, heir, len(owner.slots), -owner.endpoint.ordinal)

    return [owner.node_id for owner in sorted(facts.owners, key=cost)[:surplus]]


def _heir(facts: Facts, owner: NodeView, primaries: Sequence[NodeId] = ()) -> NodeView | None:
    """Return the staying replica in sync that takes over, in the least crowded domain."""
    heirs = [
        n
        for n in facts.replicas_of(owner.node_id)
        if facts.desired.stays(n.endpoint.ordinal) and n.link_up
    ]
    crowd = Counter(_domain(facts.live[i].place) for i in primaries)
    return min(heirs, key=lambda n: (crowd[_domain(n.place)], n.endpoint.ordinal), default=None)


def _choose_new(facts: Facts, primaries: Sequence[NodeId]) -> list[NodeId]:
    """Choose slotless staying primaries to own slots, in the least crowded domains."""
    wanted = facts.desired.primaries - len(primaries)
    empty = [
        n for n in facts.staying if n.role is Role.PRIMARY and not n.slots and not n.is_isolated
    ]
    crowd = Counter(_domain(facts.live[i].place) for i in primaries)
    chosen: list[NodeId] = []
    while empty and len(chosen) < wanted:
        node = min(empty, key=lambda n: (crowd[_domain(n.place)], n.endpoint.ordinal))
        empty.remove(node)
        crowd[_domain(node.place)] += 1
        chosen.append(node.node_id)
    return chosen


def _choose_converts(facts: Facts, primaries: Sequence[NodeId], heirs: set[NodeId]) -> list[NodeId]:
    """Choose replicas to make into empty primaries; only where every pod is a member already."""
    wanted = facts.desired.primaries - len(primaries)
    if wanted <= 0 or any(n.is_isolated for n in facts.staying):
        return []
    counts = Counter(n.myself.primary_id for n in facts.staying if n.role is Role.REPLICA)
    crowd = Counter(_domain(facts.live[i].place) for i in primaries)
    chosen: list[NodeId] = []

    def worth(node: NodeView) -> tuple[int, int, int]:
        return (
            counts[node.myself.primary_id],
            -crowd[_domain(node.place)],
            node.endpoint.ordinal,
        )

    replicas = [
        n
        for n in facts.staying
        if n.role is Role.REPLICA and n.node_id not in heirs and n.node_id not in primaries
    ]
    while replicas and len(chosen) < wanted:
        node = max(replicas, key=worth)
        replicas.remove(node)
        counts[node.myself.primary_id] -= 1
        crowd[_domain(node.place)] += 1
        chosen.append(node.node_id)
    return chosen


class _Followers:
    """Works out who replicates whom; keeps what is right, then fills, levels and separates."""

    def __init__(
        self,
        facts: Facts,
        primaries: Sequence[NodeId],
        failovers: Mapping[NodeId, NodeId],
        drain: Sequence[NodeId],
        convert: Sequence[NodeId],
    ) -> None:
        self.facts = facts
        self.shards: dict[NodeId, list[NodeView]] = {primary: [] for primary in primaries}
        self.least = facts.desired.replicas
        self.most = -(-(facts.desired.nodes - facts.desired.primaries) // facts.desired.primaries)
        self.free: list[NodeView] = []
        taken = {*primaries, *convert, *drain}
        for node in facts.staying:
            if node.node_id in taken or node.is_isolated:
                continue
            primary = node.myself.primary_id if node.role is Role.REPLICA else None
            if primary is not None:
                primary = failovers.get(primary, primary)
            if primary is not None and primary in self.shards:
                self.shards[primary].append(node)
            elif primary not in drain:
                self.free.append(node)

    def settle(self) -> dict[NodeId, NodeId]:
        """Return the primary of each follower."""
        if not self.shards:
            return {}
        self._trim()
        for node in sorted(self.free, key=lambda n: n.endpoint.ordinal):
            self._place(node)
        self._separate()
        return {n.node_id: shard for shard, nodes in self.shards.items() for n in nodes}

    def _trim(self) -> None:
        """Free replicas of shards that have too many, as far as others lack some."""
        for shard, nodes in self.shards.items():
            while len(nodes) > self.most or (len(nodes) > self.least and self._lacking()):
                worst = max(nodes, key=lambda n: (self._conflicts(n, shard), n.endpoint.ordinal))
                nodes.remove(worst)
                self.free.append(worst)

    def _lacking(self) -> bool:
        missing_rule = sum(max(0, self.least - len(nodes)) for nodes in self.shards.values())
        return missing_rule > len(self.free)

    def _place(self, node: NodeView) -> None:
        shard = min(
            self.shards,
            key=lambda s: (
                len(self.shards[s]) >= self.least,
                len(self.shards[s]) >= self.most,
                self._conflicts(node, s),
                len(self.shards[s]),
                self.facts.live[s].endpoint.ordinal,
            ),
        )
        self.shards[shard].append(node)

    def _conflicts(self, node: NodeView, shard: NodeId) -> int:
        """Count the members that share a zone, or a node (twice), with this node."""
        members = [self.facts.live[shard], *self.shards[shard]]
        return sum(_shared(node.place, m.place) for m in members if m.node_id != node.node_id)

    def _separate(self) -> None:
        """Swap followers between shards while that takes members of one domain apart."""
        improved = any(n.place != Place() for n in self.facts.staying)
        while improved:
            improved = any(
                self._conflicts(node, shard) and self._swap(node, shard)
                for shard in self.shards
                for node in tuple(self.shards[shard])
            )

    def _swap(self, node: NodeView, shard: NodeId) -> bool:
        for other_shard, others in self.shards.items():
            for other in others if other_shard != shard else ():
                before = self._conflicts(node, shard) + self._conflicts(other, other_shard)
                self._exchange(node, shard, other, other_shard)
                if self._conflicts(node, other_shard) + self._conflicts(other, shard) < before:
                    return True
                self._exchange(other, shard, node, other_shard)
        return False

    def _exchange(
        self, node: NodeView, shard: NodeId, other: NodeView, other_shard: NodeId
    ) -> None:
        self.shards[shard][self.shards[shard].index(node)] = other
        self.shards[other_shard][self.shards[other_shard].index(other)] = node


def _shared(one: Place, other: Place) -> int:
    zone = bool(one.zone) and one.zone == other.zone
    node = bool(one.node) and one.node == other.node
    return zone + 2 * node


def shared_domains_of(shards: Iterable[Sequence[NodeView]]) -> list[tuple[NodeView, NodeView]]:
    """Return pairs of one shard that share a zone or node; for reports, not for decisions."""
    pairs = []
    for members in shards:
        for index, one in enumerate(members):
            pairs += [
                (one, other) for other in members[index + 1 :] if _shared(one.place, other.place)
            ]
    return pairs
