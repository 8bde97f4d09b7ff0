"""Slots to others, members out."""

from dataclasses import replace

from bootstrap.core import slot_moves
from bootstrap.core.actions import Action, Failover, Forget, Reset
from bootstrap.core.findings import FindingCode
from bootstrap.core.roles import assign_roles
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, Role
from tests.support.builders import (
    acquaint,
    at,
    endpoint,
    facts,
    field,
    joined,
    line,
    node,
    node_id,
    own,
    slots,
    view,
    without,
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
    """The reason says why."""
    known = facts(view("3x0"), "2x0")
    found = slot_moves.move_slots(known, assign_roles(known), rebalance=True)
    assert {m.reason for m in found} == {FindingCode.MEMBER_LEAVING}
    assert moved(view("3x0"), "2x0") == [(2, 0, "10923-13652"), (2, 1, "13653-16383")]


def test_without_rebalance_a_leaver_fills_the_emptiest() -> None:
    """Nothing else moves."""
    seen = own(own(view("3x0"), 0, slots=slots("0-99")), 1, slots=slots("100-10922"))
    assert moved(seen, "2x0", rebalance=False) == [(2, 0, "10923-16383")]
    level = moved(view("3x0"), "2x0", rebalance=False)
    assert sum(len(slots(s)) for _, _, s in level) == 5461


def test_no_primary_no_moves() -> None:
    """Nobody owns anything."""
    seen = own(own(view("2x0"), 0, slots=SlotSet()), 1, slots=SlotSet())
    empty = own(
        own(seen, 0, role=Role.REPLICA, primary_id=node_id(1)),
        1,
        role=Role.REPLICA,
        primary_id=node_id(0),
    )
    assert moved(empty, "2x0") == []


def test_a_replica_that_stays_takes_over_from_a_leaver() -> None:
    """Once; an heir that is primary already is left alone."""
    seen = acquaint(
        [
            node(0, "0-8191", epoch=1),
            node(1, of=2, epoch=2),
            node(2, "8192-16383", epoch=2),
        ]
    )
    known = facts(seen, DesiredTopology(nodes=2, replicas=0))
    (action,) = slot_moves.promote(known, assign_roles(known))
    assert action == Failover(node=node_id(1), takeover=False, reason=FindingCode.MEMBER_LEAVING)


def ghosted(owned: str = "") -> ClusterView:
    ghost = line(9, owned, flags=frozenset({Flag.FAIL}))
    seen = HEALTHY
    for number in (0, 3):
        seen = field(seen, number, known={**at(seen, number).known, ghost.node_id: ghost})
    return seen


def forgotten(actions: list[Action]) -> list[tuple[str, str]]:
    return [(a.node, a.gone) for a in actions if isinstance(a, Forget)]


def test_a_gone_member_is_forgotten_by_all_that_know_it() -> None:
    """At once, inside the ban of 60 s."""
    actions = slot_moves.forget_gone(facts(ghosted(), "3x1"))
    assert forgotten(actions) == [(node_id(0), node_id(9)), (node_id(3), node_id(9))]


def test_a_gone_member_with_slots_or_replicas_is_kept() -> None:
    """It is what the data hangs on."""
    assert slot_moves.forget_gone(facts(ghosted("5"), "3x1")) == []
    followed = own(ghosted(), 3, primary_id=node_id(9))
    assert slot_moves.forget_gone(facts(followed, "3x1")) == []


def left(seen: ClusterView, nodes: int = 4) -> list[Action]:
    return slot_moves.leave(facts(seen, DesiredTopology(nodes=nodes, replicas=1)))


def test_leavers_are_reset_then_forgotten() -> None:
    """No process has the id that is forgotten."""
    seen = own(own(HEALTHY, 4, primary_id=node_id(2)), 3, primary_id=node_id(0))
    actions = left(seen)
    assert [a.node for a in actions if isinstance(a, Reset)] == [node_id(5), node_id(4)]
    assert len(forgotten(actions)) == 8
    assert all(isinstance(a, Reset) for a in actions[:2])
    assert {n for n, _ in forgotten(actions)} == {node_id(i) for i in range(4)}


def test_leavers_with_slots_followers_or_keys_stay_for_now() -> None:
    """Each for its reason."""
    two = acquaint([node(0, "0-16383", epoch=1), node(1, "", epoch=2), node(2, of=0, epoch=1)])
    assert left(two, nodes=1) != []
    assert not [
        a
        for a in left(field(two, 1, keys=3), nodes=1)
        if isinstance(a, Reset) and a.node == node_id(1)
    ]
    owning = acquaint([node(0, "0-8191", epoch=1), node(1, "8192-16383", epoch=2)])
    assert slot_moves.leave(facts(owning, DesiredTopology(nodes=1, replicas=0))) == []
    followed = acquaint([node(0, of=1, epoch=2), node(1, "", epoch=2)])
    assert slot_moves.leave(facts(followed, DesiredTopology(nodes=1, replicas=0))) == []


def test_a_member_that_came_back_empty_is_forgotten_under_its_old_id() -> None:
    """Its pod has a new one."""
    back = joined(without(ghosted(), 5), replace(node(50), endpoint=endpoint(5)))
    gone = {g for _, g in forgotten(slot_moves.forget_gone(facts(back, "3x1")))}
    assert gone == {node_id(5), node_id(9)}
