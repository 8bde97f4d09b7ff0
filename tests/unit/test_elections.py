"""Whether the primaries would vote for a replica, and what is planned where they would not."""

from dataclasses import replace

from bootstrap.core import elections
from bootstrap.core.actions import Failover, FailoverMode, Plan, Stage
from bootstrap.core.ownership import promote_replicas_of_gone
from bootstrap.core.planner import Policy, plan
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, NodeView
from tests.support.builders import (
    acquaint,
    address,
    at,
    estranged,
    facts,
    field,
    node,
    node_id,
    own,
    slots,
    view,
    with_line,
    without,
)

# Primary 0 died after its epoch rose to 7; its replica, pod 3, still knows epoch 1.
OTHERS = (1, 2, 4, 5)
FAILED = without(own(view("3x1", current_epoch=7), 0, flags=frozenset({Flag.FAIL})), 0)


def missed(seen: ClusterView = FAILED, *, by: tuple[int, ...] = OTHERS) -> ClusterView:
    """Return the view in which others know an epoch of the lost primary that pod 3 missed."""
    for number in by:
        seen = with_line(seen, number, 0, config_epoch=7)
    for each in seen.nodes:
        seen = field(seen, each.endpoint.ordinal, current_epoch=7)
    return seen


def promotions(seen: ClusterView) -> list[tuple[str, FailoverMode]]:
    return [(a.node, a.mode) for a in promote_replicas_of_gone(facts(seen, "3x1"))]


def test_primaries_that_know_no_higher_epoch_vote() -> None:
    """The usual election: FORCE only saves the wait."""
    assert promotions(FAILED) == [(node_id(3), FailoverMode.FORCE)]


def test_a_replica_that_missed_the_last_epoch_takes_over() -> None:
    """The replica gets no votes, and its primary is lost with its volume, so it takes over."""
    assert promotions(missed()) == [(node_id(3), FailoverMode.TAKEOVER)]


def test_one_primary_that_denies_its_vote_is_no_majority() -> None:
    """Of five primaries three are enough."""
    seen = without(own(view("5x1"), 0, flags=frozenset({Flag.FAIL})), 0)
    for number, mode in ((1, FailoverMode.FORCE), (2, FailoverMode.TAKEOVER)):
        seen = with_line(seen, number, 0, config_epoch=9)
        for each in seen.nodes:
            seen = field(seen, each.endpoint.ordinal, current_epoch=9)
        (action,) = promote_replicas_of_gone(facts(seen, "5x1"))
        assert action.mode is mode


def test_replicas_do_not_vote() -> None:
    """What they know of the epoch changes nothing."""
    assert promotions(missed(by=(4, 5))) == [(node_id(3), FailoverMode.FORCE)]


def test_an_epoch_of_slots_that_the_replica_does_not_claim() -> None:
    """Votes are denied by slot."""
    seen = with_line(FAILED, 1, 0, config_epoch=7, slots=slots("5461"))
    seen = with_line(seen, 3, 0, slots=slots("0-5460"))
    assert elections.has_voters(facts(seen, "3x1"), at(seen, 3))
    assert not elections.is_denied_for_ever(facts(seen, "3x1"), at(seen, 3), node_id(0))


def test_no_takeover_before_the_replica_has_heard_of_the_epoch() -> None:
    """The replica's new epoch would be lower, and the others would not believe it."""
    assert promotions(field(missed(), 3, current_epoch=6)) == []


def test_no_takeover_of_slots_that_a_live_node_owns() -> None:
    """The replica claims all that it knows of its primary; some of it moved away since."""
    moved = own(missed(), 1, slots=slots("0,5462-10922"))
    moved = with_line(moved, 3, 1, slots=slots("5462-10922"))
    assert promotions(moved) == []


SHRUNK = DesiredTopology(nodes=2, replicas=0)
# Pod 2 leaves, and its replica, pod 1, takes over.
LEAVING = acquaint(
    [node(0, "0-8191", epoch=1), node(1, of=2, epoch=2), node(2, "8192-16383", epoch=2)]
)


def next_plan(seen: ClusterView) -> Plan:
    return plan(seen, SHRUNK, Policy())


def replica(seen: ClusterView) -> NodeView:
    return at(seen, 1)


def test_a_hand_over_that_can_be_won_is_planned() -> None:
    """All other nodes have a working link to the replica."""
    (action,) = next_plan(LEAVING).actions
    assert isinstance(action, Failover)
    assert action.mode is FailoverMode.COORDINATED


def test_a_hand_over_waits_until_every_member_has_a_link_to_the_replica() -> None:
    """Nothing else is planned meanwhile: a move would take the slots that it spares."""
    for number in (0, 2):
        seen = with_line(LEAVING, number, 1, link_up=False)
        step = next_plan(seen)
        assert (step.stage, step.actions) == (Stage.FAIL_OVER, ())
        assert step.findings


def test_a_replica_that_not_all_know_where_it_is_gets_no_votes() -> None:
    """At an old address, flagged, unknown, or without its primary."""
    wrong = (
        with_line(LEAVING, 0, 1, address=address(1, moved=True)),
        with_line(LEAVING, 0, 1, flags=frozenset({Flag.PFAIL})),
        with_line(LEAVING, 0, 1, flags=frozenset({Flag.NOADDR})),
        estranged(LEAVING, 0, 1),
        field(LEAVING, 1, link_up=False),
    )
    for seen in wrong:
        assert not elections.handover_can_be_won(facts(seen, SHRUNK), replica(seen))
    assert elections.handover_can_be_won(facts(LEAVING, SHRUNK), replica(LEAVING))


def test_a_member_that_is_gone_has_no_say() -> None:
    """Only those who answer count."""
    seen = replace(LEAVING, nodes=LEAVING.nodes[1:])
    assert elections.handover_can_be_won(facts(seen, SHRUNK), replica(seen))


def test_voters_are_primaries_with_slots_that_live() -> None:
    """More than half of them must be alive in the replica's own view, whatever their number."""
    for shards, lost, has_voters in ((3, 1, True), (3, 2, False), (4, 1, True), (4, 2, False)):
        seen = without(view(f"{shards}x1"), *range(lost))
        known = facts(seen, f"{shards}x1")
        assert elections.has_voters(known, at(seen, shards)) is has_voters
    suspected = view("3x1")
    for number in (1, 2):
        suspected = with_line(suspected, 3, number, flags=frozenset({Flag.PFAIL}))
    assert not elections.has_voters(facts(suspected, "3x1"), at(suspected, 3))


def test_primaries_without_slots_do_not_vote() -> None:
    """Two of three owners are a majority, however many empty primaries are gone."""
    empty = (node(6), node(7), node(8))
    seen = without(acquaint([*view("3x1").nodes, *empty]), 0, 6, 7, 8)
    assert elections.has_voters(facts(seen, "3x1"), at(seen, 3))
