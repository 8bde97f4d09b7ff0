"""Config epochs: owners have one of their own, and targets of moves have higher ones."""

import pytest

from bootstrap.core import config_epochs
from bootstrap.core.actions import MoveSlots
from bootstrap.core.findings import FindingCode
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, Flag
from tests.support.builders import (
    acquaint,
    at,
    facts,
    field,
    line,
    node,
    node_id,
    own,
    slots,
    view,
    with_line,
)

HEALTHY = view("3x0")
A, B, C = 0, 1, 2


def move(source: int, target: int, which: str = "5") -> MoveSlots:
    return MoveSlots(
        source=node_id(source),
        target=node_id(target),
        slots=slots(which),
        reason=FindingCode.SLOT_OPEN,
    )


def raised(seen: ClusterView, *moves: MoveSlots, shape: str = "3x0") -> list[str]:
    bumps = config_epochs.order_epochs(facts(seen, shape), moves)
    assert all(bump.reason is FindingCode.SLOT_OPEN for bump in bumps)
    return [bump.node for bump in bumps]


def is_ordered(seen: ClusterView, *moves: MoveSlots) -> bool:
    return config_epochs.are_ordered(facts(seen, "3x0"), moves)


def test_a_target_with_a_higher_epoch_than_every_source_needs_no_bump() -> None:
    """The target's claim wins already: pods have the epochs 1, 2 and 3."""
    assert is_ordered(HEALTHY, move(A, C), move(B, C))
    assert raised(HEALTHY, move(A, C), move(B, C)) == []
    assert is_ordered(HEALTHY)
    assert raised(HEALTHY) == []


def test_a_target_that_does_not_outrank_every_source_is_bumped_once() -> None:
    """A claim with a lower epoch would lose, and the keys with it."""
    assert not is_ordered(HEALTHY, move(B, A), move(C, A))
    assert raised(HEALTHY, move(B, A), move(C, A)) == [node_id(A)]
    assert raised(HEALTHY, move(C, A), move(C, B)) == [node_id(A), node_id(B)]
    assert raised(HEALTHY, move(A, B), move(A, C)) == []


def test_a_source_that_shares_its_epoch_is_bumped_before_any_target() -> None:
    """The servers would raise one of the two at some later time; one bump after the other."""
    empty = acquaint([*HEALTHY.nodes, node(3, epoch=1), node(4, epoch=2)])
    assert not is_ordered(empty, move(A, C))
    assert raised(empty, move(A, C), move(B, C), shape="5x0") == [node_id(A)]
    replica = acquaint([*HEALTHY.nodes, node(3, of=A, epoch=1)])
    assert is_ordered(replica, move(A, C))


def test_a_target_that_has_not_heard_of_the_highest_epoch_waits() -> None:
    """Such a target would take an epoch that is in use."""
    seen = HEALTHY
    for number in (A, B, C):
        seen = with_line(seen, A, number, config_epoch=1)
    assert raised(field(seen, A, current_epoch=2), move(B, A)) == []
    assert raised(field(seen, A, current_epoch=3), move(B, A)) == [node_id(A)]


def test_no_target_is_bumped_while_it_is_cut_off_or_slots_are_contested() -> None:
    """Another node may have been elected meanwhile; the epoch is what decides the contest."""
    cut = with_line(HEALTHY, B, A, flags=frozenset({Flag.FAIL}))
    assert raised(cut, move(B, A)) == []
    contested = with_line(HEALTHY, B, B, slots=at(HEALTHY, B).slots | slots("5"))
    assert raised(contested, move(B, A)) == []


def test_moves_of_one_plan_go_one_way() -> None:
    """Taking a slot raises an epoch, so a target gives nothing away within the same plan."""
    there, back, on = move(A, B), move(B, A), move(B, C)
    assert config_epochs.one_way([there, back, on, move(A, C)]) == [there, move(A, C)]
    assert config_epochs.one_way([there, move(C, A)]) == [there]


def test_no_epoch_changes_while_slots_are_contested() -> None:
    """A new epoch would decide the contest."""
    tied = own(own(HEALTHY, A, config_epoch=3), C, config_epoch=3)
    seen = with_line(tied, B, B, slots=at(HEALTHY, B).slots | slots("5"))
    assert len(config_epochs.separate_colliding_epochs(facts(tied, "3x0"))) == 1
    assert config_epochs.separate_colliding_epochs(facts(seen, "3x0")) == []


def test_epochs_are_separated_one_at_a_time() -> None:
    """The later ordinal gets a new one."""
    seen = own(own(HEALTHY, A, config_epoch=3), B, config_epoch=3)
    (bump,) = config_epochs.separate_colliding_epochs(facts(seen, "3x0"))
    assert bump.node == node_id(B)
    assert config_epochs.separate_colliding_epochs(facts(HEALTHY, "3x0")) == []


def test_an_owner_with_an_older_epoch_than_others_know_is_bumped() -> None:
    """Other nodes would not believe the header of such an owner."""
    seen = with_line(HEALTHY, B, A, config_epoch=9, slots=SlotSet())
    (bump,) = config_epochs.separate_colliding_epochs(facts(seen, "3x0"))
    assert bump.node == node_id(A)
    cut = with_line(seen, B, A, flags=frozenset({Flag.FAIL}))
    assert config_epochs.separate_colliding_epochs(facts(cut, "3x0")) == []
    behind = with_line(HEALTHY, B, A, config_epoch=0)
    assert config_epochs.separate_colliding_epochs(facts(behind, "3x0")) == []
    empty = with_line(own(HEALTHY, A, slots=SlotSet()), B, A, config_epoch=9)
    assert config_epochs.separate_colliding_epochs(facts(empty, "3x0")) == []


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0), (1, 1), (4, 1)])
def test_an_owner_that_others_rank_lower_is_bumped(epoch: int, expected: int) -> None:
    """Other nodes assign its slots to a node whose epoch is not lower."""
    ghost = line(9, "5", config_epoch=epoch, flags=frozenset({Flag.FAIL}))
    seen = with_line(HEALTHY, C, A, slots=at(HEALTHY, A).slots - slots("5"))
    known = {**at(seen, C).known, ghost.node_id: ghost}
    seen = field(seen, C, known=known)
    assert len(config_epochs.separate_colliding_epochs(facts(seen, "3x0"))) == expected
    nobody = with_line(HEALTHY, C, A, slots=at(HEALTHY, A).slots - slots("5"))
    assert config_epochs.separate_colliding_epochs(facts(nobody, "3x0")) == []


def test_an_owner_is_not_bumped_over_the_heir_of_another() -> None:
    """The replica may be elected, and has the keys."""
    ghost = line(9, "5", config_epoch=7, flags=frozenset({Flag.FAIL}))
    seen = acquaint([*view("3x0").nodes, node(3, of=9)])
    known = {**at(seen, C).known, ghost.node_id: ghost}
    seen = field(seen, C, known=known)
    seen = with_line(seen, C, A, slots=at(HEALTHY, A).slots - slots("5"))
    assert config_epochs.separate_colliding_epochs(facts(seen, "4x0")) == []
    orphan = own(seen, 3, primary_id=node_id(B))
    assert len(config_epochs.separate_colliding_epochs(facts(orphan, "4x0"))) == 1


def test_an_owner_is_bumped_over_a_live_node_that_gave_the_slot_away() -> None:
    """SETSLOT NODE by hand at both ends gives no new epoch."""
    seen = own(HEALTHY, C, slots=at(HEALTHY, C).slots - slots("16383"))
    seen = own(seen, A, slots=at(HEALTHY, A).slots | slots("16383"))
    assert config_epochs.separate_colliding_epochs(facts(seen, "3x0")) == []
    seen = with_line(seen, B, A, slots=at(HEALTHY, A).slots)
    seen = with_line(seen, B, C, slots=at(HEALTHY, C).slots)
    (bump,) = config_epochs.separate_colliding_epochs(facts(seen, "3x0"))
    assert bump.node == node_id(A)


def test_a_target_with_the_epoch_of_its_source_is_low() -> None:
    """Only a higher epoch wins."""
    for epoch, is_ordered in ((1, False), (2, False), (3, True)):
        seen = acquaint([node(0, "0-16383", epoch=2), node(1, epoch=epoch)])
        move = MoveSlots(
            source=node_id(0), target=node_id(1), slots=slots("5"), reason=FindingCode.SLOTS_UNEVEN
        )
        assert config_epochs.are_ordered(facts(seen, "2x0"), [move]) is is_ordered


def test_a_replica_with_the_epoch_of_the_source_is_no_target_yet() -> None:
    """A replica reports the epoch of its primary, and no two primaries share one here."""
    seen = view("3x1")
    assert not config_epochs.are_ordered(facts(seen, "3x1"), [move(A, 3)])
    assert config_epochs.are_ordered(facts(seen, "3x1"), [move(A, 4)])
