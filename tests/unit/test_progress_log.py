"""What a run logs while it works: what is new at once, what lasts seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from structlog.testing import capture_logs

from bootstrap.core.actions import Plan, Refusal
from bootstrap.core.bus_links import BLOCKED_AFTER_S
from bootstrap.core.planner import plan
from bootstrap.core.topology import Absent, ClusterView, DesiredTopology
from bootstrap.errors import StaleViewError
from bootstrap.loop.observation import Observation
from bootstrap.loop.progress import (
    MISSING_EVERY_S,
    MISSING_FIRST_S,
    MOST_LINES,
    REPORT_EVERY_S,
    ProgressLog,
)
from bootstrap.net.migration.session import Progress
from tests.support import virtual_time
from tests.support.builders import (
    POLICY,
    absent,
    estranged,
    field,
    fresh,
    joined,
    node,
    view,
    wanted,
    with_line,
)

HEALTHY = view("3x1")
MISSING = absent(absent(HEALTHY, 2), 4)
DESIRED = wanted("3x1")
Events = list[dict[str, Any]]


def observation(seen: ClusterView) -> Observation:
    return Observation(view=seen, plan=plan(seen, DESIRED, POLICY))


def events(work: Callable[[], Coroutine[object, object, None]], *names: str) -> Events:
    """Return the events of these names that are logged while the work runs in made-up time."""
    with capture_logs() as logged:
        virtual_time.run(work())
    return [dict(event) for event in logged if event["event"] in names]


def test_moves_are_reported_every_few_seconds() -> None:
    """The counters are those of the moment, and the time left is unknown at first."""
    log = ProgressLog(desired=DESIRED)

    async def work() -> None:
        done = Progress(slots_total=100, keys_total=1000)
        log.moved(done)
        done.slots_moved, done.keys_moved = 50, 500
        log.moved(done)
        done.started_s -= 10
        await asyncio.sleep(REPORT_EVERY_S)
        log.moved(done)

    first, second = events(work, "slots.moved")
    assert (first["slots_moved"], first["left_s"]) == (0, None)
    assert (second["slots_moved"], second["slots_total"], second["keys_moved"]) == (50, 100, 500)
    assert (second["keys_per_s"], second["left_s"]) == (50, 10)
    assert second["log_level"] == "info"


def test_a_plan_is_logged_once_until_it_changes() -> None:
    """Every pass lists the actions where the run is to be verbose."""
    for verbose in (False, True):
        log = ProgressLog(desired=DESIRED, verbose=verbose)

        async def work(log: ProgressLog = log) -> None:
            for seen in (fresh(6), fresh(6), estranged(HEALTHY, 0, 1)):
                log.planned(plan(seen, DESIRED, POLICY), stage="stage")

        found = events(work, "plan.computed", "action.started")
        plans = [event for event in found if event["event"] == "plan.computed"]
        assert [event["actions"] for event in plans] == [12, 1]
        assert [event["stage"] for event in plans] == ["stage", "stage"]
        assert plans[1]["kinds"] == {"Meet": 1}
        assert len(found) - len(plans) == (25 if verbose else 0)
        assert all(event["action"] for event in found if event["event"] == "action.started")


def test_a_failure_is_logged_once_until_the_plan_changes() -> None:
    """The pod, the phase and the cause are in the event."""
    log = ProgressLog(desired=DESIRED)
    failure = StaleViewError(node="redis-app-1", cause="moved", remedy="wait")

    async def work() -> None:
        log.failed(failure, phase="apply")
        log.failed(failure, phase="apply")
        log.planned(plan(fresh(6), DESIRED, POLICY), stage="form")
        log.failed(failure, phase="apply")

    found = events(work, "pass.failed")
    assert len(found) == 2
    assert (found[0]["node"], found[0]["phase"], found[0]["cause"]) == (
        "redis-app-1", "apply", "moved",
    )  # fmt: skip
    assert found[0]["log_level"] == "warning"


def test_missing_pods_are_logged_soon_and_then_seldom() -> None:
    """Pods beyond the wanted number are not waited for, and the time counts from the start."""
    log = ProgressLog(desired=DESIRED)
    surplus = absent(MISSING, 7)

    async def work() -> None:
        for _ in range(3 * round(MISSING_EVERY_S)):
            log.observed(observation(surplus))
            await asyncio.sleep(1)

    found = events(work, "pods.waited")
    assert [event["waited_s"] for event in found] == [
        round(MISSING_FIRST_S + number * MISSING_EVERY_S) for number in range(3)
    ]
    assert found[0]["pods"] == ["redis-app-2", "redis-app-4"]
    assert found[0]["cause"].startswith("redis-app-2, redis-app-4: ")
    assert found[0]["remedy"]


def test_an_observation_is_logged_when_its_findings_change() -> None:
    """The codes are sorted, and the number of nodes is that of the views."""
    log = ProgressLog(desired=DESIRED)
    failing = field(HEALTHY, 0, state_ok=False)

    async def work() -> None:
        for seen in (HEALTHY, failing, failing, MISSING, HEALTHY):
            log.observed(observation(seen))

    found = events(work, "view.observed")
    assert [event["nodes"] for event in found] == [6, 4, 6]
    assert found[0]["findings"] == ["state_fail"]
    assert "pod_absent" in found[1]["findings"]
    assert found[1]["findings"] == sorted(found[1]["findings"])
    assert found[2]["findings"] == []


def test_every_refusal_is_logged() -> None:
    """A warning has the pod and the cause of each."""
    log = ProgressLog(desired=DESIRED)
    refused = plan(field(field(fresh(6), 0, keys=5), 2, keys=7), DESIRED, POLICY)

    async def work() -> None:
        log.refused(refused)

    found = events(work, "plan.refused")
    assert [event["node"] for event in found] == ["redis-app-0", "redis-app-2"]
    assert [event["cause"] for event in found] == [r.cause for r in refused.refusals]
    assert {event["log_level"] for event in found} == {"warning"}


def test_a_thousand_reasons_are_a_few_lines() -> None:
    """A peer that makes them up costs a bounded log."""
    pods = tuple(
        Absent(name=f"redis-app-{n}", ordinal=n, phase="connect", cause=f"cause {n}")
        for n in range(1000)
    )
    refusals = tuple(Refusal(node="redis-app-0", cause=f"cause {n}", remedy="") for n in range(100))
    desired = DesiredTopology(nodes=1000, replicas=0)
    seen = ClusterView(nodes=(), absent=pods)

    async def work() -> None:
        log = ProgressLog(desired=desired)
        log.observed(Observation(view=seen, plan=plan(seen, desired, POLICY)))
        log.refused(Plan(refusals=refusals))

    found = events(work, "finding.detected", "plan.refused")
    warnings = [event for event in found if event["log_level"] == "warning"]
    assert len(warnings) == 2 * MOST_LINES


def test_each_finding_is_logged_when_it_is_new() -> None:
    """What needs a person is a warning; pods that are missing for one reason are one line."""
    log = ProgressLog(desired=DESIRED)
    failing = field(HEALTHY, 0, state_ok=False)
    surplus = joined(HEALTHY, node(6))

    async def work() -> None:
        for seen in (failing, failing, surplus, failing, MISSING):
            log.observed(observation(seen))

    found = events(work, "finding.detected")
    assert [(e["code"], e["node"], e["log_level"]) for e in found[:3]] == [
        ("state_fail", "redis-app-0", "debug"),
        ("pods_surplus", "redis-app-6", "warning"),
        ("state_fail", "redis-app-0", "debug"),
    ]
    (finding,) = observation(failing).plan.findings
    assert found[0]["detail"] == finding.detail
    (missing,) = (event for event in found if event["code"] == "pod_absent")
    assert (missing["node"], missing["log_level"]) == ("redis-app-2", "warning")
    assert "redis-app-4" in missing["detail"]


def test_the_cause_at_the_deadline_is_what_was_seen_and_failed_last() -> None:
    """A failure explains findings while there is something to do, and blocked bus ports first."""
    failure = StaleViewError(node="redis-app-1", cause="moved", remedy="wait")
    apart = estranged(HEALTHY, 0, 1)
    failing = field(HEALTHY, 0, state_ok=False)

    async def work() -> None:
        log = ProgressLog(desired=DESIRED)

        def cause(**known: Any) -> str | None:
            return log.timeout_cause(**{"lock_holder": None, "unanswered": (), **known}).node

        assert cause() is None
        assert cause(unanswered=["redis-app-3"]) == "redis-app-3"
        log.failed(failure, phase="apply")
        assert cause() == "redis-app-1"
        log.observed(observation(failing))
        assert cause() == "redis-app-0"
        log.observed(observation(apart))
        assert cause() == "redis-app-1"
        cut = with_line(apart, 4, 3, link_up=False)
        for _ in range(3):
            log.observed(observation(cut))
            await asyncio.sleep(BLOCKED_AFTER_S)
        assert cause() == "redis-app-3"
        assert cause(lock_holder="other") is None
        log.observed(observation(MISSING))
        assert cause() == "redis-app-2"

    (blocked,) = events(work, "bus.blocked")
    assert blocked["log_level"] == "warning"
    assert "redis-app-4 to redis-app-3" in blocked["detail"]


def test_a_state_that_lasts_keeps_the_time_of_its_beginning() -> None:
    """Another state has a time of its own."""
    log = ProgressLog(desired=DESIRED)

    async def work() -> None:
        log.observed(observation(HEALTHY))
        assert log.verdict is not None
        log.verdict = replace(log.verdict, since="then")
        log.observed(observation(HEALTHY))
        assert log.verdict.since == "then"
        log.observed(observation(MISSING))
        assert log.verdict.since not in {"", "then"}

    events(work)
