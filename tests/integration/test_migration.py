"""Slots move with their keys on every way that servers know, from every state they can be in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count

import pytest

from bootstrap.core.slots import SlotSet
from bootstrap.errors import RefusedError, StaleViewError
from bootstrap.net.migration.session import Progress
from bootstrap.sandbox.binary import find_server
from tests.support.migration_rig import Rig, Traffic, fill, keys_of, read, running

pytestmark = pytest.mark.redis

SERVERS = ("redis-6.2", "redis-7.0", "redis-8.6", "valkey-8.1", "valkey-9.1")
# Slots of the first and the second primary at the start; a test takes fresh ones.
_numbers = count(100, 40)


@pytest.fixture(scope="module", params=SERVERS)
def rig(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> Iterator[Rig]:
    """One cluster for all tests of a server."""
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    with running(find_server(installed[request.param])) as rig:
        yield rig


@pytest.fixture
def slots() -> SlotSet:
    """Slots of pod 0 that no other test uses."""
    first = next(_numbers)
    return SlotSet.span(first, first + 19)


def _own(rig: Rig, ordinal: int) -> SlotSet:
    return rig.owners_when_agreed()[ordinal]


def test_slots_arrive_with_all_kinds_of_keys(rig: Rig, slots: SlotSet) -> None:
    """Values and times to live are the same after a move."""
    first, *_ = slots
    text, aging, words, table, members, ranks = keys_of(first, 6)
    with rig.cluster() as client:
        client.set(text, b"\x00\xff\r\n")
        client.set(aging, "x", px=600_000)
        client.rpush(words, *range(3000))
        client.hset(table, mapping={str(n): n for n in range(2000)})
        client.sadd(members, *range(2000))
        client.zadd(ranks, {str(n): n for n in range(2000)})
        progress = rig.move((0, 2, slots))
        assert slots - _own(rig, 2) == SlotSet()
        assert progress.slots_moved == len(slots)
        assert client.get(text) == b"\x00\xff\r\n"
        assert 500_000 < client.pttl(aging) <= 600_000
        assert client.pttl(text) == -1
        assert client.lrange(words, 0, -1) == [str(n).encode() for n in range(3000)]
        assert client.hlen(table) == client.scard(members) == client.zcard(ranks) == 2000


def test_two_pairs_move_at_once(rig: Rig, slots: SlotSet) -> None:
    """Slots of two sources reach one target in one call, and go back to both in another."""
    theirs = SlotSet.of(slot + 8192 for slot in slots)
    held = fill(rig, slots | theirs, each=20)
    rig.move((0, 2, slots), (1, 2, theirs))
    assert (slots | theirs) - _own(rig, 2) == SlotSet()
    rig.move((2, 0, slots), (2, 1, theirs))
    owned = rig.owners_when_agreed()
    assert slots - owned[0] == theirs - owned[1] == SlotSet()
    assert read(rig, held) == held


def test_chain_of_moves_is_safe(rig: Rig, slots: SlotSet) -> None:
    """A node that gives and takes in one call loses nothing."""
    theirs = SlotSet.of(slot + 8192 for slot in slots)
    held = fill(rig, slots | theirs, each=10)
    rig.move((0, 1, slots), (1, 2, theirs))
    owned = rig.owners_when_agreed()
    assert slots - owned[1] == theirs - owned[2] == SlotSet()
    assert read(rig, held) == held


def test_moves_back_and_forth_lose_nothing(rig: Rig, slots: SlotSet) -> None:
    """Epochs that collide because several targets took slots at once do no harm."""
    theirs = SlotSet.of(slot + 8192 for slot in slots)
    held = fill(rig, slots | theirs, each=20)
    for _ in range(4):
        rig.move((0, 2, slots), (1, 2, theirs))
        rig.move((2, 1, theirs), (2, 0, slots))
    rig.owners_when_agreed()
    assert read(rig, held) == held


@pytest.mark.parametrize(
    "state",
    [
        "importing", "migrating", "both", "some keys over", "all keys over", "source assigned",
        "target assigned", "both assigned",
    ],
)  # fmt: skip
def test_half_moved_slot_is_finished(rig: Rig, slots: SlotSet, state: str) -> None:
    """A move goes on from every state in which an earlier one can have stopped."""
    slot, *_ = slots
    held = fill(rig, [slot], each=20)
    ids = rig.ids()
    if state == "importing":
        rig.pods[2].command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    elif state == "migrating":
        rig.pods[0].command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[2])
    else:
        rig.open_both(slot, 0, 2)
        over = {"both": 0, "some keys over": 10}.get(state, 20)
        for key in list(held)[:over]:
            rig.migrate(key, 0, 2)
    if state in {"source assigned", "both assigned"}:
        rig.pods[0].command("CLUSTER", "SETSLOT", slot, "NODE", ids[2])
    if state in {"target assigned", "both assigned"}:
        rig.pods[2].command("CLUSTER", "SETSLOT", slot, "NODE", ids[2])
    with suppress(StaleViewError):
        rig.move((0, 2, SlotSet.of([slot])))
    # Gossip may have made the target the owner after the view was taken: the next pass goes on.
    rig.move((0, 2, SlotSet.of([slot])))
    assert slot in _own(rig, 2)
    assert read(rig, held) == held


def test_stray_keys_come_back_to_the_owner(rig: Rig, slots: SlotSet) -> None:
    """Keys at a node that only imports are gathered at the owner, which closes both ends."""
    slot, *_ = slots
    held = fill(rig, [slot], each=20)
    rig.open_both(slot, 0, 2)
    for key in list(held)[:10]:
        rig.migrate(key, 0, 2)
    rig.gather((2, 0, SlotSet.of([slot])))
    assert slot in _own(rig, 0)
    assert read(rig, held) == held


def _leave_at_target(rig: Rig, slot: int, keys: Mapping[str, str]) -> None:
    """Leave keys at pod 2 as a person does who stops a move of pod 0 by hand."""
    rig.open_both(slot, 0, 2)
    for key, value in keys.items():
        rig.put(2, key, value)
    for pod in (rig.pods[0], rig.pods[2]):
        pod.command("CLUSTER", "SETSLOT", slot, "STABLE")


def _move_in_passes(rig: Rig, slots: SlotSet) -> None:
    """Move slots to pod 2; a first pass may end with what it has found there."""
    with suppress(StaleViewError):
        rig.move((0, 2, slots))
    rig.move((0, 2, slots))


def test_keys_that_a_target_has_already_survive_a_move(rig: Rig, slots: SlotSet) -> None:
    """The servers' own migration would delete them, or end the target: Valkey 9.1."""
    first, *_ = slots
    held = fill(rig, slots, each=5)
    stray = dict.fromkeys(keys_of(first, 8)[5:], "only here")
    _leave_at_target(rig, first, stray)
    _move_in_passes(rig, slots)
    assert slots - _own(rig, 2) == SlotSet()
    assert read(rig, held | stray) == held | stray


def test_older_copies_that_a_target_has_already_do_not_replace_newer_ones(
    rig: Rig, slots: SlotSet
) -> None:
    """Redis from 8.4 on counts keys of such a slot only where it is open; none is replaced."""
    first, *_ = slots
    held = fill(rig, slots, each=5)
    key, *_ = held
    _leave_at_target(rig, first, {key: "older"})
    with pytest.raises(RefusedError) as caught:
        _move_in_passes(rig, slots)
    assert f"slot {first} " in caught.value.cause
    assert read(rig, held) == held
    with rig.client(2) as client:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("ASKING")
        pipeline.get(key)
        assert pipeline.execute()[-1] == b"older"
        pipeline.execute_command("ASKING")
        pipeline.delete(key)
        pipeline.execute()
    rig.move((0, 2, slots))
    assert slots - _own(rig, 2) == SlotSet()
    assert read(rig, held) == held


def test_equal_copies_are_merged(rig: Rig, slots: SlotSet) -> None:
    """A key that an interrupted MIGRATE left at both ends moves when both copies are equal."""
    slot, *_ = slots
    held = fill(rig, [slot], each=5)
    rig.open_both(slot, 0, 2)
    for key, value in list(held.items())[:2]:
        rig.put(2, key, value)
    rig.move((0, 2, SlotSet.of([slot])))
    assert slot in _own(rig, 2)
    assert read(rig, held) == held


def test_two_values_are_refused_and_the_others_arrive(rig: Rig, slots: SlotSet) -> None:
    """Where nothing tells the newer value, neither is lost, and only that slot stays open."""
    slot, *others = list(slots)[:4]
    fill(rig, slots, each=3)
    for each in (slot, *others):
        rig.open_both(each, 0, 2)
    key = keys_of(slot, 1)[0]
    rig.put(2, key, "another")
    with pytest.raises(RefusedError) as caught:
        rig.move((0, 2, SlotSet.of([slot, *others])))
    assert str(slot) in caught.value.cause
    assert key not in str(caught.value)
    open_slots = {node.endpoint.ordinal: node.open_slots for node in rig.observe().nodes}
    assert open_slots[0] == open_slots[2] == SlotSet.of([slot])
    rig.pods[0].command("DEL", key)
    rig.move((0, 2, SlotSet.of([slot])))
    assert {slot, *others} <= set(_own(rig, 2))
    assert read(rig, [key]) == {key: "another"}


def test_equal_stray_copies_are_dropped(rig: Rig, slots: SlotSet) -> None:
    """The owner's copy stays where a stray one is equal."""
    slot, *_ = slots
    held = fill(rig, [slot], each=5)
    rig.pods[2].command("CLUSTER", "SETSLOT", slot, "IMPORTING", rig.ids()[0])
    for key, value in held.items():
        rig.put(2, key, value)
    rig.gather((2, 0, SlotSet.of([slot])))
    assert slot in _own(rig, 0)
    assert read(rig, held) == held
    assert rig.pods[2].command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0


def test_stop_leaves_no_slot_open(rig: Rig) -> None:
    """What is in flight is finished, the rest stays where it is."""
    slots = SlotSet.span(6000, 7999)
    held = fill(rig, range(6000, 6100), each=5)

    def end(progress: Progress) -> None:
        rig.stop.set()

    progress = rig.move((0, 2, slots), on_progress=end)
    owned = rig.owners_when_agreed()
    assert (slots & owned[0]) | (slots & owned[2]) == slots
    assert len(slots & owned[2]) == progress.slots_moved
    assert read(rig, held) == held


def test_clients_notice_nothing(rig: Rig) -> None:
    """A client that reads and writes all the time sees no error and loses no write."""
    slots = SlotSet.span(8200, 9199)
    held = fill(rig, range(8200, 8300), each=5)
    with Traffic(rig, slots) as traffic:
        traffic.wait_for(100)
        rig.move((1, 2, slots))
        traffic.wait_for(100)
        rig.move((2, 1, slots))
        traffic.wait_for(100)
    assert traffic.errors == []
    assert traffic.lost() == 0
    assert read(rig, held) == held
