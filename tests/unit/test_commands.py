"""The commands of actions, in the order in which they are sent."""

from dataclasses import replace

import pytest

from bootstrap.core.actions import (
    Action,
    AssignSlots,
    BumpEpoch,
    ClaimSlots,
    CloseSlots,
    CopyFunctions,
    Forget,
    Meet,
    MoveSlots,
    Replicate,
    Reset,
    SetConfigEpoch,
    SetNoFailover,
)
from bootstrap.core.findings import FindingCode
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Address
from bootstrap.net.commands import commands_of, is_done_already, place_of
from bootstrap.net.replies import Command, ReplyError
from tests.support import builders

FIRST, SECOND = builders.node_id(0), builders.node_id(1)
WHY = FindingCode.SLOTS_UNEVEN
TWO = SlotSet.parse("5 9")


def commands(action: Action) -> list[Command]:
    """Return the commands of an action between the first two of three primaries."""
    return commands_of(action, builders.view("3x0").by_id())


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (SetConfigEpoch(node=FIRST, epoch=7, reason=WHY), [("CLUSTER", "SET-CONFIG-EPOCH", 7)]),
        (BumpEpoch(node=FIRST, reason=WHY), [("CLUSTER", "BUMPEPOCH")]),
        (
            Replicate(node=FIRST, primary=SECOND, reason=WHY),
            [("CLUSTER", "REPLICATE", SECOND)],
        ),
        (
            SetNoFailover(node=FIRST, no_failover=True, reason=WHY),
            [("CONFIG", "SET", "cluster-replica-no-failover", "yes")],
        ),
        (
            CloseSlots(node=FIRST, slots=TWO, reason=WHY),
            [("CLUSTER", "SETSLOT", 5, "STABLE"), ("CLUSTER", "SETSLOT", 9, "STABLE")],
        ),
        (
            ClaimSlots(node=FIRST, slots=TWO, reason=WHY),
            [
                ("CLUSTER", "SETSLOT", 5, "NODE", FIRST),
                ("CLUSTER", "SETSLOT", 9, "NODE", FIRST),
                ("CLUSTER", "BUMPEPOCH"),
            ],
        ),
        (Forget(node=FIRST, gone=SECOND, reason=WHY), [("CLUSTER", "FORGET", SECOND)]),
    ],
)
def test_each_action_has_its_commands(action: Action, expected: list[Command]) -> None:
    """A claim ends with the epoch that makes the others accept it."""
    assert commands(action) == expected


def test_slots_are_assigned_by_range_where_the_server_can() -> None:
    """Servers before 7.0 get at most a thousand slots in one command."""
    action = AssignSlots(node=FIRST, slots=SlotSet.parse("0-1500"), reason=WHY)
    assert [len(command) for command in commands(action)] == [1002, 503]
    (node, *_) = builders.view("3x0").nodes
    newer = {FIRST: replace(node, commands=frozenset({"ADDSLOTSRANGE"}))}
    assert commands_of(action, newer) == [("CLUSTER", "ADDSLOTSRANGE", 0, 1500)]


def test_a_meet_names_a_bus_port_that_is_not_the_usual_one() -> None:
    """The usual one is the client port and 10000."""
    action = Meet(node=FIRST, target=SECOND, reason=WHY)
    target = builders.view("3x0").by_id()[SECOND]
    ip, port = target.address.ip, target.address.port
    assert commands(action) == [("CLUSTER", "MEET", ip, port)]
    moved = {SECOND: replace(target, address=Address(ip, port, 7000))}
    assert commands_of(action, moved) == [("CLUSTER", "MEET", ip, port, 7000)]


def test_an_action_goes_to_the_node_that_it_changes() -> None:
    """Functions are restored at their target, and slots leave their source."""
    assert place_of(BumpEpoch(node=FIRST, reason=WHY)) == FIRST
    assert place_of(CopyFunctions(source=FIRST, target=SECOND, reason=WHY)) == SECOND
    assert place_of(MoveSlots(source=FIRST, target=SECOND, slots=TWO, reason=WHY)) == FIRST


def test_a_reset_is_more_than_commands() -> None:
    """What has to wait, or to read, is done elsewhere."""
    with pytest.raises(AssertionError):
        commands(Reset(node=FIRST, reason=WHY))


@pytest.mark.parametrize(
    ("action", "message", "is_done"),
    [
        (Forget(node=FIRST, gone=SECOND, reason=WHY), "ERR Unknown node x", True),
        (Forget(node=FIRST, gone=SECOND, reason=WHY), "ERR I tried hard", False),
        (
            CloseSlots(node=FIRST, slots=TWO, reason=WHY),
            "ERR You can use SETSLOT only with masters.",
            True,
        ),
        (BumpEpoch(node=FIRST, reason=WHY), "ERR Unknown node x", False),
    ],
)
def test_an_error_may_say_that_the_state_is_there(
    action: Action,
    message: str,
    is_done: bool,  # noqa: FBT001 - a case
) -> None:
    """A node that is forgotten, or that owns nothing any more, is what was wanted."""
    reply = ReplyError(message, node="redis-app-0", command="CLUSTER FORGET")
    assert is_done_already(action, reply) is is_done
