"""The HTTP server of probes and metrics, and clients that mean it no good."""

from __future__ import annotations

import asyncio
import socket

from bootstrap.process.http_server import Response, serving


async def closing_s(request: bytes) -> float:
    """Return how long the server takes to end while a client has sent this."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    loop = asyncio.get_running_loop()
    async with serving(("127.0.0.1", port), {"/": lambda: Response(text="ok\n")}):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await asyncio.sleep(0.2)
        began = loop.time()
    ended = loop.time()
    writer.close()
    return ended - began


def test_half_a_request_does_not_delay_the_end() -> None:
    """SIGTERM ends the reconciler within two seconds, whoever is connected."""
    assert asyncio.run(closing_s(b"GET / HTTP/1.1\r\nX: ")) < 1.0


def test_silence_does_not_delay_the_end() -> None:
    """A client that has sent nothing is not waited for either."""
    assert asyncio.run(closing_s(b"")) < 1.0
