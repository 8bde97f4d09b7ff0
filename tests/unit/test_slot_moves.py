"""Slots to others, members out."""

from bootstrap.core import slot_moves
from bootstrap.core.findings import FindingCode
from bootstrap.core.roles import assign_roles
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, Role
from tests.support.builders import (
    acquaint,
    facts,
    node,
    node_id,
    own,
    slots,
    view,
)

HEALTHY = view("3x1")


def moved(
    seen: ClusterView, desired: DesiredTopology | str, *, rebalance: bool = True
) -> list[tuple[int, int, str]]:
    known = facts(seen, desired)
    ordinal = {n.node_id: n.endpoint.ordinal for n in seen.nodes}
    found = slot_moves.move_slots(known, assign_roles(known), rebalance=rebalance)
    return [(ordinal[m.source], ordinal[m.target], str(m.slots)) for m in found]


def test_a_new_primary_gets_the_highest_slots_of_each() -> None:
    """3 to 4: the fewest moves, ranges whole."""
    seen = acquaint([*view("3x0").nodes, node(3, epoch=4)])
    assert moved(seen, "4x0") == [
        (0, 3, "4096-5461"),
        (1, 3, "9558-10922"),
        (2, 3, "15019-16383"),
    ]
    assert moved(seen, "4x0", rebalance=False) == []


def test_even_primaries_move_nothing() -> None:
    """One slot more or less is even, whoever has it."""
    assert moved(HEALTHY, "3x1") == []
    odd = own(own(HEALTHY, 0, slots=slots("0-5460")), 1, slots=slots("5461-10922"))
    assert moved(odd, "3x1") == []


def test_a_leaver_is_drained_to_even_counts() -> None:
    """The reason of each move says why it is made."""
    known = facts(view("3x0"), "2x0")
    found = slot_moves.move_slots(known, assign_roles(known), rebalance=True)
    assert {m.reason for m in found} == {FindingCode.MEMBER_LEAVING}
    assert moved(view("3x0"), "2x0") == [(2, 0, "10923-13652"), (2, 1, "13653-16383")]


def test_without_rebalance_a_leaver_fills_the_emptiest() -> None:
    """Nothing else moves without rebalancing."""
    seen = own(own(view("3x0"), 0, slots=slots("0-99")), 1, slots=slots("100-10922"))
    assert moved(seen, "2x0", rebalance=False) == [(2, 0, "10923-16383")]
    level = moved(view("3x0"), "2x0", rebalance=False)
    assert sum(len(slots(s)) for _, _, s in level) == 5461


def test_no_primary_no_moves() -> None:
    """Nothing moves where nobody owns slots."""
    seen = own(own(view("2x0"), 0, slots=SlotSet()), 1, slots=SlotSet())
    empty = own(
        own(seen, 0, role=Role.REPLICA, primary_id=node_id(1)),
        1,
        role=Role.REPLICA,
        primary_id=node_id(0),
    )
    assert moved(empty, "2x0") == []


def test_without_rebalance_drained_slots_level_the_emptiest() -> None:
    """The emptiest is filled up to the next one, then both get the same number."""
    ranges = ["0-99", "100-201", "202-16374", "16375-16383"]
    seen = acquaint([node(i, owned, epoch=i + 1) for i, owned in enumerate(ranges)])
    assert moved(seen, "3x0", rebalance=False) == [(3, 0, "16375-16380"), (3, 1, "16381-16383")]
    ranges = ["0-99", "100-199", "200-299", "300-16373", "16374-16383"]
    seen = acquaint([node(i, owned, epoch=i + 1) for i, owned in enumerate(ranges)])
    assert [len(slots(part)) for _, _, part in moved(seen, "4x0", rebalance=False)] == [4, 3, 3]


def test_a_target_takes_no_more_than_its_share() -> None:
    """Two sources fill two targets one after the other, and the reason is that slots are uneven."""
    seen = acquaint([*view("2x0").nodes, node(2, epoch=3), node(3, epoch=4)])
    assert moved(seen, "4x0") == [(0, 2, "4096-8191"), (1, 3, "12288-16383")]
    known = facts(seen, "4x0")
    found = slot_moves.move_slots(known, assign_roles(known), rebalance=True)
    assert {m.reason for m in found} == {FindingCode.SLOTS_UNEVEN}
