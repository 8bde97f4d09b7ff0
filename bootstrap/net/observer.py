"""Asks every node at once what it sees, and keeps what could not be asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core import key_holders, parsing
from ..core.slots import SlotSet
from ..core.topology import Absent, ClusterView, Endpoint, NodeId, NodeView, Role
from ..errors import NodeNotReadyError, SettingsError, TransientError, WrongNameError
from . import databases
from .connection import COMMAND_TIMEOUT_S
from .discovery import DOUBT_FOR_S, Found
from .node_view import NodeReader
from .outsiders import Outsiders, silence_s
from .pool import DISCOVER_EVERY_S, ConnectionPool, rotated
from .replies import ReplyError, reading
from .transport import LIBRARIES_LIMIT

OBSERVED_AT_ONCE = 128
# A node may know members that are gone, of former sizes; more than this is no cluster of ours.
_MORE_MEMBERS = 1000


class Observer:
    """Asks every pod at once and turns the replies into views.

    Attributes:
        unanswered: Names of the pods that were asked and have not answered, also when observing
            was cancelled.
    """

    def __init__(
        self,
        *,
        pool: ConnectionPool,
        nodes: int | None = None,
        needs_config: bool = True,
        patience_s: float = COMMAND_TIMEOUT_S,
        doubt_for_s: float = DOUBT_FOR_S,
        outsiders: Outsiders | None = None,
    ) -> None:
        self._nodes = nodes
        self._pool = pool
        self._reader = NodeReader(needs_config=needs_config, patience_s=patience_s)
        self._outsiders = outsiders or Outsiders(is_tls=pool.access.tls is not None)
        self._found = Found(endpoints=(), absent=())
        self._found_at = -DISCOVER_EVERY_S
        self._is_sure = False
        self._silent: dict[str, float] = {}
        self._doubt_for_s = doubt_for_s
        self._doubted_at: float | None = None
        self._has_answers = False
        self._gate = asyncio.Semaphore(OBSERVED_AT_ONCE)
        self.unanswered: set[str] = set()

    async def observe(self, *, shards: bool = False) -> ClusterView:
        """Return what every pod says now; `shards` asks for CLUSTER SHARDS too (7.2).

        Raises:
            SettingsError: Credentials or settings are wrong for a pod; no retry fixes that.
        """
        await self._discover()
        endpoints = self._found.endpoints
        wanted = self._nodes or max(1, len(endpoints))
        self._reader.bound(4 * wanted + _MORE_MEMBERS)
        answers = await asyncio.gather(*(self._ask(e, shards=shards) for e in endpoints))
        nodes = [answer for answer in answers if isinstance(answer, NodeView)]
        absent = [answer for answer in answers if isinstance(answer, Absent)]
        self._has_answers |= bool(nodes)
        pairs = zip(endpoints, answers, strict=True)
        absent += self._misnamed([(e, a) for e, a in pairs if isinstance(a, WrongNameError)])
        now = time.monotonic()
        silent = [each.name for each in absent if each.phase == "connect"]
        self._silent = {name: self._silent.get(name, now) for name in silent}
        absent += self._found.absent
        self._is_sure = not absent
        view = ClusterView(
            nodes=await self._with_functions(nodes),
            absent=tuple(absent),
            restarting=self._restarting(nodes),
        )
        if any(self._nodes is None or a.ordinal < self._nodes for a in absent):
            self._outsiders.forget_silence()
            return view
        outsiders, waiting = await self._outsiders.find(nodes, endpoints, most=2 * wanted)
        return replace(view, outsiders=tuple(outsiders), absent=(*view.absent, *waiting))

    async def count_keys(self, view: ClusterView, slots: tuple[int, ...]) -> ClusterView:
        """Return the view with the number of keys that each node with keys has of these slots."""

        async def ask(node: NodeView) -> tuple[Mapping[int, int], int]:
            client, hidden = self._pool.client(node.name), 0
            with reading(node.name, "CLUSTER COUNTKEYSINSLOT"):
                occupied = await databases.occupied(client, node)
                counts = await databases.count_keys(client, slots, occupied, timeout_s=60.0)
                if key_holders.hides_unowned_keys(node) and node.role is Role.PRIMARY:
                    shown = tuple(node.slots | SlotSet.of(node.importing))
                    hidden = await databases.count_stray_keys(client, node, shown)
            return {slot: count for slot, count in counts.items() if count}, hidden

        holders = [node for node in view.nodes if node.keys and node.name in self._pool]
        answers = await asyncio.gather(*map(ask, holders))
        return replace(
            view,
            slot_keys={n.node_id: counts for n, (counts, _) in zip(holders, answers, strict=True)},
            stray_keys={n.node_id: hidden for n, (_, hidden) in zip(holders, answers, strict=True)},
        )

    async def count_stray_keys(self, view: ClusterView, nodes: tuple[NodeId, ...]) -> ClusterView:
        """Return the view with the number of these nodes' keys of slots that are not theirs."""

        async def ask(node: NodeView) -> tuple[NodeId, int]:
            client = self._pool.client(node.name)
            return node.node_id, await databases.count_stray_keys(client, node, tuple(node.slots))

        asked = [node for node in view.nodes if node.node_id in nodes and node.name in self._pool]
        counts = dict(await asyncio.gather(*map(ask, asked)))
        return replace(view, stray_keys={**view.stray_keys, **counts})

    async def _discover(self) -> None:
        """Ask the name servers again while a pod is missing, and otherwise every few seconds."""
        now = time.monotonic()
        if self._is_sure and now - self._found_at < DISCOVER_EVERY_S:
            return
        self._found = self._with_answering(await self._pool.find(self._silent))
        self._found_at = now
        await self._pool.update(self._found.endpoints)

    def _with_answering(self, found: Found) -> Found:
        """Keep pods that DNS does not name now, but whose connection is open.

        An answer is a hint that a connection confirms; name servers may be down in mid-run.
        """
        lost = {absent.name for absent in found.absent}
        kept = {
            endpoint.name: endpoint
            for endpoint in self._found.endpoints
            if endpoint.name in lost and self._pool.client(endpoint.name).is_connected
        }
        endpoints = sorted((*found.endpoints, *kept.values()), key=lambda each: each.ordinal)
        absent = tuple(a for a in found.absent if a.name not in kept)
        return Found(endpoints=tuple(endpoints), absent=absent)

    def _restarting(self, nodes: Sequence[NodeView]) -> frozenset[str]:
        """Return the silent pods that may be restarting."""
        now, limit_s = time.monotonic(), silence_s(nodes)
        return frozenset(name for name, since in self._silent.items() if now - since < limit_s)

    def _misnamed(self, errors: Sequence[tuple[Endpoint, WrongNameError]]) -> list[Absent]:
        """Treat pods whose certificate has another name as missing, as long as caches last.

        Where pods come back on new addresses, the old one of a pod can be the new one of another,
        and a cache still has the record. No pod that answers, or a name that stays wrong, is a
        certificate that somebody has to replace.
        """
        if not errors:
            self._doubted_at = None
            return []
        now = time.monotonic()
        self._doubted_at = now if self._doubted_at is None else self._doubted_at
        if not self._has_answers or now - self._doubted_at >= self._doubt_for_s:
            error = errors[0][1]
            raise SettingsError(node=error.node, cause=error.cause, remedy=error.remedy)
        return [_absent(endpoint, "connect", error.cause) for endpoint, error in errors]

    async def _ask(self, endpoint: Endpoint, *, shards: bool) -> NodeView | Absent | WrongNameError:
        self.unanswered.add(endpoint.name)
        client = self._pool.client(endpoint.name)
        endpoint = rotated(endpoint, client.ip)
        answer: NodeView | Absent | WrongNameError
        try:
            async with self._gate:
                answer = await self._reader.read(endpoint, client, shards=shards)
        except ReplyError as error:
            if "unknown command" in error.message:
                raise
            answer = _absent(endpoint, "command", error.message)
        except NodeNotReadyError as error:
            answer = _absent(endpoint, "serve", error.cause)
        except WrongNameError as error:
            self._pool.use_next_address(endpoint)
            answer = error
        except TransientError as error:
            self._pool.use_next_address(endpoint)
            answer = _absent(endpoint, "connect", error.cause)
        self.unanswered.discard(endpoint.name)
        return answer

    async def _with_functions(self, nodes: Sequence[NodeView]) -> tuple[NodeView, ...]:
        """Return the views, with digests of function libraries where a new primary has some."""
        holders = [n for n in nodes if n.libraries and n.role is Role.PRIMARY]
        holders = [n for n in holders if n.name in self._pool]

        async def ask(node: NodeView) -> NodeView:
            if node not in holders:
                return node
            client = self._pool.client(node.name)
            try:
                reply = await client.call("FUNCTION", "LIST", "WITHCODE", limit=LIBRARIES_LIMIT)
            except (ReplyError, TransientError):
                return node
            with reading(node.name, "FUNCTION LIST"):
                return replace(node, functions=parsing.parse_functions(reply))

        if all(n.slots for n in holders) or not any(n.slots for n in holders):
            return tuple(nodes)
        return tuple(await asyncio.gather(*map(ask, nodes)))


def _absent(endpoint: Endpoint, phase: str, cause: str) -> Absent:
    return Absent(
        name=endpoint.name,
        ordinal=endpoint.ordinal,
        phase=phase,
        cause=cause,
        address=endpoint.addresses[0],
    )
