"""Diagnosis: one thing wrong, one finding."""

from dataclasses import replace

import pytest

from bootstrap.core.facts import Facts
from bootstrap.core.findings import (
    Finding,
    FindingCode,
    abbreviate,
    diagnose,
    functions_missing,
    listed,
    notices,
)
from bootstrap.core.planner import Policy, plan
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, Role
from tests.support.builders import (
    absent,
    acquaint,
    address,
    at,
    estranged,
    facts,
    field,
    fresh,
    joined,
    line,
    node,
    node_id,
    own,
    slots,
    view,
    wanted,
    with_line,
    without,
)

HEALTHY = view("3x1")
SHARD_IDS = frozenset({"MYSHARDID"})
SINGLES = frozenset(frozenset({node_id(i)}) for i in range(6))


def codes(seen: ClusterView, desired: DesiredTopology | str = "3x1", **how: bool) -> set[str]:
    return {f.code.value for f in diagnose(facts(seen, desired), **how)}


def the(seen: ClusterView, code: FindingCode, desired: DesiredTopology | str = "3x1") -> Finding:
    return next(f for f in diagnose(facts(seen, desired)) if f.code is code)


def test_whole_means_no_finding() -> None:
    """A healthy cluster of any shape has no finding."""
    for shape in ("1x0", "1x2", "3x1", "5x0", "7x2"):
        assert codes(view(shape), shape) == set()


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (estranged(HEALTHY, 0, 3), {"node_unknown"}),
        (
            with_line(HEALTHY, 0, 3, address=address(3, moved=True)),
            {"address_stale", "view_outdated"},
        ),
        (field(HEALTHY, 0, handshakes=frozenset({address(1)})), {"handshake_open"}),
        (with_line(HEALTHY, 0, 1, flags=frozenset({Flag.PFAIL})), {"node_failing"}),
        (with_line(HEALTHY, 0, 1, flags=frozenset({Flag.FAIL})), {"node_failing"}),
        (own(HEALTHY, 0, config_epoch=2), {"epoch_collision"}),
        (field(HEALTHY, 0, migrating={3: node_id(1)}), {"slot_open"}),
        (field(HEALTHY, 1, importing={3: node_id(0)}), {"slot_open"}),
        (with_line(HEALTHY, 0, 1, slots=SlotSet()), {"view_outdated"}),
        (field(HEALTHY, 2, state_ok=False), {"state_fail"}),
        (field(HEALTHY, 5, link_up=False), {"replica_link_down"}),
        (field(HEALTHY, 5, no_failover=True), {"failover_disabled"}),
        (field(view("3x1", commands=SHARD_IDS), 5, shards=SINGLES), {"shards_disagree"}),
        (own(HEALTHY, 5, primary_id=node_id(4)), {"replica_chained", "replica_count"}),
        (own(HEALTHY, 5, primary_id=node_id(0)), {"replica_count"}),
        (
            own(HEALTHY, 5, role=Role.PRIMARY, primary_id=None),
            {"primary_count", "replica_count", "slots_uneven"},
        ),
        (without(HEALTHY, 5), {"member_gone", "replica_count"}),
        (absent(HEALTHY, 5), {"pod_absent", "member_gone", "replica_count"}),
    ],
)
def test_each_thing_wrong_is_told(seen: ClusterView, expected: set[str]) -> None:
    """Each fault gives its finding and no other."""
    assert codes(seen) - {"view_outdated"} == expected - {"view_outdated"}


def test_slots_without_owner_contested_and_of_gone() -> None:
    """Findings about slots name their ranges."""
    lost = own(HEALTHY, 0, slots=slots("2-5461"))
    assert the(lost, FindingCode.SLOTS_UNCOVERED).detail == "2 slots owned by no node: 0-1"
    twice = with_line(HEALTHY, 1, 1, slots=at(HEALTHY, 1).slots | slots("0"))
    assert the(twice, FindingCode.SLOTS_CONTESTED).detail == "1 slot owned by two nodes: 0"
    gone = without(view("3x0"), 2)
    assert the(gone, FindingCode.SLOTS_OF_GONE, "3x0").detail.startswith("5461 slots of ")


def test_both_ends_of_a_collision_are_named() -> None:
    """Each of the two nodes has a finding."""
    found = diagnose(facts(own(HEALTHY, 0, config_epoch=2), "3x1"))
    collided = [f.node for f in found if f.code is FindingCode.EPOCH_COLLISION]
    assert collided == ["redis-app-0", "redis-app-1"]


def test_only_wanted_pods_are_absent() -> None:
    """Absent pods are sorted by ordinal and have the cause that was seen."""
    seen = absent(absent(joined(HEALTHY, node(7)), 5), 7, cause="NXDOMAIN")
    told_absent = [f for f in diagnose(facts(seen, "3x1")) if f.code is FindingCode.POD_ABSENT]
    assert [f.detail for f in told_absent] == ["redis-app-5: connection refused"]


def test_members_that_are_not_wanted_leave() -> None:
    """The pod with the highest ordinal comes first."""
    found = diagnose(facts(HEALTHY, DesiredTopology(nodes=4, replicas=1)))
    leaving = [f.node for f in found if f.code is FindingCode.MEMBER_LEAVING]
    assert leaving == ["redis-app-5", "redis-app-4"]


def test_a_leaver_with_keys_of_others_says_so() -> None:
    """The node is not reset, and only its finding says why."""
    seen = own(own(view("2x0"), 1, slots=SlotSet()), 0, slots=SlotSet.all())
    (found,) = diagnose(facts(field(seen, 1, keys=3), "1x0"))
    assert found.code is FindingCode.MEMBER_LEAVING
    assert found.detail.endswith("has 3 keys of slots that it does not own")


def test_unevenness_counts_only_where_slots_may_move() -> None:
    """One slot more or less is even."""
    uneven = own(own(HEALTHY, 0, slots=slots("0-9")), 1, slots=slots("10-10922"))
    assert codes(uneven) == {"slots_uneven"}
    assert codes(uneven, rebalance=False) == set()
    assert "redis-app-0 10" in the(uneven, FindingCode.SLOTS_UNEVEN).detail


def test_replicas_left_over_may_be_anywhere() -> None:
    """Seven pods, three shards: one has two replicas."""
    seen = view("3x1")
    extra = node(6, of=1, epoch=2)
    everyone = [*seen.nodes, extra]
    known = {n.node_id: n.myself for n in everyone}
    seen = replace(
        seen,
        nodes=tuple(replace(n, known=known, current_epoch=3, state_ok=True) for n in everyone),
    )
    assert codes(seen, DesiredTopology(nodes=7, replicas=1)) == set()
    assert codes(seen, "3x1") == {"member_leaving"}


def test_pairs_are_folded() -> None:
    """A thousand nodes do not make a million findings."""
    found = diagnose(facts(fresh(40), "20x1"))
    unknown = [f for f in found if f.code is FindingCode.NODE_UNKNOWN]
    assert len(unknown) == 1
    assert unknown[0].detail.endswith("and 997+ more pairs")
    few = the(fresh(2), FindingCode.NODE_UNKNOWN, "2x0").detail
    assert few == "redis-app-0 does not know redis-app-1, redis-app-1 does not know redis-app-0"


def test_functions_are_missing_on_new_primaries_only() -> None:
    """Owners are the owners' business."""
    seen = field(view("2x0"), 0, libraries=2)
    assert codes(seen, "2x0") == set()
    new = own(seen, 1, slots=SlotSet())
    new = own(new, 0, slots=SlotSet.all())
    assert "functions_missing" in codes(new, "2x0")
    assert "functions_missing" not in codes(field(new, 1, libraries=2), "2x0")


def test_libraries_of_an_earlier_life_are_not_the_clusters() -> None:
    """Counts are equal, digests are not; more than the cluster's is no fault."""
    seen = own(own(view("2x0"), 1, slots=SlotSet()), 0, slots=SlotSet.all())
    seen = field(field(seen, 0, libraries=1, functions=frozenset("a")), 1, libraries=1)
    for held, is_missing in ((None, False), ("b", True), ("ab", False)):
        functions = None if held is None else frozenset(held)
        found = codes(field(seen, 1, functions=functions), "2x0")
        assert ("functions_missing" in found) is is_missing


def test_a_setting_on_every_node_is_not_an_earlier_runs() -> None:
    """A setting that all nodes share was made by people, so it stays."""
    seen = HEALTHY
    for number in range(6):
        seen = field(seen, number, no_failover=True)
    assert codes(seen) == set()
    assert codes(field(seen, 0, no_failover=False)) == {"failover_disabled"}


def test_a_gone_member_is_named_by_its_last_address() -> None:
    """The member has no pod, so the finding is at the first pod that knows it."""
    ghost = line(9, flags=frozenset({Flag.FAIL}))
    seen = field(HEALTHY, 0, known={**at(HEALTHY, 0).known, ghost.node_id: ghost})
    detail = the(seen, FindingCode.MEMBER_GONE).detail
    assert the(seen, FindingCode.MEMBER_GONE).node == "redis-app-0"
    assert detail.endswith("at 10.0.0.9:6379 is gone: no node has a link to it")


@pytest.mark.parametrize(("count", "last"), [(101, ""), (1000, " and 899 more")])
def test_a_thousand_members_that_a_pod_makes_up_are_a_hundred_findings(
    count: int, last: str
) -> None:
    """Each finding is at the pod that reports them."""
    lines = [line(n, flags=frozenset({Flag.FAIL})) for n in range(1000, 1000 + count)]
    made_up = {ghost.node_id: ghost for ghost in lines}
    seen = field(HEALTHY, 2, known={**at(HEALTHY, 2).known, **made_up})
    found = [f for f in diagnose(facts(seen, "3x1")) if f.code is FindingCode.MEMBER_GONE]
    assert (len(found), {f.node for f in found}) == (101, {"redis-app-2"})
    assert found[-1].detail.endswith(f"is gone: no node has a link to it{last}")


def test_a_replica_of_nobody_known_is_not_chained() -> None:
    """A primary that is gone has a finding of its own."""
    seen = own(HEALTHY, 5, primary_id=node_id(99))
    assert "replica_chained" not in codes(seen)


def test_long_slot_lists_are_cut() -> None:
    """A list of slots that was cut ends with a mark."""
    assert abbreviate(slots("1,3,5,7,9,11")) == "1,3,5,7,9,…"
    assert abbreviate(slots("1,3,5,7,9")) == "1,3,5,7,9"
    assert abbreviate(slots("1,3")) == "1,3"


def test_nothing_seen_is_only_absence() -> None:
    """Where no pod answers, the only findings are absent pods."""
    seen = absent(view("1x0"), 0)
    found = diagnose(Facts(seen, wanted("1x0")))
    assert found[0].code is FindingCode.POD_ABSENT


def test_pods_beyond_the_wanted_number_are_reported() -> None:
    """Those that are members leave, and the others do not make the cluster unhealthy."""
    seen = joined(HEALTHY, *(node(number) for number in range(6, 11)))
    (notice,) = plan(seen, wanted("3x1"), Policy()).notices
    assert notice.node == "redis-app-6"
    assert notice.code is FindingCode.PODS_SURPLUS
    assert "redis-app-6, redis-app-7, redis-app-8 and 2 more" in notice.detail
    assert "BOOTSTRAP_NODES" in notice.detail
    assert plan(seen, wanted("3x1"), Policy()).is_healthy
    assert notices(facts(HEALTHY, wanted("3x1"))) == ()
    assert notices(facts(HEALTHY, DesiredTopology(nodes=3, replicas=0))) == ()
    assert "more" not in notices(facts(joined(HEALTHY, node(6)), "3x1"))[0].detail


def test_primaries_may_differ_by_one_slot_and_by_no_more() -> None:
    """16384 slots on 3 primaries are 5461 or 5462 each."""
    assert codes(HEALTHY) == set()
    even = own(own(HEALTHY, 0, slots=slots("0-5460")), 1, slots=slots("5461-10922"))
    assert codes(even) == set()
    low = own(own(HEALTHY, 1, slots=slots("5462-10921")), 2, slots=slots("10922-16383"))
    assert the(low, FindingCode.SLOTS_UNEVEN).detail == (
        "slots are uneven, each primary should own 5461 or 5462: redis-app-1 5460"
    )
    high = own(own(HEALTHY, 0, slots=slots("0-5462")), 1, slots=slots("5463-10922"))
    assert "redis-app-0 5463" in the(high, FindingCode.SLOTS_UNEVEN).detail


def test_a_primary_may_have_as_many_replicas_as_an_even_spread_needs() -> None:
    """Seven pods with one replica each: one primary may have two, none may have three or none."""
    seen = acquaint([*HEALTHY.nodes, node(6, of=0, epoch=1)])
    desired = DesiredTopology(nodes=7, replicas=1)
    assert not diagnose(facts(seen, desired))
    crowded = own(seen, 4, primary_id=node_id(0))
    assert {
        f.detail for f in diagnose(facts(crowded, desired)) if f.code is FindingCode.REPLICA_COUNT
    } == {
        "redis-app-0 has 3 replicas, 1 wanted",
        "redis-app-1 has 0 replicas, 1 wanted",
    }


def test_equal_and_more_libraries_are_enough() -> None:
    """A new primary lacks libraries only where one of the source is not among its own."""
    seen = acquaint([*view("2x0", libraries=1, functions=frozenset({"a"})).nodes, node(2)])
    for functions, lacks in (({"a"}, False), ({"a", "b"}, False), ({"b"}, True)):
        there = field(seen, 2, libraries=1, functions=frozenset(functions))
        found = functions_missing(facts(there, "3x0"))
        assert bool(found) is lacks, functions


def test_names_beyond_the_most_are_counted() -> None:
    """All are listed where there is no limit."""
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert listed(["a", "b", "c"], most=3) == "a, b, c"
    assert listed(["a", "b", "c"], most=None) == "a, b, c"
