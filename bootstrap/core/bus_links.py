"""What is new between observations, and which pods have had no bus link for too long.

Rules: it decides nothing, it is for people. A handshake between live nodes takes two ticks of
100 ms; one that stays open for seconds means that the bus port is blocked between the two, and
redis-cli waits for it forever (redis/redis#13268).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .facts import Facts
from .findings import Finding
from .topology import ClusterView, DesiredTopology, NodeId, NodeView

BLOCKED_AFTER_S = 3.0
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedLinks:
    """Pairs of nodes that do not reach each other's bus port.

    Attributes:
        node: The pod behind the most named bus port.
    """

    node: str
    detail: str


@dataclass(slots=True)
class BusLinks:
    """Remembers when things were first seen; times are seconds of any steady clock."""

    _known: frozenset[Finding] = frozenset()
    _since: dict[tuple[NodeId, NodeId], float] = field(default_factory=dict)
    _names: dict[tuple[NodeId, NodeId], tuple[NodeView, NodeView]] = field(default_factory=dict)
    _warned: bool = False
    _now: float = 0.0
    _started: float | None = None

    def news(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return the findings of a kind and pod that the last observation did not have."""
        seen = {(f.code, f.node) for f in self._known}
        self._known = frozenset(findings)
        return [f for f in findings if (f.code, f.node) not in seen]

    def waited_s(self, now: float) -> int:
        """Return for how many seconds observations have been made."""
        self._started = now if self._started is None else self._started
        return round(now - self._started)

    def blocked(
        self, view: ClusterView, desired: DesiredTopology, now: float
    ) -> Iterator[BlockedLinks]:
        """Take note of the pairs without a link; yield them once that lasted too long."""
        unlinked = {(a.node_id, b.node_id): (a, b) for a, b in _unlinked(Facts(view, desired))}
        self._now = now
        self._since = {pair: self._since.get(pair, now) for pair in unlinked}
        self._names = unlinked
        worst = self.worst()
        if worst and not self._warned:
            self._warned = True
            yield worst

    def worst(self) -> BlockedLinks | None:
        """Return the pairs that had no link for `BLOCKED_AFTER_S` at the last observation."""
        pairs = [p for p, since in self._since.items() if self._now - since >= BLOCKED_AFTER_S]
        if not pairs:
            return None
        named = [self._names[pair] for pair in pairs]
        few = ", ".join(
            f"{a.name} to {b.name} ({b.address.ip} port {b.address.cport})"
            for a, b in named[:_NAMED]
        )
        more = f" and {len(named) - _NAMED} more pairs" if len(named) > _NAMED else ""
        return BlockedLinks(
            node=named[0][1].name, detail=f"no connection on the bus from {few}{more}"
        )


def _unlinked(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where a shakes groups with b, or knows b, but has no link to it."""
    by_address = {n.address: n for n in facts.live.values()}
    for node in facts.live.values():
        for address in node.handshakes:
            other = by_address.get(address)
            if other is not None and other.node_id not in node.known:
                yield node, other
        if node.known != facts.truth:
            for node_id, other in facts.live.items():
                line = node.known.get(node_id)
                if line is not None and not line.link_up:
                    yield node, other
