"""Which pods have had no bus link to each other for too long.

Rules: it decides nothing, it is for people. A handshake between live nodes takes two ticks of
100 ms; one that stays open for seconds means that the bus port is blocked between the two, and
redis-cli waits for it forever (redis/redis#13268).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .facts import Facts
from .findings import listed
from .topology import ClusterView, DesiredTopology, NodeId, NodeView

BLOCKED_AFTER_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedLinks:
    """Pairs of nodes that do not reach each other's bus port; `node` is the first such pod."""

    node: str
    detail: str


@dataclass(slots=True)
class BusLinks:
    """Remembers since when pairs have had no link; times are seconds of any steady clock."""

    _since: dict[tuple[NodeId, NodeId], float] = field(default_factory=dict)

    def blocked(
        self, view: ClusterView, desired: DesiredTopology, now: float
    ) -> BlockedLinks | None:
        """Take note of the pairs without a link; return those of `BLOCKED_AFTER_S` or longer."""
        pairs = {(a.node_id, b.node_id): (a, b) for a, b in _unlinked(Facts(view, desired))}
        self._since = {ids: self._since.get(ids, now) for ids in pairs}
        late = [pairs[i] for i, since in self._since.items() if now - since >= BLOCKED_AFTER_S]
        if not late:
            return None
        names = [f"{a.name} to {b.name} ({b.address.ip} port {b.address.cport})" for a, b in late]
        detail = f"no connection on the bus from {listed(names, ' more pairs')}"
        return BlockedLinks(node=late[0][1].name, detail=detail)


def _unlinked(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where a shakes hands with b, or knows b, but has no link to it."""
    by_address = {n.address: n for n in facts.live.values()}
    for node in facts.live.values():
        for address in node.handshakes:
            other = by_address.get(address)
            if other and other.node_id not in node.known:
                yield node, other
        if node.known != facts.truth:
            for node_id, other in facts.live.items():
                line = node.known.get(node_id)
                if line and not line.link_up:
                    yield node, other
