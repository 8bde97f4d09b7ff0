"""What must still be true right before a command that cannot be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from bootstrap.core.actions import Action, BumpEpoch, ClaimSlots, CloseSlots, Failover, FailoverMode
from bootstrap.core.findings import FindingCode
from bootstrap.core.parsing import NodesReply
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, Flag, NodeId
from bootstrap.errors import StaleViewError
from bootstrap.net import preconditions
from tests.support import builders, virtual_time
from tests.support.builders import at, field, node_id, own, view, with_line

WHY = FindingCode.SLOTS_UNCOVERED
SLOTS = SlotSet.of([5])
OWNED = view("3x0")
# Nobody owns slot 5, which pod 0 had.
UNOWNED = own(OWNED, 0, slots=at(OWNED, 0).slots - SLOTS)


def difference(action: Action, before: ClusterView, after: ClusterView, number: int = 0) -> str:
    """Return what has changed at a pod that an action is sent to."""
    differs = preconditions.of_action(action)
    assert differs is not None
    return differs(at(before, number), reply(after, number))


def reply(seen: ClusterView, number: int) -> NodesReply:
    """Return the CLUSTER NODES of a pod."""
    node = at(seen, number)
    return NodesReply(
        node_id=node.node_id,
        known=node.known,
        handshakes=frozenset(),
        migrating=node.migrating,
        importing=node.importing,
    )


CLAIM = ClaimSlots(node=node_id(0), slots=SLOTS, reason=WHY)
TAKEN = own(UNOWNED, 1, slots=at(UNOWNED, 1).slots | SLOTS, config_epoch=9)


def test_a_claim_is_sent_while_nobody_else_owns_the_slots() -> None:
    """A claimant that knows no owner, or is the owner by now, may claim."""
    assert difference(CLAIM, UNOWNED, UNOWNED) == ""
    assert difference(CLAIM, UNOWNED, OWNED) == ""


def test_a_claim_is_not_sent_where_another_node_became_the_owner() -> None:
    """The owner may be one that the plan saw, or a member that joined since."""
    assert "new owner of slots 5" in difference(CLAIM, UNOWNED, TAKEN)
    stranger = builders.line(7, "5")
    known = {**at(UNOWNED, 0).known, stranger.node_id: stranger}
    assert difference(CLAIM, UNOWNED, field(UNOWNED, 0, known=known))


def test_slots_of_an_owner_that_is_gone_can_be_claimed_until_it_is_back() -> None:
    """A plan with consent takes slots of a dead owner, but not of one that lives again."""
    gone = with_line(TAKEN, 0, 1, link_up=False, flags=frozenset({Flag.FAIL}))
    assert difference(CLAIM, gone, gone) == ""
    assert difference(CLAIM, gone, TAKEN)


def test_an_owner_that_only_the_claimant_believes_in_does_not_hinder_it() -> None:
    """Both ends of a broken move may report the other; a higher epoch shows a newer owner."""
    assert difference(CLAIM, TAKEN, TAKEN) == ""
    assert difference(CLAIM, TAKEN, with_line(TAKEN, 0, 1, config_epoch=10))


PAIRS = view("3x1")
DEAD = with_line(PAIRS, 3, 0, link_up=False, flags=frozenset({Flag.FAIL}))
TAKEOVERS = [
    Failover(node=node_id(3), mode=mode, reason=WHY)
    for mode in (FailoverMode.FORCE, FailoverMode.TAKEOVER)
]


@pytest.mark.parametrize("action", TAKEOVERS, ids=lambda action: action.mode)
def test_a_replica_takes_over_while_its_primary_is_gone(action: Failover) -> None:
    """Neither has the primary come back, nor has another node taken its slots."""
    assert difference(action, DEAD, DEAD, 3) == ""
    assert "primary again" in difference(action, DEAD, PAIRS, 3)
    first = at(PAIRS, 0).slots
    assert "new owner" in difference(
        action, DEAD, with_line(DEAD, 3, 1, slots=at(PAIRS, 1).slots | first), 3
    )


def test_a_replica_that_never_heard_of_its_primary_is_not_held_back() -> None:
    """What the plan did not see cannot have changed."""
    unknown = builders.estranged(DEAD, 3, 0)
    assert difference(TAKEOVERS[0], unknown, unknown, 3) == ""


CLOSE = CloseSlots(node=node_id(0), slots=SLOTS, reason=WHY)


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ({5: node_id(1)}, {5: node_id(1)}, False),
        ({5: node_id(1)}, {}, False),
        ({5: node_id(1)}, {5: node_id(2)}, True),
        ({}, {5: node_id(2)}, True),
        ({}, {6: node_id(2)}, False),
    ],
)
@pytest.mark.parametrize("way", ["migrating", "importing"])
def test_slots_are_closed_unless_they_were_opened_in_another_way(
    way: str, before: Mapping[int, NodeId], after: Mapping[int, NodeId], *, differs: bool
) -> None:
    """Another run may move the slot by now."""
    seen, now = field(OWNED, 0, **{way: before}), field(OWNED, 0, **{way: after})
    assert bool(difference(CLOSE, seen, now)) is differs


def test_slots_are_not_closed_where_the_owner_has_changed() -> None:
    """A move that the plan wanted to revert may have ended."""
    assert "same part" in difference(CLOSE, OWNED, UNOWNED)
    importing = CloseSlots(node=node_id(1), slots=SLOTS, reason=WHY)
    third = own(UNOWNED, 2, slots=at(UNOWNED, 2).slots | SLOTS, config_epoch=9)
    assert "new owner" in difference(importing, OWNED, third, 1)
    elsewhere = own(OWNED, 0, slots=at(OWNED, 0).slots - SlotSet.of([6]))
    assert difference(CLOSE, OWNED, elsewhere) == ""


def test_ends_of_a_move_must_own_what_they_owned() -> None:
    """A source that lost slots and a target that has gained some were moved by another run."""
    source, target = at(OWNED, 0), at(OWNED, 1)
    assert preconditions.moved(SLOTS, source, reply(OWNED, 0)) == ""
    assert preconditions.moved(SLOTS, source, reply(UNOWNED, 0))
    assert preconditions.moved(SLOTS, target, reply(TAKEN, 1))
    opened = field(OWNED, 0, migrating={5: node_id(2)})
    assert preconditions.moved(SLOTS, source, reply(opened, 0))


def test_keys_are_gathered_at_a_node_that_owns_or_imports_the_slots() -> None:
    """A claim of the same plan may have made the target the owner, and closed the slots."""
    opened = field(UNOWNED, 0, importing={5: node_id(1)})
    assert preconditions.lost(SLOTS, at(opened, 0), reply(OWNED, 0)) == ""
    assert preconditions.lost(SLOTS, at(opened, 0), reply(opened, 0)) == ""
    assert preconditions.lost(SLOTS, at(opened, 0), reply(UNOWNED, 0))
    assert preconditions.lost(SLOTS, at(UNOWNED, 0), reply(field(OWNED, 0, migrating={5: "x"}), 0))


@pytest.mark.parametrize(
    "action",
    [
        BumpEpoch(node=node_id(0), reason=WHY),
        Failover(node=node_id(3), mode=FailoverMode.COORDINATED, reason=WHY),
    ],
    ids=lambda action: type(action).__name__,
)
def test_steps_that_servers_agree_on_need_no_question(action: Action) -> None:
    """A hand-over needs the consent of the primary, and an epoch takes no slot from anybody."""
    assert preconditions.of_action(action) is None


@pytest.mark.parametrize(("delays", "asked"), [((0.5,), 1), ((20.0, 0.5), 2), ((2.0, 2.0, 0.0), 3)])
def test_an_answer_that_is_older_than_a_second_does_not_count(
    delays: tuple[float, ...], asked: int
) -> None:
    """A program that was halted after the answer asks again."""
    assert _questions(delays) == asked


def test_a_node_that_always_answers_late_ends_the_pass() -> None:
    """Nothing is sent on the grounds of a late answer."""
    with pytest.raises(StaleViewError):
        _questions((2.0, 2.0, 2.0))


def _questions(delays: tuple[float, ...]) -> int:
    """Return how often is asked where the answers take so long."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(delays[asked - 1])

    async def run() -> None:
        clock = asyncio.get_running_loop().time
        await preconditions.recently("redis-app-0", ask, clock)

    virtual_time.run(run())
    return asked


class Client:
    """A connection to pod 0, which answers with CLUSTER NODES."""

    name = "redis-app-0"

    def __init__(self, words: str) -> None:
        self._words = words

    async def call(self, *_command: str) -> bytes:
        """Answer."""
        return self._words.encode()


@pytest.mark.parametrize(
    ("number", "flags", "primary", "raises"),
    [
        (0, "master", "-", False),
        (0, "slave", node_id(1), True),
        (1, "master", "-", True),
    ],
)
def test_another_node_or_role_is_a_stale_view(
    number: int, flags: str, primary: str, *, raises: bool
) -> None:
    """The pod may have come back empty, or lost its slots and become a replica."""
    seen = replace(at(OWNED, 0), known={node_id(0): at(OWNED, 0).myself})
    words = f"{node_id(number)} 10.0.0.1:6379@16379 myself,{flags} {primary} 0 0 1 connected 0-5\n"
    client: Any = Client(words)
    work = preconditions.check([(client, seen, lambda _seen, _now: "")])
    if not raises:
        asyncio.run(work)
        return
    with pytest.raises(StaleViewError):
        asyncio.run(work)
