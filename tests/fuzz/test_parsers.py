"""Every parser of a reply, fed with recorded replies that were damaged: nothing but `ParseError`.

The corpus is `tests/unit/cases`, what servers really answered, and the inputs that once escaped.
"""

import ipaddress
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import hiredis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bootstrap.core import info_fields, parsing
from bootstrap.core.parsing import ParseError, Reply
from bootstrap.errors import InvariantError
from bootstrap.net import connection_lock
from bootstrap.net.replies import ReplyError, reading, text

CASES = Path(__file__).resolve().parent.parent / "unit" / "cases"
NODES = [path.read_text() for path in sorted(CASES.glob("*.nodes.txt"))]
INFOS = [path.read_text() for path in sorted(CASES.glob("*info*.txt"))]
SHARDS = [json.loads(path.read_text()) for path in sorted(CASES.glob("*.shards.json"))]
CLIENTS = [
    """id=7 addr=10.0.0.1:4 fd=8 name= age=0 idle=0 flags=N db=0 user=default
id=9 addr=10.0.0.1:5 fd=9 name=redis-cluster-bootstrap:abc age=1 idle=0 user=bootstrap
"""
]
ONE = "a" * 40
HUGE = "9" * 5000
TOKENS = (
    "", "\n", "\r\n", " ", ",", ":", "@", "-", "[", "]", "=", "%", "\0", "\x1b[2J", "\u2028", "²",
    "٣", "-1", "0", "65536", "16384", HUGE, "nan", "1e9", "myself", "master", "slave", "[1->-b]",
    f"[99999->-{ONE}]", "::1", "fe80::1%eth0", "host.example", "0-16383", "5-3", "db0:keys=x",
    "redis_version:7.²", f"redis_version:{HUGE}", "noaddr", "handshake", "\udcff",
)  # fmt: skip

profile = settings(settings.get_profile("fuzz"))


@st.composite
def damaged(draw: st.DrawFn, corpus: Sequence[str]) -> str:
    """Return a recorded reply with up to six pieces cut out, repeated or replaced."""
    words = draw(st.sampled_from(corpus))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(words)))
        end = draw(st.integers(start, min(len(words), start + 60)))
        piece = draw(st.one_of(st.sampled_from(TOKENS), st.text(max_size=8), st.just("\1")))
        piece = words[start:end] * 2 if piece == "\1" else piece
        words = words[:start] + piece + words[end:]
    return words


def attempt(parse: Callable[[], object]) -> object:
    """Parse; None where the reply is refused as what it is."""
    try:
        return parse()
    except ParseError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1000
    return None


@profile
@given(damaged(NODES))
@example(f"{ONE} h:1@2 myself,master - 0 0 1 connected [{HUGE}->-b]")
@example(f"{ONE} 1.2.3.4:1@2 myself,master - 0 0 1 connected [99999->-{ONE}]")
@example(f"{ONE} 1.2.3.4\x1b:1@2 myself,master - 0 0 1 connected")
def test_cluster_nodes(reply: str) -> None:
    """Ids are ids, addresses are numeric, slots are slots."""
    view = attempt(lambda: parsing.parse_nodes(reply, most=2000))
    if view is None:
        return
    assert isinstance(view, parsing.NodesReply)
    for node_id, line in view.known.items():
        assert len(node_id) == 40
        assert int(node_id, 16) >= 0
        assert not line.address.ip or ipaddress.ip_address(line.address.ip)
        assert str(line.address).isprintable()
        assert line.slots.mask < 1 << 16384
    assert all(0 <= slot < 16384 for slot in (*view.migrating, *view.importing))


@profile
@given(damaged(INFOS))
@example("db0:keys=x")
@example("redis_version:7.²")
@example(f"redis_version:{HUGE}")
def test_info(reply: str) -> None:
    """Versions and numbers are numbers, places are printable."""
    fields = parsing.parse_info(reply)
    version = attempt(lambda: parsing.parse_version(fields))
    assert version is None or isinstance(version, tuple)
    attempt(lambda: parsing.count_keys(fields))
    for name in ("used_memory", "maxmemory", "cluster_current_epoch", "master_repl_offset"):
        attempt(lambda name=name: parsing.number(fields, name))  # type: ignore[misc]  # bound at once
    place = parsing.parse_place(fields, fields)
    assert place.zone.isprintable()
    assert place.node.isprintable()
    info_fields.persistence_errors(fields, fields)
    info_fields.questions(fields)


def replies() -> st.SearchStrategy[Reply]:
    """Return whatever hiredis can make of bytes, and a little more."""
    leaves = st.one_of(
        st.none(),
        st.integers(),
        st.binary(max_size=20),
        st.sampled_from([b"nodes", b"id", b"slots"]),
    )
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=6), max_leaves=30)


@profile
@given(st.one_of(replies(), st.sampled_from(SHARDS)))
@example([[b"slots", []]])
@example([[b"nodes", None]])
def test_structured_replies(reply: Reply) -> None:
    """CLUSTER SHARDS, CLUSTER HELP, CONFIG GET, FUNCTION LIST and strings."""
    parsers: tuple[Callable[[Reply], object], ...] = (
        parsing.parse_shards,
        parsing.parse_commands,
        parsing.parse_pairs,
        parsing.parse_functions,
        text,
    )
    for parse in parsers:
        attempt(lambda parse=parse: parse(reply))  # type: ignore[misc]  # bound at once


@profile
@given(damaged(CLIENTS), st.integers(0, 20))
@example("name=redis-cluster-bootstrap:x idle=0\n", 7)
@example("id=1 name=redis-cluster-bootstrap:x idle=soon\n", 7)
def test_client_list(reply: str, own_id: int) -> None:
    """A holder's name is printable."""
    data = reply.encode("utf-8", "surrogateescape") if "\udcff" in reply else reply.encode()
    name = attempt(lambda: connection_lock.holder(data, own_id=own_id))
    assert name is None or (isinstance(name, str) and name.isprintable())


@profile
@given(st.text())
@example("\x1b[2J\u202e\u2028\x9b\udcff")
def test_errors_are_printable(words: str) -> None:
    """Whatever a server says, an error is one printable line of bounded length."""
    error = ReplyError(words, node="redis-app-0", command="CLUSTER MEET")
    assert str(error).isprintable()
    assert len(str(error)) < 4000


RESP = (
    b"*2\r\n$3\r\nfoo\r\n:7\r\n", b"$-1\r\n", b"+OK\r\n", b"-ERR no\r\n", b"*-1\r\n",
    b"%1\r\n+a\r\n+b\r\n", b">1\r\n+a\r\n", b",1.5\r\n", b"(12345\r\n", b"=5\r\ntxt:a\r\n",
    b"#t\r\n", b"_\r\n",
)  # fmt: skip


@profile
@given(st.lists(st.one_of(st.sampled_from(RESP), st.binary(max_size=6)), max_size=8))
def test_bytes(parts: list[bytes]) -> None:
    """What hiredis makes of any bytes is read, or is a declared error."""
    reader = hiredis.Reader(notEnoughData=...)
    try:
        with reading("redis-app-0", "INFO"):
            reader.feed(b"".join(parts))
            reply = reader.gets(False)
            if reply is not ... and not isinstance(reply, Exception):
                parsing.parse_nodes(text(reply))
                parsing.parse_shards(reply)
    except (InvariantError, hiredis.ProtocolError):
        pass
