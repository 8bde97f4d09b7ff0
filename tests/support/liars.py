"""Three made-up nodes that answer as servers do, and what a lying one answers instead.

They speak RESP on loopback addresses and have no bus, and what they say does not change. So a run
gets as far as the first changes of a scene: fresh servers, or a cluster that has something to do.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import resource
import subprocess
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
SOON_S = 0.5

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


UNEVEN = ("0-8191", "8192-16383", "")
EVEN = ("0-5460", "5461-10922", "10923-16383")
VALKEY = "server_name:valkey\r\nvalkey_version:9.1.0\r\n"
# Of each scene: what INFO adds, and the subcommands of CLUSTER that matter.
SCENES: dict[str, tuple[str, tuple[str, ...]]] = {
    "fresh": ("redis_version:7.0.0", ()),
    "healthy": ("redis_version:7.4.0", ("MYSHARDID",)),
    "uneven": ("redis_version:7.0.0\r\ndb0:keys=5", ()),
    "libraries": ("redis_version:7.0.0\r\nnumber_of_libraries:1", ()),
    "open": ("redis_version:7.0.0\r\ndb0:keys=5", ()),
    "uneven redis 8.6": ("redis_version:8.6.0", ("MIGRATION",)),
    "uneven valkey 9.1": (f"redis_version:7.2.4\r\n{VALKEY}", ("MIGRATESLOTS",)),
    "orphan": ("redis_version:7.0.0", ()),
}
CONFIG = (
    "cluster-announce-ip", "", "port", str(PORT), "tls-cluster", "no",
    "cluster-node-timeout", "15000",
)  # fmt: skip


NO_KEYS = {"CLUSTER COUNTKEYSINSLOT": b":0\r\n", "CLUSTER GETKEYSINSLOT": b"*0\r\n"}


def _lines(number: int, ips: tuple[str, ...], scene: str) -> str:
    """Return CLUSTER NODES of one node."""
    if scene == "fresh":
        return (
            f"{str(number) * 40} {ips[number - 1]}:{PORT}@16379 myself,master - 0 0 0 connected\n"
        )
    slots = EVEN if scene in {"healthy", "open", "orphan"} else UNEVEN
    lines = []
    for other, ip in enumerate(ips, start=1):
        flags, primary, owned = "master", "-", slots[other - 1]
        if scene == "orphan" and other == 3:
            flags, primary, owned = "slave", "9" * 40, ""
        if scene == "open" and other == number == 1:
            owned += f" [5->-{'2' * 40}]"
        flags = f"myself,{flags}" if other == number else flags
        where = f"{str(other) * 40} {ip}:{PORT}@16379"
        lines.append(f"{where} {flags} {primary} 0 0 {other} connected {owned}\n")
    if scene == "orphan":
        lines.append(f"{'9' * 40} :0@0 master,fail,noaddr - 0 0 9 disconnected {EVEN[2]}\n")
    return "".join(lines)


def honest(number: int, ips: tuple[str, ...], scene: str = "fresh") -> Mapping[str, bytes]:
    """Return the replies of a server by command."""
    node_id = str(number) * 40
    more, subcommands = SCENES[scene]
    epoch = 0 if scene == "fresh" else 9
    is_orphan = scene == "orphan" and number == 3
    state = "fail" if scene in {"fresh", "orphan"} else "ok"
    shards = b"".join(
        b"*4\r\n+slots\r\n*0\r\n+nodes\r\n*1\r\n" + array("id", str(n) * 40) for n in (1, 2, 3)
    )
    if number == 3 and scene == "uneven":
        more = "redis_version:7.0.0"
    library = b"*1\r\n" + array("engine", "LUA", "library_code", "#!lua name=a")
    return {
        "INFO": bulk(
            f"{more}\r\nrun_id:{node_id}\r\ncluster_enabled:1\r\n"
            f"role:{'slave' if is_orphan else 'master'}\r\nused_memory:1\r\n"
        ),
        "CLUSTER INFO": bulk(f"cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n"),
        "CLUSTER MYID": bulk(node_id),
        "CLUSTER NODES": bulk(_lines(number, ips, scene)),
        "CONFIG GET": array(*CONFIG),
        "CLUSTER HELP": array("ADDSLOTSRANGE <range>", "MEET <ip>", *subcommands),
        "CLUSTER SHARDS": b"*3\r\n" + shards,
        "CLUSTER COUNTKEYSINSLOT": b":1\r\n" if number < 3 else b":0\r\n",
        "CLUSTER GETKEYSINSLOT": array("key"),
        "CLUSTER MIGRATION": b"*0\r\n",
        "CLUSTER MIGRATION IMPORT": bulk("task"),
        "CLUSTER GETSLOTMIGRATIONS": b"*0\r\n",
        "CLIENT ID": b":7\r\n",
        "CLIENT LIST": bulk("id=7 addr=1.2.3.4:5 name= idle=0 user=default\n"),
        "FUNCTION LIST": library if number == 1 else b"*0\r\n",
        "FUNCTION DUMP": bulk("dumped"),
        "MEMORY USAGE": b":50\r\n",
        "MIGRATE": b"-BUSYKEY Target key name already exists.\r\n"
        if scene == "open"
        else b"+OK\r\n",
        "DUMP": bulk(f"\0{number}"),
        "ROLE": array("slave", "127.0.0.1", "6379", "connected", "0"),
    }


def server(truth: Mapping[str, bytes], lies: Mapping[str, Shape], asked: threading.Event) -> Talk:
    """Return what serves connections to one node, and sets an event when it lies.

    Once it has migrated something it has no key any more.
    """
    is_empty = False

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal is_empty
        while command := await read_command(reader):
            name = name_of(command)
            if name in lies:
                asked.set()
                async for part in lies[name]():
                    writer.write(part)
                    await writer.drain()
                if writer.is_closing():
                    return
            else:
                is_empty = is_empty or (name == "MIGRATE" and truth[name] == b"+OK\r\n")
                if is_empty and name in NO_KEYS:
                    writer.write(NO_KEYS[name])
                    continue
                longer = f"{name} {command[2].decode('utf-8', 'replace')}" if command[2:] else name
                writer.write(truth.get(longer, truth.get(name, b"+OK\r\n")))

    return talk


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command among liars ended.

    Attributes:
        begun_s: From its start until the liar was asked; a busy machine takes longer.
        seconds: From its start, or from the signal, to its end.
        cpu_s: The processor time that it took.
        peak_mb: The most memory that was resident.
    """

    result: rig.Result
    begun_s: float
    seconds: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Three nodes, one of which lies.

    Attributes:
        asked: Set once the liar has been asked what it lies about.
    """

    ips: tuple[str, ...]
    asked: threading.Event

    def variables(self, timeout_s: float) -> dict[str, str]:
        """Return the settings that name them."""
        return {
            "BOOTSTRAP_ENDPOINTS": ",".join(self.ips),
            "BOOTSTRAP_REPLICAS": "0",
            "BOOTSTRAP_TIMEOUT": f"{timeout_s:g}",
        }


@contextmanager
def nodes(lies: Mapping[str, Shape], *, liar: int = 2, scene: str = "fresh") -> Iterator[Nodes]:
    """Serve three nodes, one of them with these lies."""
    block = next(_blocks)
    ips = tuple(f"127.{os.getpid() % 150 + 100}.{block}.{number}" for number in (1, 2, 3))
    asked = threading.Event()
    with ExitStack() as stack:
        for number, ip in enumerate(ips, start=1):
            truth = honest(number, ips, scene)
            talk = server(truth, lies if number == liar else {}, asked)
            stack.enter_context(listening(ip, PORT, talk))
        yield Nodes(ips=ips, asked=asked)


def ending(nodes: Nodes, *args: str, timeout_s: float = 4.0, stop: bool = False) -> Ending:
    """Run the program on the nodes and measure it.

    Args:
        nodes: What it finds.
        args: The command.
        timeout_s: BOOTSTRAP_TIMEOUT.
        stop: Send SIGTERM soon after the liar was asked, and measure from then.
    """
    started, before, begun_s = time.monotonic(), _cpu_s(), 0.0
    with rig.started(nodes.variables(timeout_s), *args) as process, _peak(process.pid) as peak:
        if stop:
            assert nodes.asked.wait(60)
            begun_s = time.monotonic() - started
            time.sleep(SOON_S)
            started = time.monotonic()
            process.terminate()
        stdout, stderr = process.communicate(timeout=timeout_s + 60)
        seconds = time.monotonic() - started
    result = rig.Result(code=process.returncode, stdout=stdout, stderr=stderr, message="")
    return Ending(
        result=result,
        begun_s=begun_s,
        seconds=seconds,
        cpu_s=_cpu_s() - before,
        peak_mb=max(peak),
    )


def stopped(process: subprocess.Popen[str]) -> float:
    """Send SIGTERM and return after how many seconds the process has ended."""
    started = time.monotonic()
    process.terminate()
    process.wait(timeout=60)
    return time.monotonic() - started


def _cpu_s() -> float:
    """Return the processor time of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
