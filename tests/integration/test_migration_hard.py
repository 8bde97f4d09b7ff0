"""Moves under conditions that one cluster for all tests cannot have."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping

import pytest

from bootstrap.core.slots import SlotSet
from bootstrap.errors import BootstrapError, CredentialsError, RefusedError, StaleViewError
from bootstrap.net.connection import Access, RedisNode
from bootstrap.net.migration.reply_errors import rejection
from bootstrap.net.migration.session import Progress
from bootstrap.net.replies import ReplyError
from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.pod import Pod
from tests.support.migration_rig import Traffic, fill, keys_of, read, running, wait_until
from tests.support.rig import count_keys, info_of, nodes_of

pytestmark = pytest.mark.redis

ATOMIC = ("redis-8.6", "valkey-9.1")
BY_KEYS = ("redis-7.0", "valkey-8.1")


@pytest.fixture
def named(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """The server that the test names."""
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    return find_server(installed[request.param])


@pytest.mark.parametrize("named", ["redis-6.2", *ATOMIC], indirect=True)
def test_passwords_are_tried_in_order(named: ServerBinary) -> None:
    """MIGRATE logs in with the password that the target takes, and says so when none is."""
    slots = SlotSet.span(0, 9)
    with running(named, password="secret") as rig:
        held = fill(rig, slots, each=5)
        rig.access = Access(passwords=("older", "secret"))
        rig.open_both(0, 0, 2)
        rig.move((0, 2, slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held
        rig.open_both(20, 0, 2)
        fill(rig, [21], each=1)
        rig.open_both(21, 0, 2)
        rig.pods[2].command("CONFIG", "SET", "requirepass", "newer")
        rig.pods[2].options = {"password": "newer"}
        rig.access = Access(passwords=("secret", "newer"))
        rig.move((0, 2, SlotSet.of([20, 21])))
        assert {20, 21} <= set(rig.owners_when_agreed()[2])


@pytest.mark.parametrize("named", BY_KEYS, indirect=True)
def test_big_keys_go_alone(named: ServerBinary) -> None:
    """A key that is larger than a batch arrives, and so do the small ones around it."""
    slots = SlotSet.span(0, 4)
    with running(named) as rig:
        held = fill(rig, slots, each=50)
        big, many, *_ = keys_of(2, 60)[50:]
        with rig.client(0) as client:
            client.setrange(big, 90_000_000, "end")
            client.rpush(many, *(b"x" * 1000 for _ in range(20_000)))
        rig.move((0, 2, slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        with rig.client(2) as client:
            assert client.strlen(big) == 90_000_003
            assert client.llen(many) == 20_000
        assert read(rig, held) == held


@pytest.mark.parametrize("named", BY_KEYS, indirect=True)
def test_killed_target_makes_the_loop_look_again(named: ServerBinary) -> None:
    """A move that lost its target goes on when that is back, and no key is lost."""
    slots = SlotSet.span(0, 999)
    # By default a server puts writes off while a slow disk syncs, and a kill loses them.
    with running(named, appendonly=True, config={"appendfsync": "always"}) as rig:
        held = fill(rig, slots, each=3)

        def end(progress: Progress) -> None:
            if progress.slots_moved and rig.pods[2].is_running:
                rig.pods[2].kill()

        with pytest.raises(StaleViewError):
            rig.move((0, 2, slots), on_progress=end)
        rig.pods[2].start()
        wait_until(lambda: all(node.state_ok for node in rig.observe().nodes))
        source = rig.observe().nodes[0]
        rest = slots & (source.slots | source.open_slots)
        assert rest
        rig.move((0, 2, rest))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held


@pytest.mark.parametrize("named", [*BY_KEYS, *ATOMIC], indirect=True)
def test_news_that_is_late_makes_the_loop_look_again(named: ServerBinary) -> None:
    """A role, a member or a key that one node has not heard of yet is no reason to refuse."""
    with running(named) as rig:
        ids = rig.ids()
        rig.put(0, keys_of(5, 1)[0], "value")
        rig.pods[2].command("CLUSTER", "REPLICATE", ids[0])
        wait_until(lambda: "slave" in nodes_of(rig.pods[1])[ids[2]].flags)
        late: list[tuple[Pod, int, str, str]] = [
            (rig.pods[1], 5, "IMPORTING", ids[2]),
            (rig.pods[1], 5, "IMPORTING", "0" * 40),
            (rig.pods[1], 5, "NODE", "0" * 40),
            (rig.pods[0], 5, "NODE", ids[1]),
            (rig.pods[2], 5, "IMPORTING", ids[0]),
        ]
        for pod, slot, state, peer in late:
            error = asyncio.run(answer(pod, "CLUSTER", "SETSLOT", slot, state, peer))
            assert isinstance(error, StaleViewError), (state, peer, error)


async def answer(pod: Pod, *command: str | int) -> BootstrapError | None:
    """Return what a move makes of a pod's error reply."""
    access = Access()
    client = RedisNode(name=pod.name, host=pod.fqdn, ip=pod.address, port=pod.port, access=access)
    reply = (await client.pipeline([command]))[0]
    await client.close()
    return rejection(reply) if isinstance(reply, ReplyError) else None


@pytest.mark.parametrize("named", BY_KEYS, indirect=True)
def test_silent_target_costs_clients_only_time(named: ServerBinary) -> None:
    """Copies that a MIGRATE left when its target fell silent are resolved, whatever was written."""
    slots = SlotSet.span(0, 999)
    with running(named) as rig:
        held = fill(rig, slots, each=3)
        target = rig.pods[2]
        waits: list[threading.Timer] = []

        def fall_silent(progress: Progress) -> None:
            if progress.slots_moved and not waits:
                target.pause()
                waits.append(threading.Timer(2.5, target.resume))
                waits[0].start()

        with Traffic(rig, slots) as traffic:
            traffic.wait_for(50)
            for _ in range(10):
                source = rig.observe().nodes[0]
                rest = slots & (source.slots | source.open_slots)
                if not rest:
                    break
                with contextlib.suppress(StaleViewError):
                    rig.move((0, 2, rest), on_progress=fall_silent)
            traffic.wait_for(50)
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert waits
        assert traffic.errors == []
        assert traffic.lost() == 0
        assert read(rig, held) == held


@pytest.mark.parametrize("named", ATOMIC, indirect=True)
def test_task_of_another_run_is_waited_for(named: ServerBinary) -> None:
    """A task that runs already is not collided with; afterwards the slots are looked for again."""
    slots = SlotSet.span(0, 99)
    with running(named) as rig:
        held = fill(rig, slots, each=20)
        with rig.client(0) as client:
            for key in keys_of(50, 420)[20:]:
                client.set(key, b"x" * 100_000)
        if named.engine == "redis":
            rig.pods[2].command("CLUSTER", "MIGRATION", "IMPORT", 0, 99)
        else:
            words = ("SLOTSRANGE", 0, 99, "NODE", rig.ids()[2])
            rig.pods[0].command("CLUSTER", "MIGRATESLOTS", *words)
        with pytest.raises(StaleViewError):
            rig.move((0, 2, slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held


@pytest.mark.parametrize("named", ATOMIC, indirect=True)
def test_stop_cancels_a_task(named: ServerBinary) -> None:
    """A cancelled task leaves all its slots at one node, and the cluster healthy."""
    slots = SlotSet.span(0, 99)
    with running(named) as rig:
        with rig.client(0) as client:
            for key in keys_of(50, 1000):
                client.set(key, b"x" * 100_000)

        def end(progress: Progress) -> None:
            rig.stop.set()

        rig.move((0, 2, slots), on_progress=end)
        owned = rig.owners_when_agreed()
        assert slots - owned[0] == SlotSet() or slots - owned[2] == SlotSet()
        assert sum(count_keys(pod) for pod in rig.pods) >= 1000


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_stop_does_not_cancel_a_short_task(named: ServerBinary) -> None:
    """A source that cancels while it hands over accepts writes that are lost."""
    slots = SlotSet.span(0, 99)
    with running(named) as rig:
        with rig.client(0) as client:
            for key in keys_of(50, 200):
                client.set(key, b"x" * 100_000)

        def stop_at_the_first_task() -> None:
            wait_until(lambda: bool(rig.pods[0].command("CLUSTER", "GETSLOTMIGRATIONS")))
            rig.stop.set()

        stopper = threading.Thread(target=stop_at_the_first_task)
        stopper.start()
        rig.move((0, 2, slots))
        stopper.join()
        assert rig.stop.is_set()
        assert slots - rig.owners_when_agreed()[2] == SlotSet()


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
@pytest.mark.parametrize("is_open", [True, False])
def test_keys_of_all_databases_move(named: ServerBinary, *, is_open: bool) -> None:
    """Every database of a slot moves, and each key stays in its own."""
    with running(named, config={"cluster-databases": "4"}) as rig:
        key = keys_of(5, 1)[0]
        with rig.client(0) as client:
            for database in (0, 3):
                client.execute_command("SELECT", database)
                client.set(key, database)
        if is_open:
            rig.open_both(5, 0, 2)
        rig.move((0, 2, SlotSet.span(0, 9)))
        assert set(range(10)) <= set(rig.owners_when_agreed()[2])
        with rig.client(2) as client:
            for database in (0, 3):
                client.execute_command("SELECT", database)
                assert client.get(key) == str(database).encode()


@pytest.mark.parametrize("named", ["redis-6.2", *BY_KEYS], indirect=True)
@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("~*", "+@all", "-migrate"), "+migrate"),
        (("~*", "+@all", "-select"), "+select"),
        (("~another*", "+@all"), "~*"),
    ],
)
def test_missing_permission_is_named(
    named: ServerBinary, rules: tuple[str, ...], missing: str
) -> None:
    """The error names the rule that a user lacks for MIGRATE, or for its part at the target."""
    with running(named) as rig:
        fill(rig, [0], each=1)
        for pod in rig.pods:
            pod.command("ACL", "SETUSER", "mover", "on", ">pw", *rules)
        rig.access = Access(username="mover", passwords=("pw",))
        with pytest.raises(CredentialsError) as caught:
            rig.move((0, 2, SlotSet.of([0])))
        assert missing in caught.value.remedy


@pytest.mark.parametrize("named", ["redis-7.0"], indirect=True)
def test_missing_permission_at_the_target_is_named_and_slots_are_closed(
    named: ServerBinary,
) -> None:
    """The pod that refuses is named, not the one that sends, and no untouched slot stays open."""
    slots = SlotSet.span(0, 9)
    with running(named) as rig:
        held = fill(rig, slots, each=3)
        for pod in rig.pods:
            pod.command("ACL", "SETUSER", "mover", "on", ">pw", "~*", "+@all")
        rig.pods[2].command("ACL", "SETUSER", "mover", "-restore-asking")
        rig.access = Access(username="mover", passwords=("pw",))
        with pytest.raises(CredentialsError) as caught:
            rig.move((0, 2, slots))
        assert caught.value.node == rig.pods[2].name
        assert "restore-asking" in caught.value.remedy
        assert slots - rig.owners_when_agreed()[0] == SlotSet()
        assert read(rig, held) == held


@pytest.mark.parametrize("named", BY_KEYS, indirect=True)
def test_full_target_is_named_and_only_split_slots_stay_open(named: ServerBinary) -> None:
    """What the target took before its memory was full stays there, and is counted."""
    slots = SlotSet.span(0, 999)
    with running(named) as rig:
        held = fill(rig, slots, each=5)
        target = rig.pods[2]
        used = int(info_of(target, "INFO", "memory")["used_memory"])
        seen: list[int] = []

        def fill_up(progress: Progress) -> None:
            seen.append(progress.slots_moved)
            if progress.slots_moved:
                target.command("CONFIG", "SET", "maxmemory", 1000)

        target.command("CONFIG", "SET", "maxmemory", used + 50_000_000)
        with pytest.raises(RefusedError) as caught:
            rig.move((0, 2, slots), on_progress=fill_up)
        assert caught.value.node == target.name
        assert "maxmemory" in caught.value.remedy
        source, _, taker = rig.observe().nodes
        assert 0 < len(taker.slots) == seen[-1] < len(slots)
        for slot in source.open_slots | taker.open_slots:
            assert all(pod.command("CLUSTER", "COUNTKEYSINSLOT", slot) for pod in rig.pods[::2])
        target.command("CONFIG", "SET", "maxmemory", 0)
        rig.move((0, 2, slots & source.slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_source_that_cannot_log_in_sends_key_by_key(named: ServerBinary) -> None:
    """Without primaryauth the servers cannot hand slots over, but MIGRATE has our password."""
    slots = SlotSet.span(0, 99)
    with running(named, password="secret") as rig:
        held = fill(rig, slots, each=5)
        rig.pods[0].command("CONFIG", "SET", "primaryauth", "")
        with pytest.raises(StaleViewError) as caught:
            rig.move((0, 2, slots))
        assert "primaryauth" in caught.value.cause
        rig.move((0, 2, slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held


@pytest.mark.parametrize("named", ["redis-8.6"], indirect=True)
def test_secret_that_is_late_at_a_new_member_is_waited_for(named: ServerBinary) -> None:
    """Redis logs in to itself with a secret of gossip; the task fails until that has arrived."""
    slots = SlotSet.span(0, 99)
    with running(named) as rig:
        held = fill(rig, slots, each=5)
        *members, new = rig.pods
        old_id = rig.ids()[-1]
        new.kill()
        new.wipe()
        new.start()
        for pod in members:
            pod.command("CLUSTER", "FORGET", old_id)
            new.command("CLUSTER", "MEET", pod.address, pod.port)
        wait_until(lambda: "slots_assigned:16384" in str(new.command("CLUSTER", "INFO")))
        assert rig.move((0, 2, slots)).slots_moved == len(slots)
        assert not rig.history.by_keys
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_keys_of_all_databases_move_in_every_window(named: ServerBinary) -> None:
    """A window that follows one with several databases begins in the first one again."""
    slots = SlotSet.span(0, 199)
    with running(named, config={"cluster-databases": "4"}) as rig:
        names = [keys_of(slot, 1)[0] for slot in slots]
        with rig.client(0) as client:
            for database in (0, 3):
                client.execute_command("SELECT", database)
                for name in names:
                    client.set(name, database)
        for slot in slots:
            rig.open_both(slot, 0, 2)
        rig.move((0, 2, slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        with rig.client(2) as client:
            for database in (0, 3):
                client.execute_command("SELECT", database)
                assert [client.get(name) for name in names] == [str(database).encode()] * len(names)


@pytest.mark.parametrize("named", BY_KEYS, indirect=True)
def test_slots_that_somebody_closed_meanwhile_are_not_taken(named: ServerBinary) -> None:
    """The source serves them again, so the target's claim would delete what was written there."""
    slots = SlotSet.span(0, 9)
    with running(named) as rig:
        held = fill(rig, slots, each=5)

        def close(progress: Progress) -> None:
            if progress.keys_moved == len(held):
                for pod in rig.pods[::2]:
                    pod.command("CLUSTER", "SETSLOT", 5, "STABLE")

        with pytest.raises(StaleViewError):
            rig.move((0, 2, slots), on_progress=close)
        owned = rig.owners_when_agreed()
        assert 5 in owned[0]
        assert slots - SlotSet.of([5]) - owned[2] == SlotSet()


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_key_that_a_migrate_left_in_another_database_goes_to_the_newer_value(
    named: ServerBinary,
) -> None:
    """Whether the target was empty when the slot was opened is known for every database."""
    with running(named, config={"cluster-databases": "4"}) as rig:
        key, stray = keys_of(5, 2)
        with rig.client(0) as client:
            client.execute_command("SELECT", 3)
            client.set(key, "older")
            client.set(stray, "older")
        rig.open_both(5, 0, 2)
        rig.put(2, stray, "another", database=3)
        with pytest.raises(RefusedError) as caught:
            rig.move((0, 2, SlotSet.of([5])))
        assert "SELECT 3" in caught.value.remedy
        rig.put(2, key, "older", database=3)
        with rig.client(0) as client:
            client.execute_command("SELECT", 3)
            client.delete(stray)
        rig.move((0, 2, SlotSet.of([5])))
        assert 5 in rig.owners_when_agreed()[2]
        with rig.client(2) as client:
            client.execute_command("SELECT", 3)
            assert client.mget(key, stray) == [b"older", b"another"]


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_target_with_a_key_in_another_database_survives_a_move(named: ServerBinary) -> None:
    """Keys of a slot that the target does not own are found in every database."""
    with running(named, config={"cluster-databases": "4"}) as rig:
        slots, (key,) = SlotSet.span(5, 9), keys_of(5, 1)
        held = fill(rig, [6], each=5)
        rig.open_both(5, 0, 2)
        rig.put(2, key, "only here", database=3)
        for pod in (rig.pods[0], rig.pods[2]):
            pod.command("CLUSTER", "SETSLOT", 5, "STABLE")
        with pytest.raises(StaleViewError, match="slots 5 that"):
            rig.move((0, 2, slots))
        rig.move((0, 2, slots))
        assert slots - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held
        with rig.client(2) as client:
            client.execute_command("SELECT", 3)
            assert client.get(key) == b"only here"


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_slot_with_keys_in_another_database_is_not_closed_after_a_refusal(
    named: ServerBinary,
) -> None:
    """A slot of which the target has a key in any database stays open."""
    with running(named, config={"cluster-databases": "4"}) as rig:
        for slot in (5, 6):
            with rig.client(0) as client:
                client.set(keys_of(slot, 1)[0], "value")
            rig.open_both(slot, 0, 2)
        rig.put(2, keys_of(6, 2)[1], "value", database=3)
        for pod in rig.pods:
            pod.command("ACL", "SETUSER", "mover", "on", ">pw", "~*", "+@all")
        rig.pods[2].command("ACL", "SETUSER", "mover", "-restore-asking")
        rig.access = Access(username="mover", passwords=("pw",))
        with pytest.raises(CredentialsError):
            rig.move((0, 2, SlotSet.of([5, 6])))
        assert [set(node.open_slots) for node in rig.observe().nodes] == [{6}, set(), {6}]


@pytest.mark.parametrize("named", ["valkey-9.1"], indirect=True)
def test_database_that_may_not_be_selected_is_an_error(named: ServerBinary) -> None:
    """Without SELECT a command on a key of database 3 would reach one of database 0."""
    with running(named, config={"cluster-databases": "4"}) as rig:
        key = keys_of(5, 1)[0]
        with rig.client(0) as client:
            client.set(key, "in 0")
            client.execute_command("SELECT", 3)
            client.set(key, "in 3")
        for pod in rig.pods:
            pod.command("ACL", "SETUSER", "mover", "on", ">pw", "~*", "+@all", "-select")
        rig.open_both(5, 0, 2)
        rig.access = Access(username="mover", passwords=("pw",))
        with pytest.raises(CredentialsError) as caught:
            rig.move((0, 2, SlotSet.of([5])))
        assert "+select" in caught.value.remedy
        with rig.client(0) as client:
            assert client.get(key) == b"in 0"


@pytest.mark.parametrize("named", ["redis-6.2", *BY_KEYS], indirect=True)
@pytest.mark.parametrize("missing", ["dump", "memory|usage"])
def test_copies_that_may_not_be_compared_are_not_called_different(
    named: ServerBinary, missing: str
) -> None:
    """A missing permission is named, and no remedy says to delete one of two equal copies."""
    denied = missing if named.version >= (7, 0, 0) else missing.partition("|")[0]
    with running(named) as rig:
        key = keys_of(5, 1)[0]
        fill(rig, [5], each=1)
        rig.open_both(5, 0, 2)
        rig.put(2, key, f"value of {key}")
        for pod in rig.pods:
            pod.command("ACL", "SETUSER", "mover", "on", ">pw", "~*", "+@all", f"-{denied}")
        rig.access = Access(username="mover", passwords=("pw",))
        with pytest.raises(CredentialsError) as caught:
            rig.move((0, 2, SlotSet.of([5])))
        assert denied in caught.value.remedy
        assert key not in str(caught.value)
        rig.access = Access()
        rig.move((0, 2, SlotSet.of([5])))
        assert read(rig, [key]) == {key: f"value of {key}"}
