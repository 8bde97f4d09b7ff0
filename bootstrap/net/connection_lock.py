"""One run at a time, without a key, RBAC or a timeout to choose.

A key cannot be written before slots are owned, a Lease needs RBAC. So each run names its
connection to an agreed node (`ClusterView.lock_node`: the lowest pod that answered), and the oldest
named connection (the lowest client id) of our own ACL user has the lock; any user may name its
connections, so those of others do not count. The lock ends with its connection. Where it fails, as
when two runs see different nodes, no harm is done: every step can be repeated and refuses what
another run has changed.
"""

from __future__ import annotations

import re
from itertools import islice

from ..core.parsing import ParseError, number, printable
from .connection import RedisNode
from .replies import reading, text
from .transport import LISTING_LIMIT

PREFIX = "redis-cluster-bootstrap:"
SILENT_AFTER_S = 20
# Lines are picked before they are decoded: a server may have ten thousand clients. The lines of
# runs are short and few, so longer ones are not read, and more of them are an error.
_LINE = rb"^id=%d .{0,4096}$"
_NAMED = re.compile(rb"^.{0,4096} name=" + PREFIX.encode() + rb".{0,4096}$", re.MULTILINE)
_MOST_RUNS = 1000


class ConnectionLock:
    """The lock as seen by one run; the node's connection is used for nothing else.

    The node must not connect again (`ConnectionPool.open_once`): the lock ends with its
    connection.
    """

    def __init__(self, node: RedisNode, *, run_id: str) -> None:
        self._node = node
        self._name = PREFIX + run_id
        self._is_named = False

    @property
    def address(self) -> str | None:
        """Return the address of the lock's connection; None once that has ended."""
        return self._node.ip if self._node.is_connected else None

    async def try_acquire(self) -> str | None:
        """Take the lock; return None when this run has it, otherwise its holder.

        A holder whose connection was silent for `SILENT_AFTER_S` is taken for dead: a run asks
        for its lock before every pass, and a pod that lost power leaves its connection open.

        Raises:
            TransientError, CredentialsError: See `RedisNode.pipeline`.
            ReplyError: The node has no such command; it may have been renamed.
            InvariantError: A reply cannot be read.
        """
        if not self._is_named:
            await self._node.call("CLIENT", "SETNAME", self._name)
            self._is_named = True
        with reading(self._node.name, "CLIENT ID"):
            own_id = int(text(await self._node.call("CLIENT", "ID")))
        listing = await self._node.call("CLIENT", "LIST", limit=LISTING_LIMIT)
        with reading(self._node.name, "CLIENT LIST"):
            return holder(listing, own_id=own_id)

    async def release(self) -> None:
        """Close the connection, and the lock with it."""
        await self._node.close()


def holder(listing: object, *, own_id: int) -> str | None:
    """Return the name of the run that has the lock; None where it is the one that asks.

    Raises:
        ParseError: The reply to CLIENT LIST does not have the documented form.
    """
    if not isinstance(listing, bytes):
        raise ParseError("not a string")
    named = [line[0] for line in islice(_NAMED.finditer(listing), _MOST_RUNS + 1)]
    if len(named) > _MOST_RUNS:
        raise ParseError(f"more than {_MOST_RUNS} connections have the name of a run")
    own = re.search(_LINE % own_id, listing, re.MULTILINE)
    user = _fields(own[0]).get("user") if own else None
    older = [
        (client_id, client.get("name", ""))
        for client in map(_fields, named)
        # Client ids rise with every connection that a server accepts.
        if (client_id := number(client, "id")) < own_id
        and number(client, "idle") < SILENT_AFTER_S
        # A server that has no users shows none.
        and (not user or client.get("user") == user)
    ]
    return printable(min(older)[1]) if older else None


def _fields(line: bytes) -> dict[str, str]:
    words = line.decode("utf-8", "replace").split(" ")
    fields = dict(word.partition("=")[::2] for word in words)
    if "id" not in fields:
        raise ParseError(f"not a line of CLIENT LIST: {line[:80]!r}")
    return fields
