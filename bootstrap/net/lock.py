"""One run at a time, without a key, RBAC or a time-out to choose.

A key cannot be written before slots are owned, a Lease needs RBAC. So each run names its
connection to an agreed node, and the oldest named connection (the lowest client id) has the lock.
It dies with its connection. Where it fails, as when two runs see different nodes, no harm is
done: every step can be repeated and refuses what another run has changed.
"""

from __future__ import annotations

from .connection import RedisNode, ReplyError, refused, text

PREFIX = "redis-cluster-bootstrap:"
SILENT_AFTER_S = 20


class ConnectionLock:
    """The lock as seen by one run; the node's connection is used for nothing else."""

    def __init__(self, node: RedisNode, *, run_id: str) -> None:
        self._node = node
        self._name = PREFIX + run_id
        self._is_named = False

    async def try_acquire(self) -> str | None:
        """Take the lock or look again; return None when we have it, else its holder.

        A holder whose connection was silent for `SILENT_AFTER_S` is taken for dead: a run asks
        for its lock before every pass, and a pod that lost power leaves its connection open.

        Raises:
            TransientError, CredentialsError: See `RedisNode.pipeline`.
            RefusedError: The node has no such command; it may have been renamed.
        """
        try:
            if not self._is_named or not self._node.is_connected:
                await self._node.call("CLIENT", "SETNAME", self._name)
                self._is_named = True
            own = int(text(await self._node.call("CLIENT", "ID")))
            holders = parse_clients(text(await self._node.call("CLIENT", "LIST")))
        except ReplyError as error:
            raise refused(self._node.name, "CLIENT", error) from error
        older = [name for client, name, idle in holders if client < own and idle < SILENT_AFTER_S]
        return older[0] if older else None

    async def release(self) -> None:
        """Close the connection, and the lock with it."""
        await self._node.close()


def parse_clients(reply: str) -> list[tuple[int, str, int]]:
    """Return (client id, name, idle seconds) of the named runs in a CLIENT LIST, oldest first."""
    clients = []
    for line in reply.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split(" "))
        if fields.get("name", "").startswith(PREFIX):
            clients.append((int(fields["id"]), fields["name"], int(fields.get("idle", 0))))
    return sorted(clients)
