"""Which primary each replica follows.

Rules: replicas that are right stay where they are; then every primary gets the wanted number, then
the surplus is spread evenly, then replicas are swapped where that takes members of a shard out of
one failure domain.

Invariant: no swap is made unless it reduces the number of shared domains, so swapping ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .facts import Facts
from .topology import NodeId, NodeView, Place


def place_replicas(
    facts: Facts,
    *,
    primaries: Sequence[NodeId],
    successors: Mapping[NodeId, NodeId],
    drained: Sequence[NodeId],
    converted: Sequence[NodeId],
    preferred: Mapping[NodeId, NodeId],
) -> dict[NodeId, NodeId]:
    """Return the primary of each staying member that is to be a replica, where that is settled.

    Replicas of a drained owner are left out: they keep a copy of its keys until it is empty.

    Args:
        facts: What is known of the cluster.
        primaries: See `Roles.primaries`.
        successors: By the owner that leaves, the replica that takes its place.
        drained: See `Roles.drain`.
        converted: See `Roles.convert`.
        preferred: By the node, the primary to choose among those that are as good.
    """
    shards: dict[NodeId, list[NodeView]] = {primary: [] for primary in primaries}
    taken = {*primaries, *converted, *drained}
    free = []
    for node in facts.staying:
        if node.node_id in taken or node.is_isolated:
            continue
        primary = successors.get(node.shard_primary, node.shard_primary)
        if primary in shards:
            shards[primary].append(node)
        elif node.shard_primary not in drained:
            free.append(node)
    return _Placement(facts, shards, free, preferred).place_all() if shards else {}


class _Placement:
    """The replicas of each shard while they are being placed, and those that have none."""

    def __init__(
        self,
        facts: Facts,
        shards: dict[NodeId, list[NodeView]],
        free: list[NodeView],
        preferred: Mapping[NodeId, NodeId],
    ) -> None:
        self._facts, self._shards, self._free, self._preferred = facts, shards, free, preferred
        self._least, self._most = facts.desired.replicas, facts.desired.most_replicas

    def place_all(self) -> dict[NodeId, NodeId]:
        """Return the primary of each replica."""
        self._free_surplus()
        for node in sorted(self._free, key=lambda n: n.ordinal):
            shard = min(self._shards, key=lambda shard: self._cost(node, shard))
            self._shards[shard].append(node)
        self._separate()
        return {n.node_id: shard for shard, nodes in self._shards.items() for n in nodes}

    def _free_surplus(self) -> None:
        """Free replicas of shards that have too many, as far as other shards lack some."""
        for shard, nodes in self._shards.items():
            while len(nodes) > self._most or (len(nodes) > self._least and self._is_lacking()):
                worst = max(nodes, key=lambda n: (self._conflicts(n, shard), n.ordinal))
                nodes.remove(worst)
                self._free.append(worst)

    def _is_lacking(self) -> bool:
        """Return whether the free nodes are too few to give every primary its replicas."""
        lacking = sum(max(0, self._least - len(nodes)) for nodes in self._shards.values())
        return lacking > len(self._free)

    def _cost(self, node: NodeView, shard: NodeId) -> tuple[bool, bool, int, bool, int, int]:
        count, ordinal = len(self._shards[shard]), self._facts.live[shard].ordinal
        is_other = self._preferred.get(node.node_id) != shard
        conflicts = self._conflicts(node, shard)
        return (count >= self._least, count >= self._most, conflicts, is_other, count, ordinal)

    def _conflicts(self, node: NodeView, shard: NodeId) -> int:
        """Return how much a node shares of its place with the other members of a shard."""
        members = [self._facts.live[shard], *self._shards[shard]]
        return sum(node.place.overlap(m.place) for m in members if m.node_id != node.node_id)

    def _separate(self) -> None:
        """Swap replicas between shards while that takes members of one domain apart."""
        improved = any(n.place != Place() for n in self._facts.staying)
        while improved:
            improved = any(
                self._conflicts(node, shard) and self._swap(node, shard)
                for shard in self._shards
                for node in tuple(self._shards[shard])
            )

    def _swap(self, node: NodeView, shard: NodeId) -> bool:
        for other_shard, others in self._shards.items():
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
        self._shards[shard][self._shards[shard].index(node)] = other
        self._shards[other_shard][self._shards[other_shard].index(other)] = node
