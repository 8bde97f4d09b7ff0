"""What becomes of a key that both ends of a move hold, and in which order slots change hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from bootstrap.core.parsing import Reply
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import NodeView
from bootstrap.errors import InvariantError, NodeUnreachableError, RefusedError, StaleViewError
from bootstrap.net.connection import Access, RedisNode
from bootstrap.net.migration.key_conflicts import source_stays
from bootstrap.net.migration.link import Destination, MigrationLink
from bootstrap.net.migration.session import MigrationHistory, MigrationSession, Pair
from bootstrap.net.migration.slot_states import SlotStates
from bootstrap.net.pool import ConnectionPool
from bootstrap.net.replies import Command, ReplyError
from tests.support import builders, virtual_time
from tests.support.naming import Names

T = TypeVar("T")
SOURCE, TARGET, THIRD = builders.view("3x0").nodes
Answer = Reply | ReplyError | Callable[[Command], Reply | ReplyError]
SENT: list[tuple[str, Command]] = []


class Scripted(RedisNode):
    """A connection whose replies depend on the first words of a command."""

    def __init__(self, node: NodeView, answers: dict[str, Answer]) -> None:
        super().__init__(name=node.name, host="", ip="10.0.0.1", port=1, access=Access())
        self.answers = answers

    async def pipeline(
        self, commands: Sequence[Command], **_options: object
    ) -> list[Reply | ReplyError]:
        """Take note of the commands, and answer each of them."""
        SENT.extend((self.name, command) for command in commands)
        return [self._answer(command) for command in commands]

    def _answer(self, command: Command) -> Reply | ReplyError:
        words = " ".join(str(word) for word in command)
        found = next((a for start, a in self.answers.items() if words.startswith(start)), b"OK")
        if isinstance(found, ReplyError) and found.code == "GONE":
            raise NodeUnreachableError(node=self.name, cause="gone", remedy="wait")
        return found(command) if callable(found) else found


class Pool(ConnectionPool):
    """A pool whose shared connections are all the same."""

    def __init__(self, node: RedisNode) -> None:
        super().__init__(Access(), Names())
        self.shared = node

    def client(self, name: str) -> RedisNode:
        """Return it, whatever the name."""
        assert name == self.shared.name
        return self.shared


def link(
    source: dict[str, Answer], target: dict[str, Answer], *, database: int = 0, **third: Answer
) -> MigrationLink:
    """Return a lane between two scripted nodes; the third one answers SETSLOT."""
    SENT.clear()
    session = MigrationSession(
        pool=Pool(Scripted(THIRD, {"CLUSTER SETSLOT": third.get("setslot", b"OK")})),
        primaries={n.node_id: n for n in (SOURCE, TARGET, THIRD)},
        stop=asyncio.Event(),
        history=MigrationHistory(),
    )
    return MigrationLink(
        session=session,
        pair=Pair(SOURCE, TARGET),
        destination=Destination(ip="10.0.0.2", port=6379),
        source=Scripted(SOURCE, source),
        target=Scripted(TARGET, target),
        database=database,
    )


def run(work: Coroutine[Any, Any, T]) -> T:
    return virtual_time.run(work)


def decided(lane: MigrationLink, *, serves: bool = False, since_open: bool = False) -> bool:
    return run(source_stays(lane, 5, b"key", target_serves=serves, is_since_open=since_open))


def value(kind: bytes, *elements: Reply, size: int = 10) -> dict[str, Answer]:
    """Return the replies of a node that holds a value; its dump depends on the order."""
    dump = kind + repr(elements).encode()
    listed = list(elements)
    return {"MEMORY": size, "DUMP": dump, "SMEMBERS": listed, "HGETALL": listed}


SET, HASH, STRING = b"\x02", b"\x04", b"\x00"
NOTHING: dict[str, Answer] = {"MEMORY": None, "DUMP": None}


@pytest.mark.parametrize(
    ("ours", "theirs", "are_equal"),
    [
        (value(STRING, b"a"), value(STRING, b"a"), True),
        (value(STRING, b"a"), value(STRING, b"b"), False),
        (value(SET, b"a", b"b"), value(SET, b"b", b"a"), True),
        (value(SET, b"a", b"b"), value(SET, b"b", b"c"), False),
        (value(SET, b"a", b"b"), value(HASH, b"a", b"b"), False),
        (value(HASH, b"a", b"1", b"b", b"2"), value(HASH, b"b", b"2", b"a", b"1"), True),
        (value(HASH, b"a", b"1", b"b", b"2"), value(HASH, b"a", b"2", b"b", b"1"), False),
        (value(STRING, b"a", size=1 << 40), value(STRING, b"a"), False),
        (value(STRING, b"a", size=8 << 20), value(STRING, b"a"), True),
        (value(SET, b"a", b"b", size=8 << 20), value(SET, b"b", b"a"), False),
        (value(SET, b"ab", b"c"), value(SET, b"a", b"bc"), False),
        (value(STRING, b"a"), NOTHING, True),
        (NOTHING, value(STRING, b"a"), True),
    ],
)
def test_copies_are_equal_or_a_person_decides(
    ours: dict[str, Answer], theirs: dict[str, Answer], *, are_equal: bool
) -> None:
    """Elements of sets and hashes come in any order; a value that is too large is not compared."""
    for serves in (False, True):
        lane = link(ours, theirs, database=3)
        if are_equal:
            assert decided(lane, serves=serves) is not serves
        else:
            with pytest.raises(RefusedError) as refused:
                decided(lane, serves=serves)
            assert refused.value.node == "redis-app-0"
            assert "redis-app-0 and redis-app-1 both hold a key of slot 5" in refused.value.cause
            assert "GETKEYSINSLOT 5 1000 after SELECT 3 to both" in refused.value.remedy


@pytest.mark.parametrize(
    ("info", "compares"),
    [
        ("run_id:run-0\r\nrole:master", False),
        ("run_id:other\r\nrole:master", True),
        ("run_id:run-0\r\nrole:slave", True),
    ],
)
def test_the_source_stays_where_the_target_was_empty_and_the_source_was_not_restarted(
    info: str, *, compares: bool
) -> None:
    """A restart or a failover may have brought a deleted key back, so the copies are compared."""
    ours = {**value(STRING, b"a"), "INFO": info.encode()}
    assert decided(link(ours, value(STRING, b"a")), since_open=True)
    assert any("DUMP" in command for _, command in SENT) is compares


@pytest.mark.parametrize(("kind", "reply"), [(b"", 7), (SET, 7), (HASH, None)])
def test_a_value_that_is_none_is_an_error_and_no_difference(kind: bytes, reply: Reply) -> None:
    """Nothing is deleted or replaced because of a reply that cannot be read."""
    ours = {**value(kind, b"a"), "SMEMBERS": reply, "HGETALL": reply}
    theirs = value(kind, b"b")
    if not kind:
        ours["DUMP"] = reply
    with pytest.raises(InvariantError) as refused:
        decided(link(ours, theirs))
    assert refused.value.node == "redis-app-0"
    with pytest.raises(InvariantError) as refused:
        decided(link(theirs, ours))
    assert refused.value.node == "redis-app-1"


def refused(words: str) -> ReplyError:
    return ReplyError(words, node="redis-app-0", command="CLUSTER SETSLOT")


def states(lane: MigrationLink) -> SlotStates:
    return SlotStates(lane, [5, 6])


def sent(*states: str) -> list[tuple[str, object, object]]:
    """Return who was sent which SETSLOT, in order."""
    every = [(node, command) for node, command in SENT if command[:2] == ("CLUSTER", "SETSLOT")]
    return [(node[-1:], c[2], c[3]) for node, c in every if c[3] in states]


def test_the_target_imports_before_the_source_migrates() -> None:
    """Slots without a key at the target are remembered as empty since the source has them."""
    counts: dict[str, Answer] = {"CLUSTER COUNT": lambda command: int(command[2] == 6)}
    window = states(link({}, counts))
    run(window.open())
    assert sent("IMPORTING", "MIGRATING") == [
        ("1", 5, "IMPORTING"), ("1", 6, "IMPORTING"), ("0", 5, "MIGRATING"), ("0", 6, "MIGRATING"),
    ]  # fmt: skip
    assert window.untouched() == {5}


def nodes_of(third: str) -> bytes:
    """Return the source's view, in which the third node owns these slots, and the target 5."""
    ends = ((SOURCE, "myself,master", "6"), (TARGET, "master", "5"), (THIRD, "master", third))
    lines = (
        f"{n.node_id} {n.address.ip}:6379@16379 {flags} - 0 0 1 connected {owned}"
        for n, flags, owned in ends
    )
    return "\n".join(lines).encode()


def test_slots_that_one_end_gave_away_must_be_at_the_other() -> None:
    """A slot that a third node owns ends the move, and other refusals are errors."""
    owner = "ERR I'm not the owner of hash slot 5"
    answers: dict[str, Answer] = {
        "CLUSTER SETSLOT 5": refused(owner), "CLUSTER NODES": nodes_of("")
    }  # fmt: skip
    window = states(link(answers, {"CLUSTER COUNT": 0}))
    run(window.open())
    assert (window.not_at_source, window.served_by_target) == ({5}, set())
    answers = {"CLUSTER SETSLOT 6": refused(owner), "CLUSTER NODES": nodes_of("6")}
    source = {**answers, "CLUSTER NODES": nodes_of("6").replace(b"connected 6\n", b"connected\n")}
    with pytest.raises(StaleViewError):
        run(states(link(source, {"CLUSTER COUNT": 0})).open())
    loading: dict[str, Answer] = {"CLUSTER SETSLOT": refused("LOADING Redis is loading")}
    with pytest.raises(StaleViewError):
        run(states(link({}, {"CLUSTER COUNT": 0, **loading})).open())


def test_the_target_owns_a_slot_before_the_source_and_the_others_hear_of_it() -> None:
    """The source may be a replica by then, and another node may be gone."""
    gossip: dict[str, Answer] = {
        "CLUSTER SETSLOT": refused("ERR You can use SETSLOT only with masters.")
    }
    for setslot in (b"OK", refused("GONE")):
        window = states(link(gossip, {}, setslot=setslot))
        run(window.give_to_target([5]))
        assert sent("NODE") == [(node, 5, "NODE") for node in ("1", "0", "2")]
    with pytest.raises(RefusedError):
        run(states(link({"CLUSTER SETSLOT": refused("ERR no")}, {})).give_to_target([5]))


def test_a_late_replica_is_asked_for_again() -> None:
    """Valkey answers NOREPLICAS when one is late; a slot that is refused is not given away."""
    late: list[Reply | ReplyError] = [b"OK", refused("NOREPLICAS Not enough good replicas")]
    window = states(link({}, {"CLUSTER SETSLOT 5": lambda _command: late.pop()}))
    run(window.give_to_target([5, 6]))
    assert sent("NODE")[:3] == [("1", 5, "NODE"), ("1", 6, "NODE"), ("1", 5, "NODE")]
    window = states(link({}, {"CLUSTER SETSLOT 5": refused("BUSY script")}))
    with pytest.raises(StaleViewError):
        run(window.give_to_target([5, 6]))
    assert [slot for node, slot, _ in sent("NODE") if node == "0"] == [6]


def test_a_move_is_reverted_at_the_source_first() -> None:
    """Slots of which the target holds keys, or that were given away, stay as they are."""
    window = states(link({}, {"CLUSTER COUNT": lambda command: int(command[2] == 6)}))
    run(window.revert([]))
    assert sent("STABLE", "MIGRATING") == [("0", 5, "STABLE"), ("1", 5, "STABLE")]
    window = states(link({}, {"CLUSTER COUNT": 0}))
    run(window.revert([5, 6]))
    assert sent("STABLE", "MIGRATING") == []


def test_only_slots_that_still_migrate_without_keys_are_given_away() -> None:
    """Another run or a person may have closed one meanwhile."""
    open_slots = f"[5->-{TARGET.node_id}] [6->-{THIRD.node_id}]".encode()
    view = nodes_of("").replace(b"connected 6\n", b"connected 5-6 " + open_slots + b"\n")
    for count, left in ((0, [5]), (1, [])):
        window = states(link({"CLUSTER NODES": view, "CLUSTER COUNT": count}, {}))
        assert run(window.still_migrating([5, 6])) == left


def test_stray_keys_leave_a_source_that_imports() -> None:
    """The owner is closed first, and a source that knows another owner is told of it before."""
    window = states(link({}, {}))
    run(window.open_source_only())
    assert sent("STABLE", "NODE", "IMPORTING") == [
        ("1", 5, "STABLE"), ("1", 6, "STABLE"), ("0", 5, "IMPORTING"), ("0", 6, "IMPORTING"),
    ]  # fmt: skip
    assert not SlotSet.of([5, 6]) - SOURCE.slots
    run(window.close_source([6]))
    assert sent("STABLE")[-1] == ("0", 6, "STABLE")
