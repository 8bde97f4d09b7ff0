"""One of three peers lies: every shape of reply, to every command that a run begins with.

Whatever it sends, the run ends in time, with bounded memory, and with a declared error that names
the peer.
"""

import os
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support import liars
from tests.support.liars import Shape, array, bulk

TIMEOUT_S = 3.0
GRACE_S = 2.0
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


def silent() -> Shape:
    return says(b"")


MEMBERS = "".join(
    f"{number:040x} 127.61.{number >> 8}.{number & 255}:6379@1 master - 0 0 1 connected\n"
    for number in range(1000, 4000)
)

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
    "three thousand members": lambda: says(
        bulk(f"{'2' * 40} 127.0.0.9:6379@16379 myself,master - 0 0 0 connected\n{MEMBERS}")
    ),
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
COMMANDS = (
    "INFO",
    "CLUSTER INFO",
    "CLUSTER NODES",
    "CONFIG GET",
    "CLUSTER HELP",
    "CLUSTER SET-CONFIG-EPOCH",
    "CLUSTER ADDSLOTSRANGE",
    "CLUSTER MEET",
    "CLUSTER MYID",
    "CLIENT SETNAME",
    "CLIENT ID",
    "CLIENT LIST",
)
PAIRS = [(shape, command) for shape in SHAPES for command in COMMANDS]
# Each shape and each command is in the short list; the long one has all pairs.
SHORT = [(shape, COMMANDS[i % len(COMMANDS)]) for i, shape in enumerate(SHAPES)]


def check(ended: liars.Ending, *, names: str) -> None:
    """A declared error, in time, with bounded memory, escaped, that names the peer."""
    result = ended.result
    assert result.code in {2, 3, 4, 5}, result.stderr
    assert "Traceback" not in result.stderr
    # The program's own clock: a busy machine takes seconds to start it.
    assert float(str(result.last["duration_s"])) < TIMEOUT_S + GRACE_S
    assert ended.peak_mb < USUAL_MB + MORE_MB
    printed = (result.stdout + result.stderr).replace("\n", "")
    assert printed.isprintable(), ascii(printed)
    assert names in str(result.last.get("node")) or names in str(result.last["cause"])


Record = Callable[[str, object], None]


def lie(shape: str, command: str, record: Record) -> None:
    """Run among a liar and two honest nodes, and check the ending."""
    liar = 1 if command.startswith("CLIENT") else 2
    with liars.nodes({command: SHAPES[shape]()}, liar=liar) as ips:
        ended = liars.ending(ips, timeout_s=TIMEOUT_S)
    seconds = ended.result.last.get("duration_s")
    record("row", f"{command} | {shape} | {ended.result.code} | {seconds} | {ended.peak_mb:.0f}")
    check(ended, names=ips[liar - 1])


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


@pytest.mark.parametrize("shape", ["nothing", "lines without end", "arrays within arrays"])
def test_a_signal_ends_a_run_among_liars(shape: str) -> None:
    """SIGTERM is obeyed while a peer sends, or sends nothing."""
    with liars.nodes({"CLUSTER NODES": SHAPES[shape]()}) as ips:
        ended = liars.ending(ips, timeout_s=60, stop=True)
    assert ended.result.code in {2, 3, 4, 143}, ended.result.stderr
