"""What readiness and metrics show of a cluster."""

from __future__ import annotations

import asyncio
import time

import pytest

from bootstrap.core.confirmations import History
from bootstrap.core.planner import plan
from bootstrap.core.topology import ClusterView
from bootstrap.core.verdict import State
from bootstrap.errors import DiscoveryError, NotConvergedError
from bootstrap.loop.health import Health
from bootstrap.loop.observation import Observation
from bootstrap.process.summary import Counters, Summary
from tests.support import virtual_time
from tests.support.builders import POLICY, absent, field, joined, node, view, wanted

HEALTHY = view("3x1")
DESIRED = wanted("3x1")
FRESH_S = 20.0


def health() -> Health:
    return Health(desired=DESIRED, fresh_s=FRESH_S)


def note(noted: Health, *views: ClusterView, shards: bool = True) -> None:
    """Take over one observation after the other, each a second after the one before."""
    history = History()
    for number, seen in enumerate(views):
        found = Observation(view=seen, plan=plan(seen, DESIRED, POLICY))
        history = history.after(found.plan, now=float(number), has_shards=shards)
        noted.note(found, history, seconds=0.5)


def test_nothing_is_known_before_the_first_observation() -> None:
    """The reconciler is not ready, and the age of what it saw is unknown."""
    new = health()
    assert (new.is_ready, new.age_s, new.verdict.state) == (False, None, State.UNKNOWN)


@pytest.mark.parametrize(
    ("views", "shards", "is_healthy"),
    [
        ((HEALTHY, HEALTHY), True, True),
        ((HEALTHY,), True, False),
        ((HEALTHY, HEALTHY), False, False),
        ((HEALTHY, absent(HEALTHY, 5)), True, False),
        ((joined(HEALTHY, node(6)),) * 2, True, False),
    ],
)
def test_a_cluster_is_healthy_after_two_healthy_observations(
    views: tuple[ClusterView, ...], *, shards: bool, is_healthy: bool
) -> None:
    """Shard ids are part of the last one, and a pod too many is nothing that was asked for."""

    async def work() -> None:
        noted = health()
        note(noted, *views, shards=shards)
        assert (noted.is_healthy, noted.is_ready) == (is_healthy, is_healthy)
        assert (noted.healthy_at is not None) is is_healthy
        if noted.healthy_at is not None:
            assert abs(noted.healthy_at - time.time()) < 60.0

    virtual_time.run(work())


def test_an_observation_is_good_for_some_seconds() -> None:
    """A reconciler that observes nothing any more is not ready."""

    async def work() -> None:
        noted = health()
        note(noted, HEALTHY, HEALTHY)
        assert noted.age_s == 0.0
        await asyncio.sleep(FRESH_S)
        assert (noted.age_s, noted.is_ready) == (FRESH_S, True)
        await asyncio.sleep(0.5)
        assert not noted.is_ready

    virtual_time.run(work())


def test_metrics_are_those_of_the_last_observation() -> None:
    """Pods and slots that answer, findings and notices by code, and the time that it took."""

    async def work() -> None:
        noted = health()
        failing = field(field(absent(joined(HEALTHY, node(6)), 1), 0, state_ok=False), 2, keys=3)
        note(noted, failing)
        assert (noted.pods, noted.slots, noted.observation_s) == (5, 16384 - 5461, 0.5)
        assert (noted.findings["pod_absent"], noted.findings["pods_surplus"]) == (1, 1)
        assert noted.verdict.state is State.DEGRADED

    virtual_time.run(work())


def test_a_failed_observation_leaves_nothing_known() -> None:
    """The reason is shown, and neither readiness nor findings of earlier observations stay."""

    async def work() -> None:
        noted = health()
        note(noted, HEALTHY, HEALTHY)
        noted.findings["state_fail"] = 1
        noted.note_failure(DiscoveryError(cause="SERVFAIL", remedy="check DNS"))
        assert (noted.verdict.state, noted.verdict.reason) == (State.UNKNOWN, "SERVFAIL; check DNS")
        assert (noted.is_healthy, noted.is_ready, noted.findings) == (False, False, {})

    virtual_time.run(work())


def test_runs_add_up() -> None:
    """Outcomes, slots and keys are counters; the duration is that of the last run."""
    noted = health()
    noted.note_run(Summary(counters=Counters(slots_moved=6, keys_moved=70, duration_s=3.0)))
    noted.note_run(Summary(counters=Counters(slots_moved=1, keys_moved=2, duration_s=4.0)))
    noted.note_run(Summary.of(NotConvergedError(cause="late", remedy="wait"), phase="observe"))
    assert (noted.slots_moved, noted.keys_moved, noted.run_s) == (7, 72, 0.0)
    assert noted.runs == {"healthy": 2, "not_healthy": 1}
