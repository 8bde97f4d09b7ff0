"""Asks every node at once what it sees, and keeps what could not be asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core import wire
from ..core.topology import Absent, Address, ClusterView, Endpoint, NodeId, NodeView, Role
from ..errors import (
    BootstrapError,
    CredentialsError,
    InvariantError,
    NodeNotReadyError,
    TransientError,
)
from .connection import COMMAND_TIMEOUT_S, RedisNode, ReplyError, refused
from .discovery import Discovery, Found
from .node_view import read
from .pool import ConnectionPool, rotated

DISCOVER_EVERY_S = 3.0
REDIAL_S = 5.0
_DIAL_TIMEOUT_S = 1.5
LOOKS_AT_ONCE = 128
_CACHE_LINES = 200_000


class Observer:
    """Asks every pod at once and turns the replies into views.

    Attributes:
        unanswered: Names of the pods that were asked and have not answered, also when the look
            was cancelled.
    """

    def __init__(
        self,
        *,
        discovery: Discovery,
        pool: ConnectionPool,
        nodes: int | None = None,
        patience_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        """Prepare to ask.

        Args:
            discovery: Where the pods come from.
            pool: Where connections come from.
            nodes: How many are wanted; by default all that are found.
            patience_s: How long a pod may take for one answer.
        """
        self._nodes = nodes
        self._patience_s = patience_s
        self._discovery = discovery
        self._pool = pool
        self._commands: dict[str, frozenset[str]] = {}
        self._cache: wire.LineCache = {}
        self._found = Found(endpoints=(), absent=())
        self._found_at = -DISCOVER_EVERY_S
        self._is_sure = False
        self.unanswered: set[str] = set()
        self._silent: dict[tuple[NodeId, Address], float] = {}
        self._gate = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def observe(self, *, shards: bool = False) -> ClusterView:
        """Return what every pod says now.

        Args:
            shards: Ask for `CLUSTER SHARDS` too, where shard ids exist (7.2).

        Raises:
            SettingsError: Credentials or settings are wrong for a pod; no retry fixes that.
        """
        await self._discover()
        if len(self._cache) > _CACHE_LINES:
            self._cache.clear()
        looks = await asyncio.gather(
            *(self._ask(endpoint, shards=shards) for endpoint in self._found.endpoints)
        )
        nodes = [look for look in looks if isinstance(look, NodeView)]
        absent = [look for look in looks if isinstance(look, Absent)]
        absent += self._found.absent
        self._is_sure = not absent
        if not any(self._nodes is None or a.ordinal < self._nodes for a in absent):
            outside = await self._outsiders(nodes)
            nodes += [node for node in outside if isinstance(node, NodeView)]
            absent += [node for node in outside if isinstance(node, Absent)]
        return ClusterView(nodes=await self._with_functions(nodes), absent=tuple(absent))

    async def count_keys(self, view: ClusterView, slots: tuple[int, ...]) -> ClusterView:
        """Return the view with the number of keys that each node with keys has of these slots."""

        async def ask(node: NodeView) -> tuple[NodeId, Mapping[int, int]]:
            commands = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
            replies = await self._pool.client(node.name).pipeline(commands, timeout_s=60.0)
            counts = {
                slot: count
                for slot, count in zip(slots, replies, strict=True)
                if isinstance(count, int) and count
            }
            return node.node_id, counts

        holders = [node for node in view.nodes if node.keys and node.name in self._pool]
        pairs = await asyncio.gather(*(ask(node) for node in holders))
        return replace(view, slot_keys=dict(pairs))

    async def _discover(self) -> None:
        """Ask the name servers again while a pod is missing, and every few seconds else."""
        now = time.monotonic()
        if self._is_sure and now - self._found_at < DISCOVER_EVERY_S:
            return
        self._found = self._with_answering(await self._discovery.find())
        self._found_at = now
        await self._pool.update(self._found.endpoints)

    def _with_answering(self, found: Found) -> Found:
        """Keep pods that DNS does not tell now, but whose connection is open.

        An answer is a hint that a connection confirms; name servers may be down in mid-run.
        """
        lost = {absent.name for absent in found.absent}
        kept = [
            endpoint
            for endpoint in self._found.endpoints
            if endpoint.name in lost and self._pool.client(endpoint.name).is_connected
        ]
        names = {endpoint.name for endpoint in kept}
        endpoints = sorted((*found.endpoints, *kept), key=lambda endpoint: endpoint.ordinal)
        absent = tuple(a for a in found.absent if a.name not in names)
        return Found(endpoints=tuple(endpoints), absent=absent)

    async def _ask(self, endpoint: Endpoint, *, shards: bool) -> NodeView | Absent:
        self.unanswered.add(endpoint.name)
        answer = await self._look_at(endpoint, shards=shards)
        self.unanswered.discard(endpoint.name)
        return answer

    async def _look_at(self, endpoint: Endpoint, *, shards: bool) -> NodeView | Absent:
        client = self._pool.client(endpoint.name)
        endpoint = rotated(endpoint, client.ip)
        try:
            async with self._gate:
                return await self._view(endpoint, client, shards=shards)
        except wire.WireError as error:
            raise InvariantError(
                node=endpoint.name,
                cause=f"{endpoint.name} gave a reply that cannot be read: {error}",
                remedy="report it, with the server's version",
            ) from error
        except ReplyError as error:
            if "unknown command" in error.message:
                raise refused(endpoint.name, "a command that the program needs", error) from error
            return _absent(endpoint, "command", error.message)
        except NodeNotReadyError as error:
            return _absent(endpoint, "serve", error.cause)
        except TransientError as error:
            self._pool.use_next_address(endpoint)
            return _absent(endpoint, "connect", error.cause)

    async def _view(self, endpoint: Endpoint, client: RedisNode, *, shards: bool) -> NodeView:
        view = await read(
            endpoint,
            client,
            commands=self._commands.get(endpoint.name) if client.is_connected else None,
            shards=shards,
            cache=self._cache,
            patience_s=self._patience_s,
        )
        self._commands[endpoint.name] = view.commands
        return view

    async def _with_functions(self, nodes: Sequence[NodeView]) -> tuple[NodeView, ...]:
        """Return the views, with digests of function libraries where a new primary has some."""

        async def ask(node: NodeView) -> NodeView:
            if node not in holders:
                return node
            try:
                reply = await self._pool.client(node.name).call("FUNCTION", "LIST", "WITHCODE")
            except (ReplyError, TransientError, CredentialsError):
                return node
            return replace(node, functions=wire.parse_functions(reply))

        holders = [n for n in nodes if n.libraries and n.role is Role.PRIMARY]
        holders = [n for n in holders if n.name in self._pool]
        if all(n.slots for n in holders) or not any(n.slots for n in holders):
            return tuple(nodes)
        return tuple(await asyncio.gather(*map(ask, nodes)))

    async def _outsiders(self, nodes: list[NodeView]) -> list[NodeView | Absent]:
        """Return views of live members that are none of the pods, and those that cannot serve now.

        An id that no pod has may be gone, or may be a node that nobody named: only its own
        announced address can tell.
        """
        ids = {node.node_id for node in nodes}
        unknown: dict[NodeId, Address] = {}
        for node in nodes:
            for node_id in node.known.keys() - ids:
                if node.known[node_id].address.ip:
                    unknown[node_id] = node.known[node_id].address
        now = time.monotonic()
        due = {
            i: a
            for i, a in unknown.items()
            if now - self._silent.get((i, a), -REDIAL_S) >= REDIAL_S
        }
        answers = await asyncio.gather(*(self._dial(i, a) for i, a in due.items()))
        for pair, answer in zip(due.items(), answers, strict=True):
            if answer is None:
                self._silent[pair] = now
        return [answer for answer in answers if answer is not None]

    async def _dial(self, node_id: NodeId, address: Address) -> NodeView | Absent | None:
        """Ask an address for a member; None where nobody answers, or somebody else.

        Where we are not let in it may be anybody: only the members' links can tell.
        """
        endpoint = Endpoint(
            name=str(address),
            host=address.ip,
            ordinal=-1,
            addresses=(address.ip,),
            port=address.port,
        )
        client = self._pool.open(endpoint)
        try:
            async with asyncio.timeout(_DIAL_TIMEOUT_S):
                view = await self._view(endpoint, client, shards=False)
        except NodeNotReadyError as error:
            return _absent(endpoint, "serve", error.cause)
        except (BootstrapError, TimeoutError, ReplyError, wire.WireError):
            return None
        finally:
            await client.close()
        return view if view.node_id == node_id else None


def _absent(endpoint: Endpoint, phase: str, cause: str) -> Absent:
    return Absent(
        name=endpoint.name,
        ordinal=endpoint.ordinal,
        phase=phase,
        cause=cause,
        address=endpoint.addresses[0],
    )
