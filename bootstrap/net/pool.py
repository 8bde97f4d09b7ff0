"""Connections to the pods that DNS names; no other server is sent a password.

Rules: a connection belongs to a pod that discovery named and to one of the addresses that its name
has (`announced` has the one exception); once the name has other addresses it is closed. Only this
module makes a `RedisNode`, so credentials go to no other address; `outsiders` shows none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from ..core.topology import Endpoint
from .connection import Access, RedisNode


class ConnectionPool:
    """Keeps one connection to every pod that discovery named."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._clients: dict[str, RedisNode] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._clients

    def client(self, name: str) -> RedisNode:
        """Return the shared connection to a pod."""
        return self._clients[name]

    def open(self, endpoint: Endpoint) -> RedisNode:
        """Return one more connection to a pod; the caller closes it."""
        return RedisNode(
            name=endpoint.name,
            host=endpoint.host,
            ip=endpoint.addresses[0],
            port=endpoint.port,
            access=self.access,
        )

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
