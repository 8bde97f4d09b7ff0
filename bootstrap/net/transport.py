"""redis-py's connection, with two additions: a verified name under TLS, and bounded replies.

Whatever a peer sends is counted as it arrives and read no further than its limit, so an endless
reply costs no more memory than a long one. The header of an array is checked before hiredis sees
it: hiredis makes a list of the announced length at once, and collecting garbage walks all of it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

from redis import exceptions
from redis._parsers import _AsyncHiredisParser
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECT_TIMEOUT_S = 3.0
_READ_SIZE = 65536
# A longer array cannot fit into the limit of a reply that has no keys or values in it.
_HUGE_ARRAY = re.compile(rb"[*%~>|][0-9]{7,}")
_LONGEST_HEADER = 24


class ReplyTooLongError(Exception):
    """A peer sent more bytes than a reply to this command can have."""


class _BoundedParser(_AsyncHiredisParser):
    """hiredis, fed until the limit only.

    Attributes:
        bytes_left: How many bytes may still come.
        has_data: Whether keys or values are expected, which may look like a header.
    """

    __slots__ = ("_tail", "bytes_left", "has_data")

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self.allow(_READ_SIZE, has_data=False)

    def allow(self, size: int, *, has_data: bool) -> None:
        self.bytes_left = size
        self.has_data = has_data
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
        """Look for the header of a huge array: anywhere, or among data only where they begin."""
        if self._tail is None:
            return
        text = self._tail + data
        find = _HUGE_ARRAY.match if self.has_data else _HUGE_ARRAY.search
        if find(text):
            raise ReplyTooLongError
        if not self.has_data:
            self._tail = text[-_LONGEST_HEADER:]
        else:
            self._tail = text if len(text) < _LONGEST_HEADER else None


class BoundedConnection(Connection):
    """A TCP connection whose replies are bounded."""

    def __init__(self, *, ip: str, port: int) -> None:
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

    def allow(self, size: int, *, has_data: bool = False) -> None:
        """Allow this many bytes for the replies that are read next."""
        if isinstance(self._parser, _BoundedParser):
            self._parser.allow(size, has_data=has_data)


class VerifiedConnection(BoundedConnection):
    """A TLS connection to an address, verified against the DNS name it was found under."""

    def __init__(self, *, ip: str, port: int, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(ip=ip, port=port)
        self._context = context
        self._server_name = server_name

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {
            **super()._connection_arguments(),
            "ssl": self._context,
            "server_hostname": self._server_name,
        }
