"""Asks the address that a node announces who answers there, before anybody is sent to it.

The address may be none that DNS names: outside of Kubernetes, or another process's. So it receives
credentials only where verified TLS proves that it has the pod's name. Without TLS it is asked
without them; where it wants a password before it says its id, the pod itself is asked whether it
received what was sent to the address.
"""

from __future__ import annotations

import secrets

from ..core.topology import Address, NodeId, NodeView, short_id
from ..errors import NodeUnreachableError, StaleViewError
from . import outsiders, protocol_probe
from .connection import RedisNode, reading, text
from .polling import retry
from .pool import ConnectionPool
from .transport import LISTING_LIMIT

_ARRIVES_IN_S = 1.5


async def identify(node: NodeView, pool: ConnectionPool) -> NodeId | None:
    """Return the id of the node at the address that a node announces; None where it hides it.

    Raises:
        NodeUnreachableError: Nothing answers there.
    """
    address = node.address
    is_named = address.ip in node.endpoint.addresses and address.port == node.endpoint.port
    if is_named or pool.access.tls is not None:
        other = pool.open_announced(node)
        try:
            with reading(other.name, "CLUSTER MYID"):
                return NodeId(text(await other.call("CLUSTER", "MYID")))
        finally:
            await other.close()
    answer = await outsiders.ask(address, is_tls=False)
    if answer is None:
        raise NodeUnreachableError(
            node=node.name,
            cause=f"nothing answers at {address}, which {node.name} announces",
            remedy=f"check cluster-announce-ip and -port of {node.name}, and that a NetworkPolicy "
            "lets this pod reach the address",
        )
    if answer.node_id is None and await _receives(pool.client(node.name), address):
        return node.node_id
    return answer.node_id


def describe(node_id: NodeId | None) -> str:
    """Return how an error names who answered."""
    return short_id(node_id) if node_id else "another server"


async def _receives(client: RedisNode, address: Address) -> bool:
    """Return whether what is sent to an address arrives at the process behind a connection.

    A command of random length without its end stays in the server's buffer for this client, and
    CLIENT LIST shows its size (`qbuf`). Address translation on the way does not matter.
    """
    size = 1024 + secrets.randbelow(8192)

    async def check() -> None:
        listing = await client.call("CLIENT", "LIST", limit=LISTING_LIMIT)
        if not isinstance(listing, bytes) or b" qbuf=%d " % size not in listing:
            raise StaleViewError(
                node=client.name,
                cause=f"{client.name} did not receive what was sent to {address}",
                remedy="check cluster-announce-ip and -port",
            )

    try:
        async with protocol_probe.connected(address.ip, address.port) as (_, writer):
            writer.write(b"x" * size)
            await retry(check, for_s=_ARRIVES_IN_S)
    except (StaleViewError, OSError):
        return False
    return True
