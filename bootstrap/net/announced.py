"""Asks the address that a node announces who answers there, before other servers are sent to it.

The address may be none that DNS names: outside of Kubernetes, or another process's. So it receives
credentials only where verified TLS proves that it has the pod's name. Without TLS it is asked
without them; where it wants a password before it says its id, the pod itself is asked whether it
received what was sent to the address.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from ..core.topology import Address, NodeId, NodeView, short_id
from ..errors import NodeUnreachableError, RefusedError, StaleViewError, WrongNameError
from . import outsiders, protocol_probe, server_ports
from .connection import RedisNode
from .polling import retry
from .pool import ConnectionPool
from .replies import reading, stale_view, text
from .transport import LISTING_LIMIT

_ARRIVES_IN_S = 1.5


async def check(node: NodeView, pool: ConnectionPool, known: Mapping[NodeId, NodeView]) -> None:
    """Make sure that a node to which others are sent is the one that was observed.

    Raises:
        StaleViewError: Its pod runs another node now.
        RefusedError: It announces an address where another server answers.
        NodeUnreachableError: Nothing answers there.
    """
    client, address = pool.client(node.name), node.address
    with reading(node.name, "CLUSTER MYID"):
        answer = text(await client.call("CLUSTER", "MYID"))
    if answer != node.node_id:
        raise stale_view(node.name, f"at {address} is another node now")
    # Servers go where the node announces itself, not where discovery found it.
    if (client.ip, client.port) == (address.ip, address.port):
        return
    # Before 7.2 CLUSTER NODES shows the port without TLS to a client with TLS, unless the servers
    # use TLS among themselves.
    ports = await server_ports.read(client)
    port = ports.port(tls=pool.access.tls is not None) if ports else 0
    address = replace(address, port=port or address.port)
    if (client.ip, client.port) == (address.ip, address.port):
        return
    found = await _identify(replace(node, address=address), pool)
    if found != node.node_id:
        other = "another server"
        if found:
            other = known[found].name if found in known else short_id(found)
        raise RefusedError(
            node=node.name,
            cause=f"{node.name} announces {node.address}, where {other} answers",
            remedy=f"set cluster-announce-ip and -port of {node.name} to an address of its own",
        )


async def _identify(node: NodeView, pool: ConnectionPool) -> NodeId | None:
    """Return the id of the node at the address that a node announces; None where it hides it.

    Raises:
        NodeUnreachableError: Nothing answers there.
    """
    address = node.address
    is_named = address.ip in node.endpoint.addresses and address.port == node.endpoint.port
    if is_named or pool.access.tls is not None:
        # Its credentials are safe there: DNS names the address too, or verified TLS proves that who
        # answers has the pod's name.
        name = f"{node.name} (announced as {address})"
        there = replace(node.endpoint, name=name, addresses=(address.ip,), port=address.port)
        other = pool.open(there, is_proven=not is_named)
        try:
            with reading(other.name, "CLUSTER MYID"):
                return NodeId(text(await other.call("CLUSTER", "MYID")))
        except WrongNameError:
            return None
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


async def _receives(client: RedisNode, address: Address) -> bool:
    """Return whether what is sent to an address arrives at the process behind a connection.

    A command of random length without its end stays in the server's buffer for this client, and
    CLIENT LIST shows its size (`qbuf`). Address translation on the way does not matter.
    """
    size = 1024 + secrets.randbelow(8192)

    async def check() -> None:
        listing = await client.call("CLIENT", "LIST", limit=LISTING_LIMIT)
        if not isinstance(listing, bytes) or b" qbuf=%d " % size not in listing:
            what = f"did not receive what was sent to {address}"
            raise stale_view(client.name, what, remedy="check cluster-announce-ip and -port")

    try:
        async with protocol_probe.connected(address.ip, address.port) as (_, writer):
            writer.write(b"x" * size)
            await retry(check, for_s=_ARRIVES_IN_S)
    except (StaleViewError, OSError):
        return False
    return True
