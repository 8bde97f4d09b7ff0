"""Peers that are not what they seem: recorders, forwarders, and servers that lie."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_CHUNK = 65536


@contextmanager
def listening(ip: str, port: int, talk: Talk) -> Iterator[None]:
    """Serve an address in a thread of its own for the length of a block."""
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await talk(reader, writer)
        finally:
            writer.close()

    async def main() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(serve, ip, port)
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.close()
        talks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # for the callbacks that close the sockets

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@dataclass(slots=True)
class Recorder:
    """Answers every connection with one line and keeps what it received.

    Attributes:
        received: All bytes, of all connections.
        connections: How many there were.
    """

    answer: bytes = b"-NOAUTH Authentication required.\r\n"
    received: bytearray = field(default_factory=bytearray)
    connections: int = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        while data := await reader.read(_CHUNK):
            self.received += data
            writer.write(self.answer)


def forwarder(ip: str, port: int) -> Talk:
    """Return what forwards every connection to an address."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(ip, port)
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            back.close()

    return talk


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
