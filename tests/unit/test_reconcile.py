"""The reconciler, with made-up views, runs and clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from bootstrap.commands.reconcile import paths
from bootstrap.core.planner import plan
from bootstrap.core.situation import Policy
from bootstrap.core.stillness import STILL_S
from bootstrap.core.topology import ClusterView
from bootstrap.core.verdict import State
from bootstrap.errors import (
    CredentialsError,
    DiscoveryError,
    InvariantError,
    NotConvergedError,
    RefusedError,
    SettingsError,
)
from bootstrap.loop.health import Health
from bootstrap.loop.observation import Assessor
from bootstrap.loop.reconcile import Reconciler
from bootstrap.process.summary import Counters, Summary
from tests.support import virtual_time
from tests.support.builders import (
    absent,
    address,
    estranged,
    joined,
    node,
    own,
    slots,
    view,
    wanted,
)
from tests.support.builders import field as changed

HEALTHY = view("3x0")
MOVED = own(HEALTHY, 0, address=address(0, moved=True))
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

    async def count_stray_keys(self, seen: ClusterView, _nodes: tuple[str, ...]) -> ClusterView:
        """Return the view, in which no node has any."""
        return seen

    async def run(self) -> Summary:
        """Change the world as a run would."""
        self.runs.append(asyncio.get_running_loop().time())
        self.seen = self.after_run or self.seen
        return self.outcome

    def times(self, events: Sequence[float]) -> list[float]:
        """Return the times of events, from the first observation on."""
        return [at - self.observed[0] for at in events]


def reconcile(
    world: World,
    *,
    seconds: float,
    changes: Sequence[tuple[float, ClusterView | Exception]] = (),
    interval_s: float = 5.0,
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
            interval_s=interval_s,
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
    assert "SERVFAIL" in health.verdict.reason
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


def test_a_pod_that_is_refused_when_it_is_read_does_not_end_it() -> None:
    """The reason stays readable, as that of other refusals, until the pod is put right."""
    world = World(RefusedError(node="redis-app-2", cause="announces a name", remedy="set an IP"))
    with capture_logs() as events:
        health = reconcile(world, seconds=20.0)
    assert not is_ready(health)
    assert health.verdict.state is State.REFUSED
    changes = [event for event in events if event["event"] == "health.changed"]
    assert [(e["log_level"], e["remedy"]) for e in changes] == [("warning", "set an IP")]
    assert len(world.observed) < 10
    assert is_ready(reconcile(world, seconds=40.0, changes=[(20.0, HEALTHY)]))


def test_a_reply_that_cannot_be_read_does_not_end_it() -> None:
    """The other pods need the reconciler, and the pod may answer properly after a restart."""
    world = World(InvariantError(node="redis-app-2", cause="no reply", remedy="report a bug"))
    health = reconcile(world, seconds=20.0)
    assert not is_ready(health)
    assert health.verdict.state is State.UNKNOWN
    assert "redis-app-2" in health.verdict.reason
    assert len(world.observed) < 10
    assert is_ready(reconcile(world, seconds=40.0, changes=[(20.0, HEALTHY)]))


def test_wrong_settings_end_it_only_where_no_observation_is_recent() -> None:
    """At first they are one pod's, which may be restarted; later a restart reads them again."""
    wrong = SettingsError(node="redis-app-2", cause="no TLS there", remedy="set the port")
    with pytest.raises(SettingsError):
        reconcile(World(wrong), seconds=20.0)
    health = reconcile(World(HEALTHY), seconds=40.0, changes=[(20.0, wrong)])
    assert not is_ready(health)
    assert "no TLS there" in health.verdict.reason
    with pytest.raises(SettingsError):
        reconcile(World(HEALTHY), seconds=400.0, changes=[(20.0, wrong)])
    healed: list[tuple[float, ClusterView | Exception]] = [(20.0, wrong), (30.0, HEALTHY)]
    assert is_ready(reconcile(World(HEALTHY), seconds=60.0, changes=healed))


def test_pods_beyond_the_wanted_number_are_not_ready() -> None:
    """Nothing is run for them, and the reason is readable."""
    world = World(joined(HEALTHY, node(7)))
    health = reconcile(world, seconds=20.0)
    assert world.runs == []
    assert not is_ready(health)
    assert "redis-app-7" in health.verdict.reason


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Make all intervals half as long as without jitter; return the bounds that were asked for."""
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.5

    monkeypatch.setattr("random.uniform", uniform)
    return asked


def test_intervals_vary_by_a_fifth(jitter: list[tuple[float, float]]) -> None:
    """Healthy clusters are observed at the interval, and the first three sooner."""
    world = World(HEALTHY)
    assert reconcile(world, seconds=9.0).observation_s == 0.0
    assert world.times(world.observed) == [0.0, 0.5, 1.0, 3.5, 6.0, 8.5]
    assert set(jitter) == {(0.8, 1.2)}


@pytest.mark.usefixtures("jitter")
def test_the_interval_of_a_refusal_grows_by_half() -> None:
    """The interval ends at half a minute, and a change of the world starts it again."""
    world = World(REFUSED)
    reconcile(world, seconds=90.0, changes=[(85.0, UNEVEN)])
    waits = [later - sooner for sooner, later in pairwise(world.observed)]
    assert waits[:8] == pytest.approx([0.5 * 1.5**number for number in range(1, 9)])
    assert max(waits) == 15.0
    world = World(UNEVEN, outcome=FAILED)
    reconcile(world, seconds=3.0, changes=[(1.75, HEALTHY)])
    assert world.times(world.observed) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@pytest.mark.usefixtures("jitter")
def test_the_pauses_between_runs_that_fail_double() -> None:
    """The first pause is five seconds long, the longest one two minutes."""
    world = World(UNEVEN, outcome=FAILED)
    reconcile(world, seconds=520.0)
    assert world.times(world.runs) == [4.0, 9.0, 19.0, 39.0, 79.0, 159.0, 279.0, 399.0, 519.0]


@pytest.mark.usefixtures("jitter")
def test_a_healthy_cluster_ends_the_pauses_of_runs_that_failed() -> None:
    """A person has put it right; an outage soon afterwards is not left alone for minutes."""
    world = World(UNEVEN, outcome=FAILED)
    reconcile(world, seconds=400.0, changes=[(290.0, HEALTHY), (310.0, UNEVEN)])
    pauses = [later - earlier for earlier, later in pairwise(world.times(world.runs))]
    assert pauses[6] < 40.0
    assert pauses[7] < 8.0


@pytest.mark.usefixtures("jitter")
def test_a_run_that_ended_well_is_followed_by_another_without_a_pause() -> None:
    """Pods that come back at new addresses one after the other are not waited for."""
    world = World(MOVED)
    reconcile(world, seconds=1.0, interval_s=0.25)
    assert world.times(world.runs) == pytest.approx([number * 0.175 for number in range(6)])
    world = World(MOVED, outcome=FAILED)
    reconcile(world, seconds=11.0, interval_s=0.25)
    assert world.times(world.runs) == [0.0, 5.0]


@pytest.mark.usefixtures("jitter")
def test_a_run_that_ended_well_is_confirmed_at_once() -> None:
    """Readiness follows the run, not the interval; a failed observation ends that."""
    world = World(UNEVEN, after_run=HEALTHY)
    assert is_ready(reconcile(world, seconds=4.2))
    assert world.times(world.observed)[-3:] == pytest.approx([4.05, 4.1, 4.15])
    world = World(UNEVEN, after_run=HEALTHY)
    reconcile(world, seconds=7.0, changes=[(5.0, MOVED)])
    assert world.times(world.runs) == pytest.approx([4.0, 6.65])
    world = World(UNEVEN, after_run=DiscoveryError(cause="no answer", remedy="wait"))
    reconcile(world, seconds=5.3)
    assert world.times(world.observed)[-4:] == pytest.approx([4.0, 4.05, 4.55, 5.05])


def test_a_run_is_under_way_until_it_ends() -> None:
    """A stop waits for a run that is under way, however that ends."""

    async def work() -> None:
        world, stop, seen = World(UNEVEN), asyncio.Event(), list[bool]()

        async def run_once() -> Summary:
            seen.append(reconciler.is_running)
            stop.set()
            raise NotConvergedError(cause="late", remedy="wait")

        desired = wanted("3x0")
        reconciler = Reconciler(
            assessor=Assessor(source=world, desired=desired, policy=Policy()),
            run_once=run_once,
            health=Health(desired=desired, fresh_s=20.0),
            stop=stop,
            interval_s=5.0,
        )
        assert not reconciler.is_running
        await reconciler.run()
        assert (seen, reconciler.is_running) == ([True], False)

    virtual_time.run(work())


def test_a_state_is_logged_when_it_changes() -> None:
    """A refusal is a warning with its remedy; other states have none."""
    world = World(REFUSED)
    with capture_logs() as events:
        reconcile(world, seconds=60.0, changes=[(30.0, HEALTHY)])
    logged = [event for event in events if event["event"] == "health.changed"]
    (refusal,) = plan(REFUSED, wanted("3x0"), Policy()).refusals
    assert [(e["state"], e["log_level"], e["remedy"]) for e in logged] == [
        ("refused", "warning", refusal.remedy),
        ("healthy", "info", None),
    ]
    assert "redis-app-1" in logged[0]["reason"]
    assert logged[1]["reason"] is None
