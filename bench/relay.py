"""A TCP relay that delays what a server answers, where the kernel has no netem.

One process for each server, one thread for each direction of a connection: asyncio's timers are
too coarse for half a millisecond.
"""

import multiprocessing
import socket
import threading
import time
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self

_CHUNK = 1 << 18


class Relay:
    """Listens beside a server and passes bytes on; a context manager."""

    def __init__(self, address: str, *, port: int, server_port: int, round_trip_s: float) -> None:
        """Listen from now on."""
        listener = socket.create_server((address, port), backlog=256)
        context = multiprocessing.get_context("fork")
        self._process: BaseProcess = context.Process(
            target=_serve, args=(listener, (address, server_port), round_trip_s), daemon=True
        )
        self._process.start()
        listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.join()


def _serve(listener: socket.socket, server: tuple[str, int], delay_s: float) -> None:
    while True:
        client, _ = listener.accept()
        try:
            upstream = socket.create_connection(server)
        except OSError:
            client.close()
            continue
        for sock in (client, upstream):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, target, pause in ((client, upstream, 0.0), (upstream, client, delay_s)):
            threading.Thread(target=_pass_on, args=(source, target, pause), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    try:
        while chunk := source.recv(_CHUNK):
            if delay_s:
                time.sleep(delay_s)
            target.sendall(chunk)
    except OSError:
        pass
    finally:
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
