"""The next safe stage: what comes before what."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap.core.actions import Meet, MoveSlots, Plan, Replicate, Stage, kinds
from bootstrap.core.findings import FindingCode
from bootstrap.core.model import expected
from bootstrap.core.planner import plan
from bootstrap.core.situation import Policy
from bootstrap.core.slots import SlotSet, even_split
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, Role
from tests.support.builders import (
    AS_IT_IS,
    CONSENT,
    POLICY,
    absent,
    acquaint,
    address,
    at,
    counted,
    endpoint,
    estranged,
    field,
    fresh,
    joined,
    line,
    node,
    node_id,
    own,
    placed,
    slots,
    view,
    wanted,
    with_line,
    without,
)

ROOT = Path(__file__).resolve().parents[2]
HEALTHY = view("3x1")
APART = Policy(separate=True)


def planned(
    seen: ClusterView, desired: DesiredTopology | str = "3x1", policy: Policy = POLICY
) -> Plan:
    return plan(seen, wanted(desired) if isinstance(desired, str) else desired, policy)


def stage(
    seen: ClusterView, desired: DesiredTopology | str = "3x1", policy: Policy = POLICY
) -> tuple[Stage | None, dict[str, int]]:
    step = planned(seen, desired, policy)
    assert not step.refusals
    return step.stage, kinds(step.actions)


LOST = joined(without(view("3x0"), 2), replace(node(50), endpoint=endpoint(2)))
GHOST = line(9, flags=frozenset({Flag.FAIL}))
CHAINED = own(HEALTHY, 5, primary_id=node_id(3))
UNEVEN = own(own(HEALTHY, 0, slots=slots("0-9")), 1, slots=slots("10-10922"))
ORDERED = own(UNEVEN, 0, config_epoch=4)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (HEALTHY, (None, {})),
        (fresh(6), (Stage.FORM, {"SetConfigEpoch": 6, "AssignSlots": 3, "Meet": 3})),
        (estranged(HEALTHY, 0, 3), (Stage.INTRODUCE, {"Meet": 1})),
        (field(HEALTHY, 0, migrating={3: node_id(1)}), (Stage.CLOSE_SLOTS, {"CloseSlots": 1})),
        (own(HEALTHY, 0, config_epoch=2), (Stage.SEPARATE_EPOCHS, {"BumpEpoch": 1})),
        (CHAINED, (Stage.REPLICATE, {"Replicate": 1})),
        (
            field(HEALTHY, 0, known={**at(HEALTHY, 0).known, GHOST.node_id: GHOST}),
            (Stage.FORGET, {"Forget": 1}),
        ),
        (with_line(HEALTHY, 0, 1, slots=SlotSet()), (Stage.REFRESH_VIEWS, {"Meet": 1})),
        (field(HEALTHY, 0, state_ok=False), (Stage.REFRESH_VIEWS, {})),
        (field(HEALTHY, 4, no_failover=True), (Stage.ALLOW_FAILOVERS, {"SetNoFailover": 1})),
        (UNEVEN, (Stage.ORDER_EPOCHS, {"BumpEpoch": 1})),
        (ORDERED, (Stage.REBALANCE, {"MoveSlots": 1})),
    ],
)
def test_each_trouble_has_its_stage(
    seen: ClusterView, expected: tuple[Stage | None, dict[str, int]]
) -> None:
    """Each fault alone gives a plan of the stage that repairs it."""
    assert stage(seen) == expected


def test_one_stage_at_a_time_in_order() -> None:
    """Links before open slots before replicas before evenness."""
    broken = own(own(ORDERED, 5, primary_id=node_id(3)), 2, config_epoch=2)
    broken = field(broken, 0, migrating={3: node_id(1)})
    assert stage(estranged(broken, 0, 4))[0] is Stage.INTRODUCE
    assert stage(broken) == (Stage.CLOSE_SLOTS, {"CloseSlots": 1})
    closed = field(broken, 0, migrating={})
    assert stage(closed) == (Stage.SEPARATE_EPOCHS, {"BumpEpoch": 1})
    apart = own(closed, 2, config_epoch=9)
    assert stage(apart)[0] is Stage.REPLICATE
    assert stage(own(apart, 5, primary_id=node_id(2)))[0] is Stage.REBALANCE


def test_slots_do_not_move_while_views_disagree() -> None:
    """A new primary must be known by all before it gets slots."""
    assert stage(with_line(ORDERED, 2, 0, config_epoch=0))[0] is Stage.REFRESH_VIEWS
    assert stage(field(ORDERED, 5, link_up=False)) == (Stage.REFRESH_VIEWS, {})


def test_handshakes_under_way_are_waited_for() -> None:
    """Nothing is repaired or forgotten while some do not know each other."""
    apart = estranged(estranged(HEALTHY, 4, 1), 1, 4)
    shaking = field(apart, 1, handshakes=frozenset({address(4)}))
    assert stage(field(shaking, 0, migrating={3: node_id(1)})) == (Stage.REFRESH_VIEWS, {})
    assert stage(field(HEALTHY, 1, handshakes=frozenset({address(4)}))) == (None, {})


def test_evenness_is_a_choice() -> None:
    """Without it an uneven cluster is healthy."""
    assert stage(UNEVEN, policy=AS_IT_IS) == (None, {})
    assert planned(UNEVEN, policy=AS_IT_IS).is_healthy


def test_nothing_is_planned_while_a_wanted_pod_is_absent() -> None:
    """The absent pod may own slots."""
    step = planned(absent(estranged(CHAINED, 0, 1), 4))
    assert step.stage is None
    assert not step.actions
    assert step.findings


def test_refusals_stop_everything_else() -> None:
    """The findings are reported all the same."""
    step = planned(LOST, "3x0")
    assert step.refusals
    assert not step.actions
    assert step.findings
    assert stage(LOST, "3x0", CONSENT)[0] is Stage.INTRODUCE


def test_crowded_places_alone_are_no_work() -> None:
    """A cluster that is healthy stays as it is, wherever Kubernetes put its pods since."""
    moved = placed(view("2x1"), {0: "a/1", 1: "b/2", 2: "a/1", 3: "b/2"})
    detail = (
        "members of a shard share a zone or node, and can be apart: redis-app-2, redis-app-3 move"
    )
    assert planned(moved, "2x1") == Plan(advice=detail)


def test_lost_slots_wait_for_the_heir() -> None:
    """The servers must agree on the failure first."""
    gone = without(HEALTHY, 0)
    back = joined(gone, replace(node(50), endpoint=endpoint(0)))
    introduced = acquaint(
        [*gone.nodes, replace(node(50), endpoint=endpoint(0), address=address(50))],
        gone=[at(HEALTHY, 0).myself],
    )
    assert stage(back)[0] is Stage.INTRODUCE
    assert stage(introduced) == (Stage.REFRESH_VIEWS, {})
    failed = own(introduced, 0, flags=frozenset({Flag.FAIL}))
    assert stage(failed) == (Stage.PROMOTE_REPLICAS, {"Failover": 1})


def test_growth_in_steps() -> None:
    """Introduce, wait for ok, copy functions, move slots; the replica meanwhile."""
    seen = joined(HEALTHY, node(6), node(7))
    assert stage(seen, "4x1") == (Stage.INTRODUCE, {"SetConfigEpoch": 2, "Meet": 13})
    met = acquaint([*HEALTHY.nodes, node(6, epoch=4), node(7, epoch=5)])
    assert stage(met, "4x1") == (Stage.REPLICATE, {"Replicate": 1})
    following = own(met, 7, role=Role.REPLICA, primary_id=node_id(6), config_epoch=4)
    assert stage(field(following, 6, state_ok=False), "4x1") == (Stage.REFRESH_VIEWS, {})
    with_functions = field(following, 0, libraries=1)
    assert stage(with_functions, "4x1") == (Stage.COPY_FUNCTIONS, {"CopyFunctions": 1})
    assert stage(following, "4x1") == (Stage.REBALANCE, {"MoveSlots": 3})


def test_shrinking_in_steps() -> None:
    """Fail over or drain, then reset and forget."""
    smaller = DesiredTopology(nodes=4, replicas=1)
    first = stage(HEALTHY, smaller)
    assert first == (Stage.ORDER_EPOCHS, {"BumpEpoch": 2})
    drained = own(own(HEALTHY, 2, slots=SlotSet()), 1, slots=slots("5462-16383"))
    drained = own(
        own(drained, 2, role=Role.REPLICA, primary_id=node_id(0)), 3, primary_id=node_id(0)
    )
    drained = own(drained, 0, slots=slots("0-8191"))
    drained = own(drained, 1, slots=slots("8192-16383"))
    assert stage(drained, smaller)[0] in {Stage.REPLICATE, Stage.REMOVE_MEMBERS}


def test_replicas_are_made_primaries_by_leaving_and_joining_again() -> None:
    """More shards out of the same pods."""
    assert stage(view("2x2"), "3x1") == (Stage.CONVERT_REPLICAS, {"Reset": 1, "Forget": 5})


def test_slots_to_ask_for() -> None:
    """Where keys could be lost."""
    seen = counted(field(HEALTHY, 0, migrating={3: node_id(1)}), {0: {3: 1}})
    assert planned(seen).probe_slots == slots("3")
    assert not planned(HEALTHY).probe_slots


_SCRIPT = """
from tests.support.builders import POLICY, estranged, field, fresh, node_id, view, wanted
from bootstrap.core.model import expected
from bootstrap.core.planner import plan
seen = view("3x1")
for whom in range(1, 6):
    seen = estranged(seen, 0, whom)
shards = frozenset(frozenset({node_id(i)}) for i in range(6))
print(plan(seen, wanted("3x1"), POLICY).fingerprint,
      plan(fresh(6), wanted("3x1"), POLICY).fingerprint,
      plan(field(view("3x1"), 0, shards=shards), wanted("3x1"), POLICY).fingerprint)
"""


def test_fingerprints_are_the_same_in_every_process() -> None:
    """`run --expect` compares with what another process printed; sets of text have no order."""
    prints = {
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(prints) == 1


def test_replicas_of_a_healthy_cluster_are_placed_better_by_a_run_only() -> None:
    """One plan is enough, primaries stay, and an observer sees a healthy cluster."""
    seen = placed(HEALTHY, {number: f"zone-{number % 3}" for number in range(6)})
    assert planned(seen).is_healthy
    step = planned(seen, policy=APART)
    assert (step.stage, kinds(step.actions)) == (Stage.REPLICATE, {"Replicate": 3})
    for action in step.actions:
        seen = expected(seen, action)
    assert planned(seen, policy=APART).is_healthy


def test_members_that_must_share_a_place_stay() -> None:
    """Where nothing is gained nothing moves."""
    for zones in ("aaaaaa", "aaaaab", "ababab"):
        seen = placed(HEALTHY, {i: f"zone-{zone}" for i, zone in enumerate(zones)})
        for action in planned(seen, policy=APART).actions:
            seen = expected(seen, action)
        assert planned(seen, policy=APART).is_healthy


def test_nobody_counts_keys_while_a_pod_is_missing() -> None:
    """Nothing is done then, whatever they are."""
    seen = field(LOST, 0, keys=1)
    assert planned(seen, "3x0").probe_slots
    assert not planned(absent(seen, 1), "3x0").probe_slots


def test_nothing_is_planned_while_a_member_runs_that_is_not_reached() -> None:
    """The member may own slots or the only copy of keys, and FORGET would do harm."""
    seen = estranged(HEALTHY, 0, 3)
    unseen = line(9)
    seen = field(seen, 1, known={**at(seen, 1).known, unseen.node_id: unseen})
    step = planned(seen)
    assert {f.code for f in step.findings} >= {FindingCode.MEMBER_UNSEEN, FindingCode.NODE_UNKNOWN}
    assert not step.actions


def test_no_slot_is_judged_while_an_address_is_stale() -> None:
    """A MEET under way to the new address is waited for; the replica is not promoted yet."""
    seen = own(HEALTHY, 0, address=address(0, moved=True))
    meeting = seen
    for number in range(1, 6):
        meeting = field(meeting, number, handshakes=frozenset({address(0)}))
    meeting = field(field(meeting, 3, no_failover=True), 4, migrating={5: node_id(1)})
    step = planned(meeting)
    assert (step.stage, step.actions) == (Stage.REFRESH_VIEWS, ())


def test_primaries_meet_again_while_a_pod_is_absent() -> None:
    """Replicas wait for the pod, and so do pods that were never members."""
    step = planned(absent(own(HEALTHY, 0, address=address(0, moved=True)), 2))
    assert step.stage is Stage.INTRODUCE
    assert [(a.node, a.target) for a in step.actions if isinstance(a, Meet)] == [
        (node_id(1), node_id(0))
    ]
    for number in range(1, 6):
        assert not planned(absent(fresh(6), number)).actions
        few = absent(fresh(6), number)
        assert not planned(replace(few, nodes=few.nodes[:1])).actions


def test_a_majority_of_primaries_meets_first_after_an_outage() -> None:
    """More of them would mark each other as failed; the others follow at the next look."""
    seen = HEALTHY
    for number in range(6):
        seen = own(seen, number, address=address(number, moved=True))
    first = [a for a in planned(seen).actions if isinstance(a, Meet)]
    assert {(a.node, a.target) for a in first} == {
        (node_id(0), node_id(1)),
        (node_id(1), node_id(0)),
    }
    for one, other in ((0, 1), (1, 0), (0, 0), (1, 1)):
        seen = with_line(seen, one, other, address=address(other))
    then = [a for a in planned(seen).actions if isinstance(a, Meet)]
    assert {a.node for a in then} | {a.target for a in then} == {node_id(i) for i in range(6)}


def test_primaries_that_suspect_few_others_are_in_the_majority() -> None:
    """Two that both suspect the third one would mark it as failed."""
    seen = HEALTHY
    for number in range(6):
        seen = own(seen, number, address=address(number, moved=True))
    for one, other in ((0, 1), (0, 2), (1, 0), (1, 2)):
        seen = with_line(seen, one, other, flags=frozenset({Flag.PFAIL}))
    first = [a for a in planned(seen).actions if isinstance(a, Meet)]
    assert {(a.node, a.target) for a in first} == {
        (node_id(0), node_id(2)),
        (node_id(2), node_id(0)),
    }


def test_all_primaries_meet_while_a_replica_is_absent_after_an_outage() -> None:
    """A majority first, then the others; replicas wait for the pod."""
    seen = HEALTHY
    for number in range(6):
        seen = own(seen, number, address=address(number, moved=True))
    assert len([*planned(absent(seen, 5)).actions]) == 2
    for one, other in ((0, 1), (1, 0), (0, 0), (1, 1)):
        seen = with_line(seen, one, other, address=address(other))
    then = planned(absent(seen, 5)).actions
    assert {(a.node, a.target) for a in then if isinstance(a, Meet)} == {
        (node_id(one), node_id(other)) for one, other in ((0, 2), (1, 2), (2, 0), (2, 1))
    }
    assert len(then) == 4


def test_slots_are_probed_again_as_long_as_they_are_in_question() -> None:
    """The plan made with the counts still names the slots that were counted."""
    seen = field(field(HEALTHY, 0, migrating={3: node_id(1)}), 0, keys=1)
    assert planned(seen).probe_slots == slots("3")
    assert planned(counted(seen, {0: {3: 1}})).probe_slots == slots("3")


def test_moves_wait_until_epochs_let_the_targets_win() -> None:
    """What finishes an open slot by a move is left out, what closes others is not."""
    seen = field(HEALTHY, 1, migrating={6000: node_id(0)})
    seen = field(seen, 0, importing={6000: node_id(1), 6001: node_id(1)})
    seen = counted(seen, {1: {6000: 4}})
    assert stage(seen) == (Stage.ORDER_EPOCHS, {"BumpEpoch": 1})
    cut = field(seen, 0, current_epoch=1)
    for number in range(6):
        cut = with_line(cut, 0, number, config_epoch=1)
    assert stage(cut) == (Stage.CLOSE_SLOTS, {"CloseSlots": 1})
    assert stage(own(seen, 0, config_epoch=4)) == (
        Stage.CLOSE_SLOTS,
        {"CloseSlots": 1, "MoveSlots": 1},
    )


def test_slots_that_leave_a_drained_owner_are_a_stage_of_their_own() -> None:
    """Moves that empty an owner are DRAIN, also those that even out the others meanwhile."""
    parts = [str(part) for part in even_split(4)]
    seen = acquaint([node(i, parts[i], epoch=(2, 3, 4, 1)[i]) for i in range(4)])
    drained = plan(seen, wanted("3x0"), POLICY)
    assert drained.stage is Stage.DRAIN
    assert {action.source for action in drained.actions if isinstance(action, MoveSlots)} == {
        node_id(3)
    }
    grown = plan(acquaint([*view("3x0").nodes, node(3, epoch=4)]), wanted("4x0"), POLICY)
    assert grown.stage is Stage.REBALANCE


def test_a_primary_with_keys_of_other_slots_does_not_lose_its_last_slot() -> None:
    """Such keys are counted where a plan empties a node, and refused unless loss is accepted."""
    parts = [str(part) for part in even_split(3)]
    seen = acquaint([node(i, parts[i], epoch=(2, 3, 1)[i]) for i in range(3)])
    with_keys = field(seen, 2, keys=7)
    asked = planned(with_keys, "2x0")
    assert asked.stage is Stage.DRAIN
    assert asked.emptied == (node_id(2),)
    assert not planned(seen, "2x0").emptied
    assert not planned(joined(with_keys, node(3, epoch=4)), "4x0").emptied

    clean = replace(with_keys, stray_keys={node_id(2): 0})
    assert planned(clean, "2x0").actions == asked.actions
    strays = replace(with_keys, stray_keys={node_id(2): 3})
    refused = planned(strays, "2x0")
    assert not refused.actions
    assert [(refusal.node, "3 keys of slots" in refusal.cause) for refusal in refused.refusals] == [
        ("redis-app-2", True)
    ]
    assert planned(strays, "2x0", CONSENT).actions == asked.actions


def test_replicas_that_are_placed_better_are_one_finding() -> None:
    """The first pod that moves is named, and every action has the reason of the finding."""
    places = {0: "b/1", 1: "c/2", 2: "a/1", 3: "b/0", 4: "a/1", 5: "a/2"}
    found = plan(placed(view("2x2"), places), wanted("2x2"), Policy(separate=True))
    (finding,) = found.findings
    moved = [f"redis-app-{[node_id(i) for i in range(6)].index(a.node)}" for a in replicates(found)]
    assert (finding.code, finding.node) == (FindingCode.PLACE_SHARED, moved[0])
    assert ", ".join(moved) in finding.detail
    assert {a.reason for a in replicates(found)} == {FindingCode.PLACE_SHARED}
    assert found.stage is Stage.REPLICATE


def replicates(found: Plan) -> list[Replicate]:
    return [action for action in found.actions if isinstance(action, Replicate)]
