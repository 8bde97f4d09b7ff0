"""A client of few lines for tests and readiness: one connection, RESP2, nothing redirected.

Tests of the program look at servers through this, so a fault in the client library that the
program uses cannot hide itself.
"""

import socket
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeAlias

from .errors import ReplyError

Reply: TypeAlias = "str | int | list[Reply] | None"


class Connection:
    """One connection to a server; a context manager."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect.

        Raises:
            OSError: Nobody listens there, or nobody answers in time.
        """
        self._socket = socket.create_connection((address, port), timeout=timeout_s)
        if tls is not None:
            try:
                self._socket = tls.wrap_socket(self._socket)
            except OSError:
                self._socket.close()
                raise
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

    def call(self, *args: str | int | bytes) -> Reply:
        """Send one command and return its reply; bytes that are no UTF-8 come back escaped.

        Raises:
            ReplyError: The server answered with an error.
            OSError: The connection broke or timed out.
        """
        self._socket.sendall(_encode(args))
        return self._read()

    def _read(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return _decode(rest)
            case b"-":
                raise ReplyError(_decode(rest))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._read_bulk(int(rest))
            case b"*":
                return None if rest == b"-1" else [self._read() for _ in range(int(rest))]
            case _:
                raise ConnectionError(f"not a RESP2 reply: {line[:40]!r}")

    def _read_bulk(self, length: int) -> str:
        data = self._file.read(length + 2)
        if len(data) != length + 2:
            raise ConnectionError("the server closed the connection in mid-reply")
        return _decode(data[:-2])


def _encode(args: Sequence[str | int | bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
