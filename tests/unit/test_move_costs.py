"""What moving slots costs."""

from bootstrap.core.actions import BumpEpoch, MoveSlots, Plan
from bootstrap.core.findings import FindingCode
from bootstrap.core.move_costs import MoveCost, move_cost
from tests.support.builders import field, node_id, slots, view

WHY = FindingCode.SLOTS_UNEVEN


def move(source: int, which: str) -> MoveSlots:
    return MoveSlots(source=node_id(source), target=node_id(1), slots=slots(which), reason=WHY)


def test_keys_and_bytes_are_the_share_of_the_slots_that_a_source_gives() -> None:
    """Half of its slots are half of its keys; costs of several plans add up."""
    seen = field(view("2x0"), 0, keys=1000, used_memory=4000)
    plans = [
        Plan(actions=(move(0, "0-4095"), BumpEpoch(node=node_id(1), reason=WHY))),
        Plan(actions=(move(0, "4096-6143"),)),
    ]
    assert move_cost(plans, seen) == MoveCost(slots=6144, keys=750, bytes=3000)


def test_a_source_without_keys_costs_slots_only() -> None:
    """Memory of an empty server is not data; a node that owns nothing yet is empty as well."""
    empty = field(view("2x0"), 0, used_memory=4000)
    assert move_cost([Plan(actions=(move(0, "0-9"),))], empty) == MoveCost(
        slots=10, keys=0, bytes=0
    )
    unknown = Plan(actions=(move(7, "0-9"),))
    assert move_cost([unknown], empty) == MoveCost(slots=10, keys=0, bytes=0)
    slotless = field(view("2x1"), 2, keys=5, used_memory=7)
    assert move_cost([Plan(actions=(move(2, "0-9"),))], slotless) == MoveCost(
        slots=10, keys=0, bytes=0
    )
