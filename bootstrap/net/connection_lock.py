"""One run at a time, without a key, RBAC or a timeout to choose.

A key cannot be written before slots are owned, a Lease needs RBAC. So each run names its
connection to an agreed node (`ClusterView.lock_node`: the lowest pod that answered), and the oldest
named connection (the lowest client id) of our own ACL user has the lock; any user may name its
connections, so those of others do not count. The lock ends with its connection. Where it fails, as
when two runs see different nodes, no harm is done: every step can be repeated and refuses what
another run has changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..core.parsing import ParseError, number, printable
from .connection import RedisNode
from .replies import reading, text
from .transport import LISTING_LIMIT

PREFIX = "redis-cluster-bootstrap:"
SILENT_AFTER_S = 20
# Lines are picked before they are decoded: a server may have ten thousand clients. The lines of
# runs are short and few, so longer ones are not read, and more of them are an error.
_NAMED = b" name=" + PREFIX.encode()
_LONGEST_LINE = 4096
_MOST_FIELDS = 100
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
    named = list(_lines_of_runs(listing))
    own = _line_of(own_id, listing)
    user = _fields(own).get("user") if own else None
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


def _lines_of_runs(listing: bytes) -> Iterator[bytes]:
    """Yield the lines with the name of a run.

    The name is searched for, and each line passed once: a peer that sends millions of line ends, or
    of names in one line, costs no more time than an honest server.
    """
    count = end = 0
    while (at := listing.find(_NAMED, end)) >= 0:
        line, end = _line_at(listing, at)
        if line is not None:
            count += 1
            if count > _MOST_RUNS:
                raise ParseError(f"more than {_MOST_RUNS} connections have the name of a run")
            yield line


def _line_of(client_id: int, listing: bytes) -> bytes | None:
    words = b"id=%d " % client_id
    if listing.startswith(words):
        return _line_at(listing, 0)[0]
    at = listing.find(b"\n" + words)
    return _line_at(listing, at + 1)[0] if at >= 0 else None


def _line_at(listing: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the line around a place, None where it is too long, and where it ends."""
    end = listing.find(b"\n", at)
    end = len(listing) if end < 0 else end
    first = max(0, at - _LONGEST_LINE)
    start = listing.rfind(b"\n", first, at) + 1 or first
    is_whole = start == 0 or listing[start - 1 : start] == b"\n"
    return (listing[start:end] if is_whole and end - start <= _LONGEST_LINE else None), end


def _fields(line: bytes) -> dict[str, str]:
    words = line.decode("utf-8", "replace").split(" ", _MOST_FIELDS)
    fields = dict(word.partition("=")[::2] for word in words)
    if "id" not in fields:
        raise ParseError(f"not a line of CLIENT LIST: {line[:80]!r}")
    return fields
