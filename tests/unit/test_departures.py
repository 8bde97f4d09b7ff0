"""Members out of the cluster."""

from collections.abc import Sequence
from dataclasses import replace

from bootstrap.core import departures
from bootstrap.core.actions import Action, Failover, FailoverMode, Forget, Reset
from bootstrap.core.findings import FindingCode
from bootstrap.core.roles import assign_roles
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag
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
    (action,) = departures.hand_over(known, assign_roles(known))
    assert action == Failover(
        node=node_id(1), mode=FailoverMode.COORDINATED, reason=FindingCode.MEMBER_LEAVING
    )


def ghosted(owned: str = "") -> ClusterView:
    ghost = line(9, owned, flags=frozenset({Flag.FAIL}))
    seen = HEALTHY
    for number in (0, 3):
        seen = field(seen, number, known={**at(seen, number).known, ghost.node_id: ghost})
    return seen


def forgotten(actions: Sequence[Action]) -> list[tuple[str, str]]:
    return [(a.node, a.gone) for a in actions if isinstance(a, Forget)]


def test_a_gone_member_is_forgotten_by_all_that_know_it() -> None:
    """At once, inside the ban of 60 s."""
    actions = departures.forget_gone(facts(ghosted(), "3x1"))
    assert forgotten(actions) == [(node_id(0), node_id(9)), (node_id(3), node_id(9))]


def test_a_gone_member_with_slots_or_replicas_is_kept() -> None:
    """What is left of its data depends on that member."""
    assert departures.forget_gone(facts(ghosted("5"), "3x1")) == []
    followed = own(ghosted(), 3, primary_id=node_id(9))
    assert departures.forget_gone(facts(followed, "3x1")) == []


def left(seen: ClusterView, nodes: int = 4) -> list[Action]:
    return departures.remove_members(facts(seen, DesiredTopology(nodes=nodes, replicas=1)))


def test_leavers_are_reset_then_forgotten() -> None:
    """No process has the id that is forgotten."""
    seen = own(own(HEALTHY, 4, primary_id=node_id(2)), 3, primary_id=node_id(0))
    actions = left(seen)
    assert [a.node for a in actions if isinstance(a, Reset)] == [node_id(5), node_id(4)]
    assert len(forgotten(actions)) == 8
    assert all(isinstance(a, Reset) for a in actions[:2])
    assert {n for n, _ in forgotten(actions)} == {node_id(i) for i in range(4)}


def test_leavers_with_slots_followers_or_keys_stay_for_now() -> None:
    """Each of the three is a reason to stay."""
    two = acquaint([node(0, "0-16383", epoch=1), node(1, "", epoch=2), node(2, of=0, epoch=1)])
    assert left(two, nodes=1) != []
    assert not [
        a
        for a in left(field(two, 1, keys=3), nodes=1)
        if isinstance(a, Reset) and a.node == node_id(1)
    ]
    owning = acquaint([node(0, "0-8191", epoch=1), node(1, "8192-16383", epoch=2)])
    assert departures.remove_members(facts(owning, DesiredTopology(nodes=1, replicas=0))) == []
    followed = acquaint([node(0, of=1, epoch=2), node(1, "", epoch=2)])
    assert departures.remove_members(facts(followed, DesiredTopology(nodes=1, replicas=0))) == []


def test_the_replica_of_an_owner_that_was_not_drained_yet_stays_for_now() -> None:
    """The replica has the only copy of the owner's keys, also where nothing can be moved now."""
    seen = acquaint([*view("3x1").nodes, node(6, "7", epoch=9), node(7, of=6, epoch=9, keys=5)])
    assert departures.remove_members(facts(seen, "3x1")) == []
    drained = own(seen, 6, slots=slots(""))
    actions = departures.remove_members(facts(drained, "3x1"))
    assert {a.node for a in actions if isinstance(a, Reset)} == {node_id(6), node_id(7)}


def test_a_member_that_came_back_empty_is_forgotten_under_its_old_id() -> None:
    """The pod has a new id, so the old one has no process."""
    back = joined(without(ghosted(), 5), replace(node(50), endpoint=endpoint(5)))
    gone = {g for _, g in forgotten(departures.forget_gone(facts(back, "3x1")))}
    assert gone == {node_id(5), node_id(9)}


def test_copies_of_keys_do_not_keep_a_leaving_replica() -> None:
    """A replica with keys leaves, and so does a primary without any; one with keys stays."""
    for seen, leaves in (
        (acquaint([*view("3x1").nodes, node(6, of=0, epoch=1, keys=5)]), True),
        (acquaint([*view("3x1").nodes, node(6)]), True),
        (acquaint([*view("3x1").nodes, node(6, keys=5)]), False),
    ):
        actions = departures.remove_members(facts(seen, "3x1"))
        assert bool(actions) is leaves
