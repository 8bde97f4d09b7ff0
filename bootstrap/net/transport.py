"""redis-py's connection, with two additions: a verified name under TLS, and bounded replies.

Whatever a peer sends is counted as it arrives and read no further than its limit, so an endless
reply costs no more memory than a long one. The header of an array is checked before hiredis sees
it: hiredis makes a list of the announced length at once, and collecting garbage walks all of it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import exceptions
from redis._parsers import _AsyncHiredisParser
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECT_TIMEOUT_S = 3.0
_READ_SIZE = 65536
_LONGEST_HEADER = 24


@dataclass(frozen=True, slots=True)
class Limit:
    """What the replies to one pipeline may be.

    Attributes:
        size: How many bytes they have together at most.
        forbidden: Headers of arrays that they never have.
        is_first: The header is forbidden as the first one only: keys and values may look like one.
    """

    size: int
    forbidden: re.Pattern[bytes]
    is_first: bool


# For all replies to one pipeline together. hiredis makes up to 35 bytes of one byte that a peer
# sends (arrays of empty arrays) and two of a byte of a string; so both stay below 64 MiB.
REPLY_LIMIT = Limit(3 << 19, re.compile(rb"[*%~>|][0-9]{6,}\r\n"), is_first=False)
# One string. CLIENT LIST has about 350 bytes for each client.
LISTING_LIMIT = Limit(1 << 24, re.compile(rb"[*%~>|]"), is_first=True)
# Keys, values and function libraries.
DATA_LIMIT = Limit(24 << 20, re.compile(rb"[*%~>|][0-9]{7,}"), is_first=True)


class ReplyTooLongError(Exception):
    """A peer sent more bytes than a reply to this command can have."""


class _BoundedParser(_AsyncHiredisParser):
    """hiredis, fed until the limit only."""

    __slots__ = ("_limit", "_tail", "bytes_left")

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self.allow(REPLY_LIMIT)

    def allow(self, limit: Limit) -> None:
        self._limit = limit
        self.bytes_left = limit.size
        self._tail: bytes | None = b""

    async def read_from_socket(self) -> bool:
        stream, reader = self._stream, self._reader
        data = await stream.read(self._read_size) if stream else b""
        if not data or reader is None:
            raise exceptions.ConnectionError("Connection closed by server.")
        self.bytes_left -= len(data)
        if self.bytes_left < 0:
            raise ReplyTooLongError
        self._check_arrays(data)
        reader.feed(data)
        return True

    def _check_arrays(self, data: bytes) -> None:
        """Look for a forbidden header; what was read in parts is put together for that."""
        if self._tail is None:
            return
        words = self._tail + data
        is_first, forbidden = self._limit.is_first, self._limit.forbidden
        if forbidden.match(words) if is_first else forbidden.search(words):
            raise ReplyTooLongError
        if is_first:
            self._tail = words if len(words) < _LONGEST_HEADER else None
        else:
            self._tail = words[-_LONGEST_HEADER:]


class BoundedConnection(Connection):
    """A connection whose replies are bounded, under TLS with a verified name."""

    def __init__(self, *, ip: str, port: int, tls: ssl.SSLContext | None, server_name: str) -> None:
        super().__init__(
            host=ip,
            port=port,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_read_size=_READ_SIZE,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
            parser_class=_BoundedParser,
        )
        self._tls = {"ssl": tls, "server_hostname": server_name} if tls else {}

    def allow(self, limit: Limit) -> None:
        """Set the limit of the replies that are read next."""
        if isinstance(self._parser, _BoundedParser):
            self._parser.allow(limit)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), **self._tls}
