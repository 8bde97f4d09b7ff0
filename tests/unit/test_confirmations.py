"""The history of a run's observations."""

from dataclasses import replace

import pytest

from bootstrap.core.actions import (
    BumpEpoch,
    ClaimSlots,
    CloseSlots,
    Failover,
    FailoverMode,
    Forget,
    Plan,
    Refusal,
    Stage,
)
from bootstrap.core.confirmations import EQUAL_FAILURES_S, MOST_EQUAL_FAILURES, History
from bootstrap.core.findings import Finding, FindingCode
from tests.support.builders import node_id, slots

HEALTHY = Plan()
REASON = FindingCode.SLOTS_UNCOVERED
WAITING = Plan(findings=(Finding(code=FindingCode.POD_ABSENT, node="redis-app-1"),))
GOSSIP = Plan(findings=(Finding(code=FindingCode.VIEW_OUTDATED),))
REFUSED = Plan(refusals=(Refusal(cause="two clusters", remedy="choose one"),))
BUMP = Plan(
    stage=Stage.SEPARATE_EPOCHS,
    actions=(BumpEpoch(node=node_id(0), reason=FindingCode.EPOCH_COLLISION),),
    findings=(Finding(code=FindingCode.EPOCH_COLLISION),),
)
CLAIM = replace(BUMP, actions=(ClaimSlots(node=node_id(0), slots=slots("7"), reason=REASON),))
CLOSE = replace(BUMP, actions=(CloseSlots(node=node_id(0), slots=slots("7"), reason=REASON),))
FORGET = replace(BUMP, actions=(Forget(node=node_id(0), gone=node_id(1), reason=REASON),))
TAKEOVER = replace(
    BUMP, actions=(Failover(node=node_id(0), mode=FailoverMode.TAKEOVER, reason=REASON),)
)
REFRESH = replace(BUMP, stage=Stage.REFRESH_VIEWS)
REFRESH_WHILE_DOWN = replace(REFRESH, findings=(Finding(code=FindingCode.STATE_FAIL),))


def history(*plans: Plan, shards: bool = True) -> History:
    """Return the history of observations that were made a second apart, from second 0 on."""
    result = History()
    for second, plan in enumerate(plans):
        result = result.after(plan, now=float(second), has_shards=shards)
    return result


def test_the_same_plan_twice_in_a_row_is_confirmed() -> None:
    """One observation is not enough."""
    assert not history(REFUSED).is_confirmed
    assert history(REFUSED, REFUSED).is_confirmed


@pytest.mark.parametrize("between", [HEALTHY, GOSSIP, BUMP, WAITING])
def test_any_other_observation_in_between_breaks_the_series(between: Plan) -> None:
    """Whether the observation in between led to anything does not matter."""
    if between is not GOSSIP and between is not WAITING:
        assert not history(REFUSED, between, REFUSED).is_confirmed
    assert not history(REFUSED, *[between] * 8, REFUSED).is_confirmed


def test_a_failed_attempt_breaks_every_series() -> None:
    """Nothing is known of the moment in between."""
    refused = history(REFUSED).after_failure("no answer", now=1.0)
    assert not refused.after(REFUSED, now=2.0, has_shards=True).is_confirmed
    healthy = history(HEALTHY).after_failure("no answer", now=1.0)
    again = healthy.after(HEALTHY, now=2.0, has_shards=True)
    assert not again.is_proven_healthy(now=9.0, steady_s=0.0)


def test_healthy_twice_in_a_row_is_proven() -> None:
    """An observation that found something in between starts the series again."""
    assert not history(HEALTHY).is_proven_healthy(now=1.0, steady_s=0.0)
    assert history(HEALTHY, HEALTHY).is_proven_healthy(now=1.0, steady_s=0.0)
    assert not history(HEALTHY, GOSSIP, HEALTHY).is_proven_healthy(now=2.0, steady_s=0.0)


def test_both_observations_must_include_shard_ids() -> None:
    """An observation without them is none of the two."""
    without = history(HEALTHY, HEALTHY, shards=False)
    assert not without.is_proven_healthy(now=2.0, steady_s=0.0)
    once = without.after(HEALTHY, now=2.0, has_shards=True)
    assert not once.is_proven_healthy(now=2.0, steady_s=0.0)
    assert once.after(HEALTHY, now=3.0, has_shards=True).is_proven_healthy(now=3.0, steady_s=0.0)


def test_a_steady_time_counts_from_the_first_healthy_observation() -> None:
    """Later observations do not move its start."""
    seen = history(GOSSIP, HEALTHY, HEALTHY, HEALTHY)
    assert seen.healthy_since == 1.0
    assert not seen.is_proven_healthy(now=3.0, steady_s=2.1)
    assert seen.is_proven_healthy(now=3.0, steady_s=2.0)


@pytest.mark.parametrize("plan", [CLAIM, CLOSE, FORGET, TAKEOVER])
@pytest.mark.parametrize("has_acted", [True, False])
def test_what_cannot_be_taken_back_needs_a_second_observation(
    plan: Plan, *, has_acted: bool
) -> None:
    """Claims, FORGETs and takeovers wait for the same plan twice in a row."""
    assert not history(plan).may_apply(has_acted=has_acted)
    assert not history(plan, GOSSIP, plan).may_apply(has_acted=has_acted)
    assert history(plan, plan).may_apply(has_acted=has_acted)


def test_other_steps_are_applied_at_once() -> None:
    """An empty plan has nothing to apply."""
    assert history(BUMP).may_apply(has_acted=False)
    assert not history(GOSSIP, GOSSIP).may_apply(has_acted=True)
    assert not History().may_apply(has_acted=True)


def test_gossip_of_a_running_cluster_is_not_helped_at_once() -> None:
    """Where this run has changed something, or the cluster is down, it is."""
    assert not history(REFRESH).may_apply(has_acted=False)
    assert not history(REFRESH, REFRESH).may_apply(has_acted=False)
    assert history(REFRESH, REFRESH, REFRESH).may_apply(has_acted=False)
    assert history(REFRESH).may_apply(has_acted=True)
    assert history(REFRESH_WHILE_DOWN).may_apply(has_acted=False)


def test_shard_ids_are_asked_for_when_nothing_else_is_left() -> None:
    """Not before the first observation, and not while pods are missing."""
    assert not History().wants_shards
    assert not history(BUMP).wants_shards
    assert not history(WAITING).wants_shards
    assert history(HEALTHY).wants_shards
    assert history(REFRESH).wants_shards


def failing(times: int, *, seconds: float, plan: Plan = BUMP, cause: str = "ERR no") -> History:
    """Return the history of a plan that fails again and again within these seconds."""
    result = History()
    for attempt in range(times):
        now = seconds * attempt / max(1, times - 1)
        result = result.after(plan, now=now, has_shards=False).after_failure(cause, now=now)
    return result


def test_the_same_failure_of_the_same_plan_becomes_hopeless() -> None:
    """Only after many attempts and a while."""
    most, long = MOST_EQUAL_FAILURES, EQUAL_FAILURES_S
    assert failing(most, seconds=long).is_hopeless(now=long)
    assert not failing(most - 1, seconds=long).is_hopeless(now=long)
    assert not failing(most, seconds=long - 1).is_hopeless(now=long - 1)


def test_another_failure_or_plan_starts_the_count_again() -> None:
    """A different failure or plan shows that the cluster has changed."""
    long = EQUAL_FAILURES_S
    failed = failing(MOST_EQUAL_FAILURES, seconds=long)
    assert not failed.after_failure("ERR other", now=long).is_hopeless(now=9 * long)
    moved_on = failed.after(GOSSIP, now=long, has_shards=False).after_failure("ERR no", now=long)
    assert moved_on.failures == 1
    assert not moved_on.is_hopeless(now=9 * long)


def test_a_failure_before_the_first_plan_is_forgotten_with_the_plan() -> None:
    """An observation that succeeds after it clears it."""
    seen = History().after_failure("no DNS", now=0.0).after(BUMP, now=1.0, has_shards=False)
    assert (seen.failure, seen.failures) == (None, 0)


def test_passes_come_later_while_nothing_changes() -> None:
    """Waiting for pods doubles with each pass; equal plans and failures after some."""
    assert [history(*[WAITING] * n).delays for n in (1, 2, 5)] == [1, 2, 5]
    assert [history(*[BUMP] * n).delays for n in (1, 5, 7)] == [0, 0, 2]
    assert history(*[GOSSIP] * 50).delays == 0
    assert [failing(n, seconds=1.0).delays for n in (1, 2, 4)] == [0, 1, 3]
    assert History().delays == 0


def test_failures_count_from_the_first_of_a_series() -> None:
    """Another cause starts the time again; what has passed before the series does not count."""
    late = 10 * EQUAL_FAILURES_S
    failed = History().after_failure("one", now=late)
    for _ in range(MOST_EQUAL_FAILURES):
        failed = failed.after_failure("two", now=late + 1)
    assert not failed.is_hopeless(now=late + EQUAL_FAILURES_S)
    assert failed.is_hopeless(now=late + 1 + EQUAL_FAILURES_S)
