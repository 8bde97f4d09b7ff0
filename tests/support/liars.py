"""Three made-up nodes that answer as fresh servers do, and what a lying one answers instead.

They speak RESP on loopback addresses and have no bus, so a run gets as far as its first changes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support import rig
from tests.support.peers import Talk, listening

PORT = 6379
NAMES_OF_TWO_WORDS = frozenset({"CLUSTER", "CONFIG", "CLIENT", "FUNCTION", "MEMORY"})
_HWM = re.compile(r"VmHWM:\s+(\d+)")
_blocks = itertools.count(1)

Shape = Callable[[], AsyncIterator[bytes]]


def bulk(text: str | bytes) -> bytes:
    """Return a bulk string."""
    data = text if isinstance(text, bytes) else text.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*texts: str) -> bytes:
    """Return an array of bulk strings."""
    return b"*%d\r\n" % len(texts) + b"".join(map(bulk, texts))


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """Read one command; empty at the end of the connection."""
    head = await reader.readline()
    if not head.startswith(b"*"):
        return head.split()
    words = []
    for _ in range(int(head[1:])):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def name_of(command: list[bytes]) -> str:
    """Return the name of a command, with that of its subcommand."""
    words = [word.decode("utf-8", "replace").upper() for word in command[:2]]
    return " ".join(words) if words[0] in NAMES_OF_TWO_WORDS else words[0]


def honest(number: int, ip: str) -> Mapping[str, bytes]:
    """Return the replies of a fresh server by command."""
    node_id = str(number) * 40
    return {
        "INFO": bulk(
            f"redis_version:7.0.0\r\nrun_id:{node_id}\r\ncluster_enabled:1\r\nrole:master\r\n"
            "used_memory:1\r\n"
        ),
        "CLUSTER INFO": bulk("cluster_state:fail\r\ncluster_current_epoch:0\r\n"),
        "CLUSTER MYID": bulk(node_id),
        "CLUSTER NODES": bulk(f"{node_id} {ip}:{PORT}@16379 myself,master - 0 0 0 connected\n"),
        "CONFIG GET": array("cluster-announce-ip", ""),
        "CLUSTER HELP": array("ADDSLOTSRANGE <range>", "MEET <ip>"),
        "CLIENT ID": b":7\r\n",
        "CLIENT LIST": bulk("id=7 addr=1.2.3.4:5 name= idle=0 user=default\n"),
    }


def server(number: int, ip: str, lies: Mapping[str, Shape]) -> Talk:
    """Return what serves a connection to one node."""
    truth = honest(number, ip)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await read_command(reader):
            name = name_of(command)
            if name in lies:
                async for part in lies[name]():
                    writer.write(part)
                    await writer.drain()
                if writer.is_closing():
                    return
            else:
                writer.write(truth.get(name, b"+OK\r\n"))

    return talk


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run among liars ended.

    Attributes:
        peak_mb: The most memory that was resident.
    """

    result: rig.Result
    seconds: float
    peak_mb: float


@contextmanager
def nodes(lies: Mapping[str, Shape], *, liar: int = 2) -> Iterator[tuple[str, ...]]:
    """Serve three nodes, one of them with these lies, and yield their addresses."""
    block = next(_blocks)
    ips = tuple(f"127.{os.getpid() % 150 + 100}.{block}.{number}" for number in (1, 2, 3))
    with ExitStack() as stack:
        for number, ip in enumerate(ips, start=1):
            talk = server(number, ip, lies if number == liar else {})
            stack.enter_context(listening(ip, PORT, talk))
        yield ips


def ending(ips: tuple[str, ...], *args: str, timeout_s: float = 4.0, stop: bool = False) -> Ending:
    """Run the program on the nodes and measure it.

    Args:
        ips: Where the nodes are.
        args: The command.
        timeout_s: BOOTSTRAP_TIMEOUT.
        stop: Send SIGTERM a second after the first log line, and measure from then.
    """
    variables = {
        "BOOTSTRAP_ENDPOINTS": ",".join(ips),
        "BOOTSTRAP_REPLICAS": "0",
        "BOOTSTRAP_TIMEOUT": f"{timeout_s:g}",
    }
    started = time.monotonic()
    with rig.started(variables, *args) as process, _peak(process.pid) as peak:
        if stop:
            assert process.stderr is not None
            process.stderr.readline()
            timer = threading.Timer(1, process.terminate)
            timer.start()
            started = time.monotonic() + 1
        stdout, stderr = process.communicate(timeout=timeout_s + 60)
        seconds = time.monotonic() - started
    result = rig.Result(code=process.returncode, stdout=stdout, stderr=stderr, message="")
    return Ending(result=result, seconds=seconds, peak_mb=max(peak))


@contextmanager
def _peak(pid: int) -> Iterator[list[float]]:
    """Record the peak of a process's resident memory in MB until it ends."""
    megabytes = [0.0]

    def watch() -> None:
        with suppress(OSError, TypeError):
            while found := _HWM.search(Path(f"/proc/{pid}/status").read_text()):
                megabytes.append(int(found[1]) / 1024)
                time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield megabytes
    finally:
        watcher.join()
