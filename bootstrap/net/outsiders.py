"""Asks addresses that no pod has, without credentials.

The cluster bus has no authentication: whoever reaches it can become a member and announce any
address as its own. So an address that only gossip names receives neither a password nor a command
that changes anything; `pool` connects only to the pods that discovery named. `CLUSTER MYID` shows
who answers where no password is set; with one, or under TLS, all that can be known is that
something answers.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..core.facts import is_linked
from ..core.findings import counted
from ..core.topology import Absent, Address, Endpoint, NodeId, NodeView, Outsider
from . import protocol_probe

REDIAL_S = 5.0
DIAL_TIMEOUT_S = 1.5
# Members flag a node that is dead within one and a half times the node timeout; one that keeps its
# bus links for longer than that lives, also where nothing answers at its client port.
_SILENT_TIMEOUTS = 1.5
_SILENT_MORE_S = 5.0
_NODE_ID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an address answered: who it is, where it says so, or that it loads its data."""

    node_id: NodeId | None = None
    is_loading: bool = False


@dataclass(slots=True, kw_only=True)
class Outsiders:
    """Finds out which members are live processes but not one of the configured pods."""

    is_tls: bool
    _asked: dict[tuple[NodeId, Address], float] = field(default_factory=dict)
    _pods: dict[str, NodeId] = field(default_factory=dict)
    _linked_since: dict[NodeId, float] = field(default_factory=dict)

    def forget_silence(self) -> None:
        """Start again to measure for how long members give no answer: pods are missing."""
        self._linked_since.clear()

    async def find(
        self, nodes: Sequence[NodeView], endpoints: Sequence[Endpoint], *, most: int
    ) -> tuple[list[Outsider], list[Absent]]:
        """Return the members that answer outside of the pods, and those that cannot say yet.

        `most` addresses are asked in this pass, the others in the next ones.
        """
        self._pods |= {node.name: node.node_id for node in nodes}
        unknown = self._unknown(nodes, endpoints)
        now = time.monotonic()
        self._asked = {pair: at for pair, at in self._asked.items() if pair in unknown}
        due = [pair for pair in unknown if now - self._asked.get(pair, -REDIAL_S) >= REDIAL_S]
        due.sort(key=lambda pair: self._asked.get(pair, -REDIAL_S))
        asked = due[:most]
        answers = await asyncio.gather(*(ask(address, is_tls=self.is_tls) for _, address in asked))
        found, waiting = [], []
        for (node_id, address), answer in zip(asked, answers, strict=True):
            if answer is None or answer.node_id not in {None, node_id}:
                self._asked[node_id, address] = now
            elif answer.is_loading:
                waiting.append(_absent(address, "is loading its data"))
            else:
                is_verified = answer.node_id is not None
                found.append(Outsider(node_id=node_id, address=address, is_verified=is_verified))
        left = [unknown[pair] for pair in due[most:] if pair not in self._asked]
        waiting += [_left(name, count) for name, count in sorted(Counter(left).items())]
        named = {outsider.node_id for outsider in found}
        names = {node.name for node in nodes}
        absent = {ip for e in endpoints if e.name not in names for ip in e.addresses}
        silent = self._silent(nodes, now)
        found += [o for o in silent if o.node_id not in named and o.address.ip not in absent]
        return found, waiting

    def _silent(self, nodes: Sequence[NodeView], now: float) -> list[Outsider]:
        """Return the members that have kept a bus link for too long to be dead or absent pods.

        Their client port is closed or silent, or is that of a pod.
        """
        linked = {
            node_id: line.address
            for node in nodes
            for node_id, line in node.known.items()
            if node_id not in self._pods.values() and is_linked(line)
        }
        self._linked_since = {i: self._linked_since.get(i, now) for i in linked}
        since = now - silence_s(nodes)
        return [
            Outsider(node_id=node_id, address=address, is_verified=False)
            for node_id, address in linked.items()
            if self._linked_since[node_id] <= since
        ]

    def _unknown(
        self, nodes: Sequence[NodeView], endpoints: Iterable[Endpoint]
    ) -> dict[tuple[NodeId, Address], str]:
        """Return members by id and address, without those whose id or address is a pod's.

        The value is the pod that reports it, the one that knows the fewest of several.

        A pod that does not answer at this moment is still that pod: replies of one pass are taken
        at different moments, and a primary that was just emptied restarts as a replica
        (redis/redis#9223). The id of a pod that answers is asked for where a member has a link to
        it at an address that no pod has: the volume may be a copy.
        """
        pods = {node.node_id for node in nodes}
        ids = {*self._pods.values(), *pods}
        ips = {ip for endpoint in endpoints for ip in endpoint.addresses}
        ips |= {node.address.ip for node in nodes}
        # Later ones replace earlier ones: whoever makes members up knows more than the others.
        return {
            (node_id, line.address): node.name
            for node in sorted(nodes, key=lambda each: len(each.known), reverse=True)
            for node_id, line in node.known.items()
            if line.address.ip and line.address.ip not in ips
            if node_id not in ids or (node_id in pods - {node.node_id} and is_linked(line))
        }


def silence_s(nodes: Sequence[NodeView]) -> float:
    """Return for how long a member may be silent before it is taken for dead, or for apart."""
    timeout_s = max((node.node_timeout_s for node in nodes), default=0.0)
    return timeout_s * _SILENT_TIMEOUTS + _SILENT_MORE_S


async def ask(address: Address, *, is_tls: bool) -> Answer | None:
    """Return what answers at an address; None where nothing does.

    Under TLS nothing but a handshake is sent, and no client certificate.
    """
    if is_tls:
        return Answer() if await protocol_probe.answers_tls(address.ip, address.port) else None
    words = await protocol_probe.ask(
        address.ip, address.port, "CLUSTER MYID", timeout_s=DIAL_TIMEOUT_S
    )
    if not words:
        return None
    return Answer(
        node_id=NodeId(words) if _NODE_ID.fullmatch(words) else None,
        is_loading=words.startswith("-LOADING"),
    )


def _left(name: str, count: int) -> Absent:
    """Return one cause for all members that a pod reports and that were not asked yet."""
    return Absent(
        name=name,
        ordinal=-1,
        phase="serve",
        cause=f"{name} reports {counted(count, 'member')} that {'was' if count == 1 else 'were'} "
        "not asked yet, at addresses that no pod has",
    )


def _absent(address: Address, cause: str) -> Absent:
    return Absent(
        name=str(address),
        ordinal=-1,
        phase="serve",
        cause=f"the member at {address} {cause}",
        address=address.ip,
    )
