"""Connections to the pods that DNS names; no other server is sent a password.

Rules: a connection belongs to a pod that discovery named and to one of the addresses that its name
has (`announced` has the one exception); once the name has other addresses it is closed. A new one
is made only to an address that discovery gave within the last seconds, and discovery is asked once
more before one that has ended is made again, also in the middle of a plan: the pod may be gone, and
its address another process's. Only this module makes a `RedisNode`, so credentials go to no other
address; `outsiders` shows none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial

from ..core.topology import Endpoint
from ..errors import DiscoveryError, NodeUnreachableError
from .connection import Access, Check, RedisNode
from .discovery import Discovery, Found
from .replies import RETRIED, stale_view

DISCOVER_EVERY_S = 3.0


class ConnectionPool:
    """Keeps one connection to every pod that discovery named."""

    def __init__(self, access: Access, discovery: Discovery) -> None:
        self.access = access
        self._clients: dict[str, RedisNode] = {}
        self._discovery = discovery
        self._silent: set[str] = set()
        self._found = Found(endpoints=(), absent=())
        self._found_at = -DISCOVER_EVERY_S
        self._asking = asyncio.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._clients

    def client(self, name: str) -> RedisNode:
        """Return the shared connection to a pod."""
        return self._clients[name]

    async def find(self, silent: Collection[str]) -> Found:
        """Return what discovery knows now; `silent` as in `Discovery.find`."""
        async with self._asking:
            self._silent = set(silent)
            return await self._find()

    def open(self, endpoint: Endpoint, *, is_proven: bool = False) -> RedisNode:
        """Return one more connection to a pod, at its first address; the caller closes it.

        It is made, and made again, only while discovery gives that address for the pod; with
        `is_proven` also where it does not, since TLS proves the pod's name.
        """
        return self._node(endpoint, None if is_proven else partial(self._check, endpoint))

    def open_once(self, endpoint: Endpoint) -> RedisNode:
        """Return one more connection to a pod, which is not made again once it has ended."""

        async def check(was_connected: bool) -> None:  # noqa: FBT001 - as `Check`
            if was_connected:
                raise NodeUnreachableError(
                    node=endpoint.name,
                    cause=f"the connection to {endpoint.name} has ended",
                    remedy=f"see the log of the pod; {RETRIED}",
                )
            await self._check(endpoint, was_connected)

        return self._node(endpoint, check)

    def _node(self, endpoint: Endpoint, check: Check | None) -> RedisNode:
        return RedisNode(
            name=endpoint.name,
            host=endpoint.host,
            ip=endpoint.addresses[0],
            port=endpoint.port,
            access=self.access,
            check=check,
        )

    async def _check(self, endpoint: Endpoint, was_connected: bool) -> None:  # noqa: FBT001 - as `Check`
        """Make sure that discovery gives an address for a pod: now, or lately where it is new.

        Raises:
            StaleViewError: It gives other addresses.
            DiscoveryError: It gives none.
        """
        asked_at = time.monotonic() if was_connected else time.monotonic() - DISCOVER_EVERY_S
        async with self._asking:
            if was_connected:
                self._silent.add(endpoint.name)
            # Of connections that ended together the first one asks for all.
            found = self._found if self._found_at >= asked_at else await self._find()
        ip, ordinal = endpoint.addresses[0], endpoint.ordinal
        named = next((each for each in found.endpoints if each.ordinal == ordinal), None)
        if named is None:
            absent = next((each for each in found.absent if each.ordinal == ordinal), None)
            raise DiscoveryError(
                node=endpoint.name,
                cause=f"{endpoint.name} is not asked at {ip}, since DNS does not name it: "
                + (absent.cause if absent else "it has no address"),
                remedy=(absent.remedy if absent else "") or RETRIED,
            )
        if ip not in named.addresses:
            raise stale_view(endpoint.name, f"is not asked at {ip}: DNS gives another address now")

    async def _find(self) -> Found:
        began = time.monotonic()
        self._found = await self._discovery.find(frozenset(self._silent))
        self._found_at = began
        return self._found

    async def update(self, endpoints: Iterable[Endpoint]) -> None:
        """Connect to these pods only, each at one of its present addresses."""
        current = {endpoint.name: endpoint for endpoint in endpoints}
        for name, client in list(self._clients.items()):
            endpoint = current.get(name)
            if endpoint is None or client.ip not in endpoint.addresses:
                await self._clients.pop(name).close()
        for name, endpoint in current.items():
            if name not in self._clients:
                self._clients[name] = self.open(endpoint)

    def use_next_address(self, endpoint: Endpoint) -> None:
        """Connect to a pod at the next of its addresses from now on.

        For a while a name can have the address of the former pod beside the present one.
        """
        if len(endpoint.addresses) > 1:
            self._clients[endpoint.name] = self.open(rotated(endpoint, endpoint.addresses[1]))

    async def close(self) -> None:
        """Close every shared connection."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))


def rotated(endpoint: Endpoint, ip: str) -> Endpoint:
    """Return the endpoint with its addresses in the same order, beginning at this one."""
    at = endpoint.addresses.index(ip)
    return replace(endpoint, addresses=endpoint.addresses[at:] + endpoint.addresses[:at])
