"""A small HTTP server for probes and metrics: GET of a few paths, nothing else.

Rules: whoever connects must not be able to harm what it reports on: a request is bounded in size
and time, connections are bounded in number, and each is closed after one response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from ..errors import SettingsError

REQUEST_BYTES = 8192
REQUEST_S = 5.0
MOST_CONNECTIONS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a path is answered with."""

    text: str
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


@asynccontextmanager
async def serving(
    address: tuple[str, int], paths: Mapping[str, Callable[[], Response]]
) -> AsyncIterator[None]:
    """Serve these paths meanwhile.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    free = asyncio.Semaphore(MOST_CONNECTIONS)
    answering: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(handle(reader, writer))
        answering.add(task)
        task.add_done_callback(answering.discard)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if free.locked():
                return
            async with free, asyncio.timeout(REQUEST_S):
                writer.write(_encoded(await _answer(reader, paths)))
                await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    host, port = address
    try:
        server = await asyncio.start_server(accept, host, port, limit=REQUEST_BYTES)
    except OSError as error:
        raise SettingsError(
            cause=f"cannot listen on {host} port {port}: {error.strerror}",
            remedy="set BOOTSTRAP_HTTP_LISTEN to an address and port that are free",
        ) from error
    try:
        yield
    finally:
        # Not `async with`: since Python 3.12 that waits until every client has sent its request.
        server.close()
        for each in answering:
            each.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


async def _answer(
    reader: asyncio.StreamReader, paths: Mapping[str, Callable[[], Response]]
) -> Response:
    head = await reader.readuntil(b"\r\n\r\n")
    method, _, rest = head.decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method != "GET":
        return Response(text="method not allowed\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
    if path not in paths:
        return Response(text="not found\n", status=HTTPStatus.NOT_FOUND)
    return paths[path]()


def _encoded(response: Response) -> bytes:
    body = response.text.encode()
    status = response.status
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
