"""Several slots in transit at once: what is to be done with them is put together."""

from bootstrap.core import open_slots
from bootstrap.core.actions import Action, CloseSlots, GatherKeys, MoveSlots
from bootstrap.core.topology import ClusterView
from tests.support.builders import counted, facts, field, node_id, own, slots, view

HEALTHY = view("3x0")


def opened(source: int, target: int, numbers: tuple[int, ...], *, both: bool = True) -> ClusterView:
    """Return a cluster with slots on their way from one pod to another."""
    seen = field(HEALTHY, target, importing={slot: node_id(source) for slot in numbers})
    if both:
        seen = field(seen, source, migrating={slot: node_id(target) for slot in numbers})
    return seen


def decided(seen: ClusterView) -> list[Action]:
    return open_slots.close_open_slots(facts(seen, "3x0"))


def test_moves_between_two_nodes_are_finished_together() -> None:
    """All slots that go the same way are one action."""
    (action,) = decided(opened(0, 1, (5, 6, 7)))
    assert isinstance(action, MoveSlots)
    assert (action.source, action.target) == (node_id(0), node_id(1))
    assert action.slots == slots("5-7")


def test_keys_that_were_left_behind_are_gathered_together() -> None:
    """All slots whose keys go from one node to one owner are one action."""
    seen = counted(opened(0, 1, (5, 6, 7), both=False), {1: {5: 2, 6: 1, 7: 1}})
    (action,) = decided(seen)
    assert isinstance(action, GatherKeys)
    assert (action.source, action.target) == (node_id(1), node_id(0))
    assert action.slots == slots("5-7")


def test_slots_without_keys_are_closed_together() -> None:
    """An importing node without keys, and an owner whose target knows nothing, close theirs."""
    importing = counted(opened(0, 1, (5, 6, 7), both=False), {0: {5: 1}, 1: {5: 0, 6: 0, 7: 0}})
    (action,) = decided(importing)
    assert isinstance(action, CloseSlots)
    assert (action.node, action.slots) == (node_id(1), slots("5-7"))
    migrating = field(HEALTHY, 0, migrating={slot: node_id(1) for slot in (5, 6, 7)})
    (action,) = decided(counted(migrating, {0: {5: 1}}))
    assert isinstance(action, CloseSlots)
    assert (action.node, action.slots) == (node_id(0), slots("5-7"))


def test_moves_whose_targets_own_the_slots_already_are_finished_together() -> None:
    """The source still migrates what the target has taken."""
    seen = own(HEALTHY, 1, slots=slots("5-7,5462-10922"))
    seen = field(seen, 0, migrating={slot: node_id(1) for slot in (5, 6, 7)})
    (action,) = decided(counted(seen, {0: {5: 1}}))
    assert isinstance(action, MoveSlots)
    assert (action.source, action.target, action.slots) == (node_id(0), node_id(1), slots("5-7"))
