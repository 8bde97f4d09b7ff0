"""One of three peers lies: every shape of reply, to every command whose reply is read.

Whatever it sends, the command ends in time, with bounded memory and output, and with a declared
error that names the peer.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bootstrap.loop.stopping import CLOSING_S
from tests.support import liars, rig
from tests.support.liars import Shape, array, bulk
from tests.support.reconciling import Reconciling, free_port

TIMEOUT_S = 3.0
GRACE_S = 2.0
# For a busy machine to start and end a process; that a command works no longer is shown by CPU_S.
START_S = 20.0
CPU_S = 3.0
PRINTED_CHARS = 40_000
MORE_MB = 64
USUAL_MB = 48
ENDLESS_MB = 300


def says(*parts: bytes) -> Shape:
    async def shape() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return shape


def endless(head: bytes, part: bytes) -> Shape:
    async def shape() -> AsyncIterator[bytes]:
        yield head
        block = part * max(1, 65536 // len(part))
        for _ in range((ENDLESS_MB << 20) // len(block)):
            yield block

    return shape


def hangs_up(part: bytes) -> Shape:
    async def shape() -> AsyncIterator[bytes]:
        yield part
        raise ConnectionResetError

    return shape


def drips(head: bytes, part: bytes) -> Shape:
    async def shape() -> AsyncIterator[bytes]:
        yield head
        while True:
            yield part
            await asyncio.sleep(0.1)

    return shape


def silent() -> Shape:
    return says(b"")


def members(count: int) -> Shape:
    lines = "".join(
        f"{number:040x} 127.61.{number >> 8}.{number & 255}:6379@1 master - 0 0 1 connected\n"
        for number in range(1000, 1000 + count)
    )
    own = f"{'2' * 40} 127.0.0.9:6379@16379 myself,master - 0 0 0 connected\n"
    return says(bulk(own + lines))


SHAPES: dict[str, Callable[[], Shape]] = {
    "a string of 200 MB": lambda: endless(b"$209715200\r\n", b"x"),
    "a string without end": lambda: endless(b"$99999999999\r\n", b"x"),
    "a line without end": lambda: endless(b"+", b"x"),
    "an error without end": lambda: endless(b"-", b"x"),
    "an array without end": lambda: endless(b"*99999999\r\n", b":1\r\n"),
    "a huge array that never comes": lambda: says(b"*4000000000\r\n"),
    "a huge array within arrays": lambda: says(b"*1\r\n" * 6, b"*400000000\r\n"),
    "a small array of empty arrays": lambda: endless(b"*999999\r\n", b"*0\r\n"),
    "arrays within arrays": lambda: endless(b"", b"*1\r\n"),
    "push messages without end": lambda: endless(b"", b">1\r\n+a\r\n"),
    "lines without end": lambda: endless(b"$1000000\r\n", b"a\n"),
    "three thousand members": lambda: members(3000),
    "a thousand members": lambda: members(994),
    "names of runs": lambda: endless(b"$15728640\r\n", b" name=redis-cluster-bootstrap:"),
    "a reply that drips": lambda: drips(b"$1000\r\n", b"x"),
    "nil": lambda: says(b"$-1\r\n"),
    "an integer": lambda: says(b":7\r\n"),
    "an integer out of range": lambda: says(b":99999999999999999999999\r\n"),
    "a negative length": lambda: says(b"$-7\r\n"),
    "an empty string": lambda: says(bulk("")),
    "an empty array": lambda: says(b"*0\r\n"),
    "an array of nils": lambda: says(b"*3\r\n$-1\r\n$-1\r\n$-1\r\n"),
    "an array of arrays": lambda: says(b"*2\r\n*1\r\n+a\r\n*0\r\n"),
    "an array with an error": lambda: says(b"*2\r\n-ERR no\r\n+a\r\n"),
    "a word": lambda: says(b"+OK\r\n"),
    "words that are no fields": lambda: says(array("a", "b", "c")),
    "bytes that are no text": lambda: says(bulk(bytes(range(256)))),
    "terminal escapes": lambda: says(bulk("\x1b[2J\x1b]0;owned\x07\u202e\u2028healthy: exit 0\n")),
    "an error with terminal escapes": lambda: says(b"-ERR \x1b[2J\xc2\x9b owned\r\n"),
    "an unknown error": lambda: says(b"-TEAPOT short and stout\r\n"),
    "an error without words": lambda: says(b"-\r\n"),
    "an error that is not text": lambda: says(b"-\xff\xfe\r\n"),
    "a RESP3 map": lambda: says(b"%1\r\n+a\r\n+b\r\n"),
    "a RESP3 boolean": lambda: says(b"#t\r\n"),
    "a RESP3 double": lambda: says(b",inf\r\n"),
    "HTTP": lambda: says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "two replies": lambda: says(b"+OK\r\n+OK\r\n"),
    "half a reply, then the end": lambda: hangs_up(b"$100\r\nabc"),
    "the end": lambda: hangs_up(b""),
    "nothing": silent,
}
# Which node lies about a command, and in which scene it is asked.
BEGINNING = {
    "INFO": 2,
    "CLUSTER INFO": 2,
    "CLUSTER NODES": 2,
    "CONFIG GET": 2,
    "CLUSTER HELP": 2,
    "CLUSTER SET-CONFIG-EPOCH": 2,
    "CLUSTER ADDSLOTSRANGE": 2,
    "CLUSTER MEET": 2,
    "CLUSTER MYID": 2,
    "CLIENT SETNAME": 1,
    "CLIENT ID": 1,
    "CLIENT LIST": 1,
}
LATER = {
    "CLUSTER SHARDS": ("healthy", 2),
    "CLUSTER COUNTKEYSINSLOT": ("open", 2),
    "CLUSTER SETSLOT": ("uneven", 2),
    "CLUSTER GETKEYSINSLOT": ("uneven", 2),
    "MEMORY USAGE": ("uneven", 2),
    "MIGRATE": ("uneven", 2),
    "DUMP": ("open", 2),
    "FUNCTION LIST": ("libraries", 2),
    "FUNCTION DUMP": ("libraries", 1),
    "FUNCTION RESTORE": ("libraries", 3),
    "CLUSTER MIGRATION": ("uneven redis 8.6", 3),
    "CLUSTER GETSLOTMIGRATIONS": ("uneven valkey 9.1", 2),
    "CLUSTER MIGRATESLOTS": ("uneven valkey 9.1", 2),
    "CLUSTER FAILOVER": ("orphan", 3),
    "ROLE": ("orphan", 3),
}
COMMANDS = (*BEGINNING, *LATER)
PAIRS = [(shape, command) for shape in SHAPES for command in COMMANDS]
# Each shape and each command is in the short list; the long one has all pairs.
SHORT = [(shape, COMMANDS[i % len(COMMANDS)]) for i, shape in enumerate(SHAPES)]
SHORT += [
    ("names of runs", "CLIENT LIST"),
    ("a thousand members", "CLUSTER NODES"),
    ("a small array of empty arrays", "FUNCTION LIST"),
]


def check(ended: liars.Ending) -> None:
    """A declared error, in time, with bounded memory and output, escaped."""
    result = ended.result
    assert result.code in {2, 3, 4, 5}, result.stderr
    assert "Traceback" not in result.stderr
    assert ended.seconds < TIMEOUT_S + CLOSING_S + START_S
    assert ended.cpu_s < CPU_S
    assert ended.peak_mb < USUAL_MB + MORE_MB
    printed = (result.stdout + result.stderr).replace("\n", "")
    assert printed.isprintable(), ascii(printed)
    assert len(printed) < PRINTED_CHARS


Record = Callable[[str, object], None]


def lie(shape: str, command: str, record: Record) -> None:
    """Run among a liar and two honest nodes, and check the ending."""
    scene, liar = LATER.get(command) or ("fresh", BEGINNING[command])
    with liars.nodes({command: SHAPES[shape]()}, liar=liar, scene=scene) as nodes:
        ended = liars.ending(nodes, timeout_s=TIMEOUT_S)
    result = ended.result
    seconds, cpu = result.last.get("duration_s"), f"{ended.cpu_s:.1f}"
    assert nodes.asked.is_set()
    record("row", f"{command} | {shape} | {result.code} | {seconds} | {cpu} | {ended.peak_mb:.0f}")
    check(ended)
    # The program's own clock: a busy machine takes seconds to start it.
    closing_s = CLOSING_S if scene == "uneven" else 0.0
    assert float(str(seconds)) < TIMEOUT_S + closing_s + GRACE_S
    # What a server might say as well, such as a number of keys, is for its peers to contradict.
    if command in BEGINNING or result.code in {2, 4}:
        name = nodes.ips[liar - 1]
        assert name in str(result.last.get("node")) or name in str(result.last["cause"])


@pytest.mark.parametrize(("shape", "command"), SHORT)
def test_a_lie_ends_in_a_declared_error(shape: str, command: str, record_property: Record) -> None:
    """Each shape once, with the commands in turn."""
    lie(shape, command, record_property)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("HOSTILE") != "full", reason="HOSTILE=full tries all pairs")
@pytest.mark.parametrize(("shape", "command"), [pair for pair in PAIRS if pair not in SHORT])
def test_every_lie_to_every_command_ends_in_a_declared_error(
    shape: str, command: str, record_property: Record
) -> None:
    """The pairs of lie and command that the quick test leaves out end the same way."""
    lie(shape, command, record_property)


@pytest.mark.parametrize(
    ("program", "shape", "command"),
    [
        ("plan", "a string without end", "CLUSTER NODES"),
        ("plan", "terminal escapes", "INFO"),
        ("plan", "a thousand members", "CLUSTER NODES"),
        ("plan", "nothing", "INFO"),
        ("status", "a small array of empty arrays", "CONFIG GET"),
        ("status", "an error with terminal escapes", "CLUSTER INFO"),
        ("status", "a thousand members", "CLUSTER NODES"),
        ("status", "a reply that drips", "INFO"),
        ("wait", "lines without end", "INFO"),
        ("wait", "terminal escapes", "CLUSTER NODES"),
        ("wait", "a thousand members", "CLUSTER NODES"),
        ("wait", "a huge array within arrays", "CLUSTER HELP"),
    ],
)
def test_the_other_commands_end_the_same_way(
    program: str, shape: str, command: str, record_property: Record
) -> None:
    """The peer is named on stdout or in the log."""
    with liars.nodes({command: SHAPES[shape]()}) as nodes:
        ended = liars.ending(nodes, program, timeout_s=TIMEOUT_S)
    result = ended.result
    size = len(result.stdout + result.stderr)
    record_property("row", f"{program} | {shape} | {result.code} | {ended.cpu_s:.1f} | {size}")
    check(ended)
    assert nodes.ips[1] in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("shape", "command"),
    [
        ("nothing", "CLUSTER NODES"),
        ("nothing", "CLUSTER MEET"),
        ("a reply that drips", "INFO"),
        ("a reply that drips", "CLIENT LIST"),
        ("a thousand members", "CLUSTER NODES"),
    ],
)
def test_a_signal_ends_a_run_among_liars(shape: str, command: str, record_property: Record) -> None:
    """SIGTERM is obeyed while a peer sends little, nothing, or more than is of use."""
    liar = BEGINNING[command]
    with liars.nodes({command: SHAPES[shape]()}, liar=liar) as nodes:
        ended = liars.ending(nodes, timeout_s=60, stop=True)
    record_property("row", f"SIGTERM | {command} | {shape} | {ended.seconds:.1f}")
    assert ended.result.code == 128 + signal.SIGTERM, ended.result.stderr
    assert ended.seconds < GRACE_S + ended.begun_s


@pytest.mark.parametrize(
    ("shape", "command"),
    [
        ("terminal escapes", "CLUSTER NODES"),
        ("a thousand members", "CLUSTER NODES"),
        ("an error with terminal escapes", "CLUSTER INFO"),
        ("nothing", "CLUSTER NODES"),
    ],
)
def test_a_reconciler_among_liars_serves_what_can_be_read(
    shape: str, command: str, tmp_path: Path
) -> None:
    """Readiness names the peer, metrics keep their form, and SIGTERM is obeyed."""
    port, log = free_port(), tmp_path / "log"
    listen = {"BOOTSTRAP_HTTP_LISTEN": f"127.0.0.1:{port}"}
    lies = {command: SHAPES[shape]()}
    with (
        log.open("w") as stderr,
        liars.nodes(lies) as nodes,
        rig.started(nodes.variables(60) | listen, "reconcile", stderr=stderr) as process,
    ):
        began = time.monotonic()
        seen = Reconciling(process, log, port)
        rig.until(lambda: nodes.ips[1] in seen.get("/readyz")[1], seconds=60)
        begun_s = time.monotonic() - began
        status, ready = seen.get("/readyz")
        _, metrics = seen.get("/metrics")
        ended = liars.stopped(process)
    assert status == 503
    for printed in (ready, metrics, log.read_text()):
        assert printed.replace("\n", "").isprintable(), ascii(printed)
        assert len(printed) < PRINTED_CHARS
    assert len(ready) < 4096
    assert "redis_cluster_bootstrap_state" in metrics
    assert process.returncode == 128 + signal.SIGTERM
    assert ended < GRACE_S + begun_s
