"""What moving slots decides without a server: ports, commands, errors, movers, bounds."""

from __future__ import annotations

import asyncio

import pytest

from bootstrap.core.actions import MoveSlots
from bootstrap.core.findings import FindingCode
from bootstrap.core.parsing import ParseError
from bootstrap.core.slots import SlotSet
from bootstrap.errors import (
    BootstrapError,
    CredentialsError,
    NodeUnreachableError,
    RefusedError,
    StaleViewError,
)
from bootstrap.net import server_ports
from bootstrap.net.connection import Access, RedisNode
from bootstrap.net.migration import key_by_key, migrator, redis_atomic, valkey_atomic
from bootstrap.net.migration.key_by_key import windows
from bootstrap.net.migration.link import Batch, Destination, MigrationLink
from bootstrap.net.migration.migrate_command import batches
from bootstrap.net.migration.migrator import SlotMover
from bootstrap.net.migration.reply_errors import most_severe, rejection
from bootstrap.net.migration.server_tasks import Task, TaskRunner, parse_tasks
from bootstrap.net.migration.session import MigrationHistory, MigrationSession, Pair, Progress
from bootstrap.net.polling import SHORTLY, retry, wait_for
from bootstrap.net.pool import ConnectionPool
from bootstrap.net.replies import Command, ReplyError
from tests.support import builders, virtual_time
from tests.support.naming import Names

TO = Destination(ip="10.0.0.9", port=6380, uses_tls=True, node_timeout_s=2.0)


def pair(*, commands: frozenset[str] = frozenset(), **fields: object) -> Pair:
    """Return two primaries."""
    source, target, _ = builders.view("3x0", commands=commands, **fields).nodes
    return Pair(source, target)


def session(ends: Pair, access: Access | None = None) -> MigrationSession:
    return MigrationSession(
        pool=ConnectionPool(access or Access(), Names()),
        primaries={ends.source.node_id: ends.source, ends.target.node_id: ends.target},
        stop=asyncio.Event(),
        history=MigrationHistory(),
    )


def link(access: Access, *, database: int = 0) -> MigrationLink:
    """Return a lane over connections that are never used."""
    ends = pair()
    pool = ConnectionPool(access, Names())
    return MigrationLink(
        session=session(ends, access),
        pair=ends,
        destination=TO,
        source=pool.open(ends.source.endpoint),
        target=pool.open(ends.target.endpoint),
        database=database,
    )


@pytest.mark.parametrize(
    ("settings", "plain", "tls", "connects_with_tls"),
    [
        ({"port": "6379"}, 6379, 0, False),
        ({"port": "6379", "tls-port": "6380", "tls-cluster": "no"}, 6379, 6380, False),
        ({"port": "6379", "tls-port": "6380", "tls-cluster": "yes"}, 6379, 6380, True),
        ({"port": "0", "tls-port": "6379", "tls-cluster": "yes"}, 0, 6379, True),
        ({"port": "6379", "cluster-announce-port": "30001"}, 30001, 0, False),
        (
            {
                "port": "6379",
                "tls-port": "6380",
                "tls-cluster": "yes",
                "cluster-announce-port": "30001",
                "cluster-announce-tls-port": "30002",
            },
            30001,
            30002,
            True,
        ),
        (
            {"port": "0", "tls-port": "6380", "tls-cluster": "yes", "cluster-announce-port": "9"},
            0,
            6380,
            True,
        ),
    ],
)
def test_ports_follow_the_settings(
    settings: dict[str, str], plain: int, tls: int, *, connects_with_tls: bool
) -> None:
    """An announced port replaces the one that the server listens on, if it listens at all."""
    ports = server_ports.parse(settings)
    assert ports.port(tls=False) == plain
    assert ports.port(tls=True) == tls
    assert ports.connects_with_tls is connects_with_tls
    assert ports.node_timeout_s == 15.0


@pytest.mark.parametrize(
    ("access", "command"),
    [
        (Access(), ("", 0, 500, "KEYS", b"a", b"b")),
        (Access(passwords=("pw",)), ("", 0, 500, "AUTH", "pw", "KEYS", b"a", b"b")),
        (
            Access(username="me", passwords=("pw",)),
            ("", 0, 500, "AUTH2", "me", "pw", "KEYS", b"a", b"b"),
        ),
        (Access(passwords=("Keys",)), (b"a", 0, 500, "AUTH", "Keys")),
        (Access(username="keys", passwords=("pw",)), (b"a", 0, 500, "AUTH2", "keys", "pw")),
    ],
)
def test_a_credential_that_reads_keys_needs_the_form_with_one_key(
    access: Access, command: Command
) -> None:
    """A server before 7.0 would take what follows the credential for the keys."""
    lane = link(access)
    keys = [b"a", b"b"][: lane.most_keys]
    assert lane.migrate(Batch(5, keys)) == ("MIGRATE", "10.0.0.9", 6380, *command)


def test_migrate_names_database_and_replace_before_the_keys() -> None:
    """KEYS takes all that follows it."""
    command = link(Access(passwords=("pw",)), database=3).migrate(Batch(5, [b"a"]), replace=True)
    assert command[4:] == (3, 500, "REPLACE", "AUTH", "pw", "KEYS", b"a")


@pytest.mark.parametrize(
    ("node_timeout_s", "silence_s", "blocked_s"),
    [(15.0, 0.5, 6.0), (2.0, 0.5, 0.8), (1.0, 0.25, 0.4), (0.2, 0.1, 0.08)],
)
def test_migrate_waits_for_a_part_of_the_node_timeout(
    node_timeout_s: float, silence_s: float, blocked_s: float
) -> None:
    """All lanes together block the source for less than that, so that it is not failed over."""
    to = Destination(ip="10.0.0.9", port=6379, node_timeout_s=node_timeout_s)
    assert to.timeout_s(Batch(5, [b"a"])) == silence_s
    assert to.most_blocked_s == pytest.approx(blocked_s)
    assert to.timeout_s(Batch(5, [b"a"], 20_000_000)) == silence_s + 2


def test_unreachable_target_is_named_with_port_and_protocol() -> None:
    """A person finds the rule of the firewall, or the setting that differs."""
    error = link(Access()).unreachable("IOERR error or timeout connecting", is_final=True)
    assert isinstance(error, RefusedError)
    assert (error.node, error.command) == ("redis-app-0", "MIGRATE")
    assert "redis-app-1 at 10.0.0.9:6380 with TLS (its tls-cluster is yes)" in error.cause
    assert "port 6380 of redis-app-1" in error.remedy
    assert isinstance(link(Access()).unreachable("IOERR"), StaleViewError)


@pytest.mark.parametrize(
    ("message", "kind", "node", "words"),
    [
        ("TRYAGAIN Multiple keys", StaleViewError, "source", ""),
        ("ERR Unknown node abc", StaleViewError, "source", ""),
        ("ERR I don't know about node abc", StaleViewError, "source", ""),
        ("NOPERM User x has no permissions to run the 'migrate' command", CredentialsError,
         "source", "+migrate"),
        ("ERR Target instance replied with error: OOM command not allowed", RefusedError,
         "target", "maxmemory"),
        ("ERR Target instance replied with error: NOPERM run the 'restore-asking' command",
         CredentialsError, "target", "+restore-asking"),
        ("ERR Target instance replied with error: WRONGPASS invalid", CredentialsError, "target",
         "BOOTSTRAP_PASSWORD_FILE"),
        ("ERR Target instance replied with error: LOADING", StaleViewError, "target", ""),
        ("ERR something else", RefusedError, "source", "log"),
    ],
)  # fmt: skip
def test_error_replies_name_who_refused(
    message: str, kind: type[BootstrapError], node: str, words: str
) -> None:
    """The target is named where the source only passes its answer on."""
    error = rejection(ReplyError(message, node="source", command="MIGRATE"), target="target")
    assert isinstance(error, kind)
    assert error.node == node
    assert error.command is not None
    assert "MIGRATE" in error.command
    assert words in error.remedy


def test_an_error_that_repeating_cannot_fix_is_the_most_severe() -> None:
    """Other errors may be consequences of that one."""
    stale = StaleViewError(cause="a", remedy="b")
    refused = RefusedError(cause="a", remedy="b")
    assert most_severe([stale, refused, stale]) is refused


REDIS_TASK = [b"id", b"abc", b"slots", b"0-5 9", b"source", b"x", b"state", b"failed",
              b"last_error", b"invalid internal password", b"retries", b"2"]  # fmt: skip
VALKEY_TASK = [b"name", b"abc", b"slot_ranges", b"0-5 9", b"state", b"success", b"message", b""]


def test_tasks_of_both_engines_are_read() -> None:
    """A task of Redis that waits for a late secret has not ended, though it says failed."""
    redis, valkey = parse_tasks([REDIS_TASK, VALKEY_TASK])
    slots = SlotSet.parse("0-5 9")
    assert redis == Task(
        task_id="abc", slots=slots, state="failed", message="invalid internal password", retries=2
    )
    assert not redis.has_ended
    assert valkey == Task(task_id="abc", slots=slots, state="success", message="", retries=0)
    assert valkey.has_ended
    assert valkey.has_succeeded


@pytest.mark.parametrize(("seconds", "asked"), [(0.5, 1), (2.0, 2)])
def test_a_late_answer_of_the_target_is_not_relied_on(
    monkeypatch: pytest.MonkeyPatch, seconds: float, asked: int
) -> None:
    """A program that was halted meanwhile asks the target for its id once more."""
    lane, commands = link(Access()), []

    async def call(_node: RedisNode, *command: str) -> bytes:
        commands.append(command)
        await asyncio.sleep(seconds if len(commands) == 1 else 0)
        return lane.pair.target.node_id.encode()

    monkeypatch.setattr(RedisNode, "call", call)
    virtual_time.run(lane.check_target())
    assert commands == [("CLUSTER", "MYID")] * asked


@pytest.mark.parametrize(
    "reply",
    [b"no list", None, 5, [b"no list"], [[b"slots", b"x-y"]], [[b"retries", b"many"]]],
)
def test_malformed_tasks_are_an_error_of_the_reply(reply: object) -> None:
    """Nothing is taken for `no task`."""
    with pytest.raises(ParseError):
        parse_tasks(reply)  # type: ignore[arg-type]  # what a peer can send


@pytest.mark.parametrize(
    ("source", "target", "mover"),
    [
        ({"MIGRATION"}, {"MIGRATION"}, redis_atomic.move),
        ({"MIGRATESLOTS"}, {"MIGRATESLOTS"}, valkey_atomic.move),
        ({"MIGRATESLOTS"}, {"MIGRATION"}, key_by_key.move),
        ({"MIGRATION"}, set(), key_by_key.move),
        (set(), {"MIGRATESLOTS"}, key_by_key.move),
    ],
)
def test_the_mover_is_the_best_that_both_ends_have(
    source: set[str], target: set[str], mover: SlotMover
) -> None:
    """What one end cannot do is done key by key."""
    ends = Pair(pair(commands=frozenset(source)).source, pair(commands=frozenset(target)).target)
    assert migrator.mover(session(ends), ends) is mover


def test_slots_of_which_the_target_has_keys_go_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server moves them by itself; the next pass moves the others as before."""
    ends = pair(commands=frozenset({"MIGRATESLOTS"}))
    ours, moved = session(ends), []
    seven = SlotSet.of([7])

    async def by_keys(_session: MigrationSession, _pair: Pair, slots: SlotSet) -> None:
        moved.append(("by keys", slots))

    async def by_itself(_session: MigrationSession, _pair: Pair, slots: SlotSet) -> None:
        moved.append(("by itself", slots))

    runner = TaskRunner(session=ours, pair=ends)
    runner.leave_to_keys(SlotSet())
    with pytest.raises(StaleViewError):
        runner.leave_to_keys(seven)
    move = MoveSlots(
        source=ends.source.node_id,
        target=ends.target.node_id,
        slots=SlotSet.span(0, 8),
        reason=FindingCode.SLOTS_UNEVEN,
    )
    monkeypatch.setattr(key_by_key, "move", by_keys)
    monkeypatch.setattr(valkey_atomic, "move", by_itself)
    asyncio.run(migrator.move(ours, [move]))
    assert moved == [("by keys", seven), ("by itself", SlotSet.span(0, 8) - seven)]


def test_processes_that_cannot_log_in_to_each_other_move_key_by_key() -> None:
    """The pair is remembered until one of the processes was restarted."""
    ends = pair(commands=frozenset({"MIGRATION"}))
    ours = session(ends)
    ours.history.by_keys.add(ends.processes)
    assert migrator.mover(ours, ends) is key_by_key.move
    restarted = pair(commands=frozenset({"MIGRATION"}), run_id="another")
    assert migrator.mover(ours, restarted) is redis_atomic.move


def test_windows_are_bounded_in_slots_and_keys() -> None:
    """A slot with more keys than a window has goes alone."""
    counts = dict.fromkeys(range(80), 1) | {80: 5000, 81: 3000, 82: 2000}
    cut = list(windows(pair(keys=1, used_memory=1), counts))
    assert cut == [[*range(64)], [*range(64, 80)], [80], [81], [82]]


def test_windows_are_bounded_in_bytes() -> None:
    """Keys of 32 MiB on average: two in a window."""
    cut = list(windows(pair(keys=2, used_memory=64 << 20), dict.fromkeys(range(4), 1)))
    assert cut == [[0, 1], [2, 3]]


def test_batches_are_bounded_in_keys_and_bytes() -> None:
    """A big key goes alone, and no batch has keys of two slots."""
    names = [b"%d" % number for number in range(201)]
    assert [len(b.keys) for b in batches({1: names, 2: [b"x"]}, {}, None)] == [200, 1, 1]
    assert [len(b.keys) for b in batches({1: names[:3]}, {}, 1)] == [1, 1, 1]
    sizes = {b"0": 1 << 20, b"1": 5 << 20, b"2": 10}
    cut = list(batches({1: names[:3]}, sizes, None))
    assert [(b.keys, b.size) for b in cut] == [
        ([b"0"], 1 << 20), ([b"1"], 5 << 20), ([b"2"], 10)
    ]  # fmt: skip


def test_the_slower_of_slots_and_keys_gives_the_time_that_is_left() -> None:
    """Nothing is said before anything has moved."""
    progress = Progress(slots_total=10, keys_total=100)
    assert progress.left_s is None
    progress.slots_moved, progress.keys_moved = 5, 25
    progress.started_s -= 10
    assert progress.left_s == pytest.approx(30, rel=0.1)
    assert progress.keys_per_s == pytest.approx(2.5, rel=0.1)


def test_waiting_ends_with_the_answer() -> None:
    """None is no answer yet."""
    answers = iter([None, None, "answer", "later"])

    async def ask() -> str | None:
        return next(answers)

    assert virtual_time.run(wait_for(ask, pause=SHORTLY)) == "answer"


def test_retrying_ends_with_the_last_transient_error_and_with_others_at_once() -> None:
    """Only what may pass by itself is repeated."""
    attempts: list[int] = []

    async def work() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise NodeUnreachableError(cause="a", remedy="b")
        raise CredentialsError(cause="c", remedy="d")

    with pytest.raises(CredentialsError):
        virtual_time.run(retry(work, for_s=60))
    assert len(attempts) == 3
