"""redis-py's connection, with two additions: a verified name under TLS, and bounded replies.

Whatever a peer sends is counted before hiredis sees it, and read no further than its limit, so an
endless reply costs no more memory than a long one. Bytes alone do not bound it: hiredis makes a
list of an announced length at once, and objects of 80 bytes of four bytes that were sent. So the
elements of arrays are counted as well.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from redis import exceptions
from redis._parsers import _AsyncHiredisParser
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

# For a packet that is lost and sent again after a second; a dead address of a pod costs this long.
CONNECT_TIMEOUT_S = 2.0
_READ_SIZE = 65536
# Servers shorten what they quote in errors, and status replies are words.
_LONGEST_LINE = 16384
_LONGEST_NUMBER = 10
_STRING = re.compile(rb"\$(\d{1,10})\r\n").match


class Limit(NamedTuple):
    """What the replies to one pipeline may be together.

    Attributes:
        size: How many bytes they have at most.
        elements: How many elements their arrays have at most, those of arrays within arrays too.
    """

    size: int
    elements: int


# A byte of a string costs two (hiredis buffers it until it is complete), or three where two lanes
# of a move read at the same time, and an element up to 88 (a list within a list); each of these
# stays below 64 MiB.
REPLY_LIMIT = Limit(3 << 19, 1 << 17)
# One string. CLIENT LIST has about 350 bytes for each client.
LISTING_LIMIT = Limit(1 << 24, 0)
# Slot migrations of servers, which remember up to a thousand (Valkey), with all their slot ranges.
TASKS_LIMIT = Limit(4 << 20, 1 << 16)
# Names of keys: one round of a move asks for 4096 of them.
KEYS_LIMIT = Limit(16 << 20, 1 << 14)
# DUMP: one string.
VALUE_LIMIT = Limit(16 << 20, 0)
# The elements of a set or a hash.
ELEMENTS_LIMIT = Limit(6 << 20, 1 << 18)
# Function libraries, listed and as one string that is sent on.
LIBRARIES_LIMIT = Limit(12 << 20, 1 << 16)


class ReplyTooLongError(Exception):
    """A peer sent more bytes, or more elements, than a reply to this command can have."""


class ReplyMeter:
    """Counts what arrives on one connection, reply by reply.

    It knows only RESP2, which is what servers send unless they are asked for more (HELLO). What it
    cannot read is an error, so that it never takes one thing for another than hiredis does.
    """

    __slots__ = ("_bytes", "_elements", "_nested", "_rest", "_skip")

    def __init__(self) -> None:
        self._skip = 0  # bytes of a string that are still to come, with its end
        self._rest = b""  # a line without its end
        self._nested = 0  # elements of arrays that are still to come
        self.allow(REPLY_LIMIT)

    def allow(self, limit: Limit) -> None:
        """Set the limit of what arrives from now on."""
        self._bytes, self._elements = limit

    def count(self, data: bytes) -> None:
        """Count some bytes.

        Raises:
            ReplyTooLongError: They are more than the limit, or announce more.
            InvalidResponse: They are no reply.
        """
        self._bytes -= len(data)
        if self._bytes < 0:
            raise ReplyTooLongError
        words, at = self._rest + data, self._skip
        longest = self._bytes + _READ_SIZE
        while at < len(words):
            # A string of an array, of which there can be many thousand.
            string = _STRING(words, at) if self._nested else None
            if string and (size := int(string[1])) <= longest:
                self._nested -= 1
                at = string.end() + size + 2
            elif (end := words.find(b"\r\n", at)) >= 0:
                at = end + 2 + self._value(words, at, end)
            else:
                break
        self._skip, self._rest = max(0, at - len(words)), words[at:]
        if len(self._rest) > _LONGEST_LINE:
            raise ReplyTooLongError

    def _value(self, words: bytes, at: int, end: int) -> int:
        """Count the value whose first line is this; return how many bytes follow the line."""
        kind = words[at : at + 1]
        is_nested = self._nested > 0
        self._nested -= is_nested
        if kind in (b"+", b":"):
            return 0
        # An error within an array, which only EXEC returns, would cost 350 bytes.
        if kind == b"-" and not is_nested:
            return 0
        if kind in (b"$", b"*"):
            number = words[at + 1 : end]
            if number == b"-1":
                return 0
            if number.isdigit() and len(number) <= _LONGEST_NUMBER:
                return self._string(int(number)) if kind == b"$" else self._array(int(number))
        raise exceptions.InvalidResponse(f"Protocol error: {words[at : min(end, at + 40)]!r}")

    def _string(self, size: int) -> int:
        if size > self._bytes + _READ_SIZE:
            raise ReplyTooLongError
        return size + 2

    def _array(self, count: int) -> int:
        self._elements -= count
        if self._elements < 0:
            raise ReplyTooLongError
        self._nested += count
        return 0


class _BoundedParser(_AsyncHiredisParser):
    """hiredis, fed until the limit only."""

    __slots__ = ("_meter",)

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._meter = ReplyMeter()

    def on_connect(self, connection: Connection) -> None:
        """Begin with the first byte of a connection."""
        super().on_connect(connection)  # type: ignore[no-untyped-call]  # redis-py
        self._meter = ReplyMeter()

    def allow(self, limit: Limit) -> None:
        self._meter.allow(limit)

    async def read_from_socket(self) -> bool:
        stream, reader = self._stream, self._reader
        data = await stream.read(self._read_size) if stream else b""
        if not data or reader is None:
            raise exceptions.ConnectionError("Connection closed by server.")
        self._meter.count(data)
        reader.feed(data)
        return True


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
