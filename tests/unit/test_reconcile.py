"""The reconciler, with made-up views, runs and clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from bootstrap.commands.reconcile import paths
from bootstrap.core.situation import Policy
from bootstrap.core.stillness import STILL_S
from bootstrap.core.topology import ClusterView
from bootstrap.core.verdict import State
from bootstrap.errors import CredentialsError, DiscoveryError, NotConvergedError
from bootstrap.loop.health import Health
from bootstrap.loop.observation import Assessor
from bootstrap.loop.reconcile import Reconciler
from bootstrap.process.summary import Counters, Summary
from tests.support import virtual_time
from tests.support.builders import absent, estranged, joined, node, own, slots, view, wanted
from tests.support.builders import field as changed

HEALTHY = view("3x0")
UNEVEN = own(own(HEALTHY, 0, slots=slots("0-5400")), 1, slots=slots("5401-10922"))
REFUSED = changed(HEALTHY, 1, cluster_enabled=False)
FAILED = Summary.of(NotConvergedError(cause="late", remedy="wait"), phase="observe")


@dataclass(slots=True)
class World:
    """What the reconciler sees; a run changes it."""

    seen: ClusterView | Exception
    after_run: ClusterView | Exception | None = None
    outcome: Summary = field(default_factory=lambda: Summary(counters=Counters(slots_moved=60)))
    unanswered: frozenset[str] = frozenset()
    runs: list[float] = field(default_factory=list)
    observed: list[float] = field(default_factory=list)

    async def observe(self, *, shards: bool = False) -> ClusterView:  # noqa: ARG002 - as asked
        """Return what there is now."""
        self.observed.append(asyncio.get_running_loop().time())
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    async def count_keys(self, seen: ClusterView, _slots: tuple[int, ...]) -> ClusterView:
        """Return the view as it is."""
        return seen

    async def run(self) -> Summary:
        """Change the world as a run would."""
        self.runs.append(asyncio.get_running_loop().time())
        self.seen = self.after_run or self.seen
        return self.outcome


def reconcile(
    world: World, *, seconds: float, changes: Sequence[tuple[float, ClusterView]] = ()
) -> Health:
    """Let the reconciler work for some seconds, while others change the world."""

    async def work() -> Health:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(seconds, stop.set)
        for when, seen in changes:
            loop.call_later(when, setattr, world, "seen", seen)
        desired = wanted("3x0")
        health = Health(desired=desired, fresh_s=20.0)
        await Reconciler(
            assessor=Assessor(source=world, desired=desired, policy=Policy()),
            run_once=world.run,
            health=health,
            stop=stop,
            interval_s=5.0,
        ).run()
        statuses[id(health)] = int(paths(health)["/readyz"]().status)
        return health

    return virtual_time.run(work())


statuses: dict[int, int] = {}


def is_ready(health: Health) -> bool:
    """Return what the readiness probe got at the end."""
    return statuses[id(health)] == 200


def test_a_healthy_cluster_is_ready_and_left_alone() -> None:
    """The reconciler observes the cluster every few seconds."""
    world = World(HEALTHY)
    health = reconcile(world, seconds=60.0)
    assert is_ready(health)
    assert world.runs == []
    assert 8 <= len(world.observed) <= 20
    assert health.verdict.state is State.HEALTHY


def test_what_is_wrong_is_put_right_by_a_run() -> None:
    """One run, after the cluster was still for a while."""
    world = World(UNEVEN, after_run=HEALTHY)
    health = reconcile(world, seconds=30.0)
    assert len(world.runs) == 1
    assert world.runs[0] - world.observed[0] >= STILL_S
    assert is_ready(health)
    assert (health.runs["healthy"], health.slots_moved) == (1, 60)


def test_what_still_changes_is_left_alone() -> None:
    """Another tool moves slots: a run waits until it has stopped."""
    steps = [
        (float(second), own(UNEVEN, 0, slots=slots(f"0-{5000 + second}")))
        for second in range(1, 20)
    ]
    world = World(UNEVEN, after_run=HEALTHY)
    reconcile(world, seconds=40.0, changes=steps)
    assert len(world.runs) == 1
    assert world.runs[0] - world.observed[0] >= 19.0 + STILL_S - 1.0


def test_nothing_is_run_while_pods_are_missing() -> None:
    """There is nothing that could be done."""
    world = World(absent(HEALTHY, 1))
    health = reconcile(world, seconds=60.0)
    assert world.runs == []
    assert not is_ready(health)
    assert health.verdict.state is State.DEGRADED


def test_a_refusal_is_observed_again_at_growing_intervals() -> None:
    """The refusal stays readable, and the loop always pauses."""
    world = World(REFUSED)
    health = reconcile(world, seconds=600.0)
    assert world.runs == []
    assert not is_ready(health)
    assert health.verdict.state is State.REFUSED
    assert len(world.observed) < 45


def test_runs_that_fail_come_at_growing_intervals() -> None:
    """The pauses between the runs have an upper bound."""
    world = World(UNEVEN, outcome=FAILED)
    reconcile(world, seconds=600.0)
    pauses = [later - sooner for sooner, later in pairwise(world.runs)]
    assert 5 <= len(world.runs) <= 12
    assert pauses[-1] > 60.0
    assert all(later >= sooner for sooner, later in pairwise(pauses[:5]))


def test_name_servers_that_fail_make_the_state_unknown() -> None:
    """The reconciler is not ready until the name servers answer again."""
    world = World(DiscoveryError(cause="SERVFAIL", remedy="check DNS"))
    health = reconcile(world, seconds=20.0)
    assert not is_ready(health)
    assert health.verdict.state is State.UNKNOWN
    health = reconcile(world, seconds=60.0, changes=[(20.0, HEALTHY)])
    assert is_ready(health)


def test_one_healthy_observation_is_not_enough_to_be_ready() -> None:
    """The reconciler waits for a second observation, as a run does."""
    world = World(estranged(HEALTHY, 0, 1), outcome=FAILED)
    health = reconcile(world, seconds=10.2, changes=[(10.1, HEALTHY)])
    assert not is_ready(health)


def test_wrong_credentials_end_it() -> None:
    """The pod is restarted, and reads its Secret again."""
    world = World(CredentialsError(cause="WRONGPASS", remedy="set the password"))
    with pytest.raises(CredentialsError):
        reconcile(world, seconds=60.0)


def test_pods_beyond_the_wanted_number_are_not_ready() -> None:
    """Nothing is run for them, and the reason is readable."""
    world = World(joined(HEALTHY, node(7)))
    health = reconcile(world, seconds=20.0)
    assert world.runs == []
    assert not is_ready(health)
    assert "redis-app-7" in health.verdict.reason
