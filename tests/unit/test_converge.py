"""The loop, with made-up views and a made-up clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from bootstrap.core.actions import Action, Forget, Meet, SetNoFailover
from bootstrap.core.findings import FindingCode
from bootstrap.core.planner import Policy, plan
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology
from bootstrap.errors import (
    BootstrapError,
    CredentialsError,
    DiscoveryError,
    NodeUnreachableError,
    NotConvergedError,
    RefusedError,
    StaleViewError,
    StoppedError,
)
from bootstrap.loop.converge import STEADY_S, TICK_S, Converger
from bootstrap.loop.observation import Assessor
from bootstrap.loop.progress import ProgressLog
from bootstrap.loop.run_lock import RunLock
from bootstrap.loop.stopping import Deadline
from tests.support import builders, virtual_time
from tests.support.builders import endpoint, estranged, node_id, own, view, wanted

HEALTHY = view("3x0")
DESIRED = wanted("3x0")
CLAIM = own(builders.counted(HEALTHY, {2: {16383: 5}}), 2, slots=SlotSet.parse("10923-16382"))
REFUSED = replace(
    HEALTHY, nodes=tuple(replace(n, cluster_enabled=n.endpoint.ordinal != 1) for n in HEALTHY.nodes)
)
GONE = builders.acquaint(HEALTHY.nodes, gone=[builders.line(9)])
APART = estranged(HEALTHY, 0, 1)
MISSING = builders.absent(HEALTHY, 2)
# Two primaries are back on new addresses, the third one is missing.
OUTAGE = builders.absent(
    own(
        own(HEALTHY, 0, address=builders.address(0, moved=True)),
        1,
        address=builders.address(1, moved=True),
    ),
    2,
)
DISAGREEING = builders.field(HEALTHY, 0, state_ok=False)  # only the servers have work
Step = ClusterView | Exception


@dataclass(slots=True)
class Script:
    """Answers with one step after the other; the last one is repeated."""

    steps: list[Step]
    unanswered: set[str] = field(default_factory=set)
    asked: list[bool] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    answer_s: float = 0.0

    async def observe(self, *, shards: bool = False) -> ClusterView:
        """Return the next view, after the time that an answer takes."""
        self.asked.append(shards)
        self.asked_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.answer_s)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step

    async def count_keys(self, seen: ClusterView, _slots: tuple[int, ...]) -> ClusterView:
        """Return the view, in which the keys are counted already."""
        return seen

    async def count_stray_keys(self, seen: ClusterView, _nodes: tuple[str, ...]) -> ClusterView:
        """Return the view, in which no node has any."""
        return seen


@dataclass(slots=True)
class Applied:
    """Takes note of what is applied, and fails as the test wants; the last failure is repeated."""

    batches: list[tuple[Action, ...]] = field(default_factory=list)
    failures: list[Exception | None] = field(default_factory=lambda: [None])
    last: list[tuple[Action, ...]] = field(default_factory=list)
    seconds: float = 0.0
    last_failure: Exception | None = None
    last_seconds: float = 0.0

    async def apply(
        self, _view: ClusterView, actions: Sequence[Action], *, despite_stop: bool = False
    ) -> None:
        """Take note, wait, and fail if there is a failure left."""
        if despite_stop:
            self.last.append(tuple(actions))
            await asyncio.sleep(self.last_seconds)
            if self.last_failure is not None:
                raise self.last_failure
            return
        self.batches.append(tuple(actions))
        await asyncio.sleep(self.seconds)
        failure = self.failures.pop(0) if len(self.failures) > 1 else self.failures[0]
        if failure is not None:
            raise failure


@dataclass(slots=True)
class FakeLock:
    """A lock whose holders follow each other; None is us, and so it stays."""

    holders: list[str | Exception | None] = field(default_factory=lambda: [None])
    asked: int = 0
    released: int = 0
    address: str | None = endpoint(0).addresses[0]

    async def try_acquire(self) -> str | None:
        """Return the next holder."""
        self.asked += 1
        holder = self.holders.pop(0) if len(self.holders) > 1 else self.holders[0]
        if isinstance(holder, Exception):
            raise holder
        return holder

    async def release(self) -> None:
        """Take note."""
        self.released += 1


@dataclass(slots=True)
class Trial:
    """One run of the loop in made-up time."""

    script: Script
    applied: Applied = field(default_factory=Applied)
    lock: FakeLock = field(default_factory=FakeLock)
    timeout_s: float = 60.0
    may_change: bool = True
    expect: str | None = None
    stop_after_s: float | None = None
    desired: DesiredTopology = DESIRED
    passes: int = 0
    phase: str = ""
    seconds: float = 0.0

    def run(self) -> BootstrapError | None:
        """Return the error that ended the run, None where it ended healthy."""
        return virtual_time.run(self._run())

    async def _run(self) -> BootstrapError | None:
        loop = asyncio.get_running_loop()
        deadline = Deadline(asyncio.Event(), self.timeout_s)
        if self.stop_after_s is not None:
            loop.call_later(self.stop_after_s, deadline.stop.set)
        converger = Converger(
            assessor=Assessor(source=self.script, desired=self.desired, policy=Policy()),
            executor=self.applied,
            lock=RunLock(lambda _view: self.lock),
            progress=ProgressLog(desired=self.desired),
            deadline=deadline,
            may_change=self.may_change,
            expect=self.expect,
        )
        began = loop.time()
        try:
            await converger.run()
        except BootstrapError as error:
            return error
        finally:
            self.passes, self.phase = converger.passes, converger.phase
            self.seconds = loop.time() - began
        return None


def trial(*steps: Step, **changes: object) -> Trial:
    """Return a run that sees these views one after the other."""
    return replace(Trial(Script(list(steps))), **changes)  # type: ignore[arg-type]  # names of fields


def moved_primaries(*numbers: int) -> ClusterView:
    """Return a cluster some of whose primaries came back on other addresses."""
    seen = view("3x1")
    nodes = list(seen.nodes)
    for number in numbers:
        node, ip = nodes[number], f"10.9.9.{number}"
        endpoint = replace(node.endpoint, addresses=(ip,))
        nodes[number] = replace(node, endpoint=endpoint, address=replace(node.address, ip=ip))
    return replace(seen, nodes=tuple(nodes))


def test_two_healthy_observations_in_a_row_end_a_run() -> None:
    """Both include shard ids and are made without a pause; the lock is not needed."""
    run = trial(HEALTHY)
    assert run.run() is None
    assert run.script.asked == [False, True, True]
    assert (run.passes, run.seconds, run.lock.asked, run.applied.batches) == (3, 0.0, 0, [])


def test_a_run_that_changed_something_pauses_between_the_two() -> None:
    """A packet of before the change may still arrive, and a node then disagrees again."""
    run = trial(GONE, GONE, HEALTHY)
    assert run.run() is None
    before_last, last = run.script.asked_at[-2:]
    assert last - before_last >= TICK_S


@pytest.mark.parametrize("between", [APART, DiscoveryError(cause="SERVFAIL", remedy="wait")])
def test_healthy_observations_must_follow_each_other(between: Step) -> None:
    """A finding or a failure in between starts the count again."""
    run = trial(HEALTHY, between, HEALTHY, between, HEALTHY, HEALTHY, may_change=False)
    assert run.run() is None
    assert run.passes == 7


def test_a_refusal_must_be_seen_twice_in_a_row() -> None:
    """A refusal, eight clean observations and the same refusal again are not two in a row."""
    clean = [APART] * 8
    run = trial(REFUSED, *clean, REFUSED, HEALTHY, may_change=False)
    assert run.run() is None
    error = trial(REFUSED, *clean, REFUSED, REFUSED, may_change=False).run()
    assert isinstance(error, RefusedError)
    assert "redis-app-1 runs with cluster mode off" in error.cause


def test_a_failed_observation_between_two_refusals_breaks_the_series() -> None:
    """Nothing is known of the moment in between."""
    silence = DiscoveryError(cause="SERVFAIL", remedy="wait")
    assert trial(REFUSED, silence, REFUSED, HEALTHY).run() is None


def test_nothing_is_applied_when_a_run_is_refused() -> None:
    """The lock is released all the same, and the phase is the plan."""
    run = trial(REFUSED)
    assert isinstance(run.run(), RefusedError)
    assert (run.applied.batches, run.phase) == ([], "plan")


def test_a_claim_is_applied_after_the_second_observation_in_a_row() -> None:
    """A claim, eight observations without it, and the claim again are one observation."""
    apart = [APART] * 8
    run = trial(CLAIM, *apart, CLAIM, APART, HEALTHY)
    assert run.run() is None
    kinds = {type(action).__name__ for batch in run.applied.batches for action in batch}
    assert "ClaimSlots" not in kinds
    run = trial(CLAIM, CLAIM, HEALTHY)
    assert run.run() is None
    assert type(run.applied.batches[0][0]).__name__ == "ClaimSlots"


def test_the_second_observation_is_made_under_the_lock_after_a_pause() -> None:
    """Two observations at one moment would confirm what the servers change at that moment."""
    run = trial(GONE, GONE, HEALTHY)
    assert run.run() is None
    assert all(isinstance(action, Forget) for action in run.applied.batches[0])
    assert len(run.applied.batches) == 1
    assert run.seconds >= TICK_S


def test_another_plan_under_the_lock_is_not_confirmed() -> None:
    """What another run has done meanwhile is not done again."""
    run = trial(GONE, HEALTHY, HEALTHY)
    assert run.run() is None
    assert run.applied.batches == []


def test_a_run_waits_for_the_lock_of_another() -> None:
    """The run observes meanwhile, applies nothing, and continues when the lock is free."""
    run = trial(APART, APART, APART, APART, APART, HEALTHY)
    run.lock = FakeLock(["run-1", "run-1", None])
    assert run.run() is None
    assert len(run.applied.batches) >= 1
    assert run.lock.asked >= 3


def test_a_lock_that_is_never_free_is_named_at_the_deadline() -> None:
    """The holder is the cause."""
    run = trial(APART, timeout_s=20.0)
    run.lock = FakeLock(["redis-cluster-bootstrap:1234"])
    error = run.run()
    assert isinstance(error, NotConvergedError)
    assert "redis-cluster-bootstrap:1234" in error.cause
    assert run.applied.batches == []
    assert run.seconds == 20.0


def test_a_lock_that_was_lost_is_acquired_on_another_connection() -> None:
    """A node of the lock that does not answer is looked for again."""
    lost = NodeUnreachableError(node="redis-app-0", cause="no answer", remedy="wait")
    run = trial(APART, APART, APART, APART, HEALTHY)
    run.lock = FakeLock([None, lost, None])
    assert run.run() is None
    assert run.lock.released >= 2


def test_a_wrong_password_ends_a_run_at_once() -> None:
    """A rejected password is not tried again."""
    run = trial(CredentialsError(node="redis-app-0", cause="WRONGPASS", remedy="set it"))
    assert isinstance(run.run(), CredentialsError)
    assert run.passes == 1


def test_missing_pods_are_the_cause_at_the_deadline() -> None:
    """The pod is named, nothing is applied, and passes come seldom."""
    run = trial(MISSING, timeout_s=60.0)
    error = run.run()
    assert isinstance(error, NotConvergedError)
    assert error.node == "redis-app-2"
    assert error.cause.startswith("not healthy after 60 s: redis-app-2")
    assert run.applied.batches == []
    assert run.passes < 70


def test_a_pod_that_never_answers_is_named() -> None:
    """Where no observation was completed, who was asked is the cause."""
    run = trial(HEALTHY, timeout_s=5.0)
    run.script = Script([HEALTHY], unanswered={"redis-app-1"}, answer_s=100.0)
    error = run.run()
    assert isinstance(error, NotConvergedError)
    assert error.node == "redis-app-1"
    assert run.seconds == 5.0


@pytest.mark.parametrize("steps", [[MISSING], [APART]])
def test_a_signal_stops_a_run(steps: Sequence[Step]) -> None:
    """A signal ends the pause between two passes at once."""
    run = trial(*steps, may_change=False, stop_after_s=3.0)
    assert isinstance(run.run(), StoppedError)
    assert run.seconds == 3.0


def test_a_signal_lets_a_change_under_way_finish() -> None:
    """What is being applied is not cancelled, and nothing further is applied."""
    run = trial(APART, stop_after_s=2.0)
    run.applied = Applied(seconds=6.0)
    assert isinstance(run.run(), StoppedError)
    assert run.seconds >= 6.0
    assert len(run.applied.batches) == 1


def test_a_change_that_does_not_finish_is_cancelled() -> None:
    """A stop waits for it a limited time."""
    run = trial(APART, stop_after_s=1.0)
    run.applied = Applied(seconds=500.0)
    assert isinstance(run.run(), StoppedError)
    assert run.seconds < 30.0


def test_a_deadline_while_a_change_is_under_way_is_not_a_signal() -> None:
    """The exit code is that of a run that may be tried again."""
    run = trial(APART, timeout_s=2.0)
    run.applied = Applied(seconds=4.0)
    assert isinstance(run.run(), NotConvergedError)


def test_a_failure_under_a_stop_is_reported_as_the_stop() -> None:
    """What fails because the run ends is not the cause of its end."""
    run = trial(APART, stop_after_s=1.0)
    failure = StaleViewError(cause="cut", remedy="wait")
    run.applied = Applied(seconds=3.0, failures=[failure])
    assert isinstance(run.run(), StoppedError)


def test_a_transient_failure_is_retried() -> None:
    """The next pass observes again and applies what is still missing."""
    run = trial(APART, APART, APART, APART, HEALTHY)
    run.applied = Applied(failures=[StaleViewError(cause="moved", remedy="wait"), None])
    assert run.run() is None
    assert len(run.applied.batches) >= 2


def test_a_plan_that_a_server_always_rejects_is_refused_before_the_deadline() -> None:
    """The command is not repeated until the deadline, and the answer is in the cause."""
    run = trial(APART, timeout_s=600.0)
    rejection = StaleViewError(
        node="redis-app-0", cause="redis-app-0 answered CLUSTER MEET with: ERR no", remedy="wait"
    )
    run.applied = Applied(failures=[rejection])
    error = run.run()
    assert isinstance(error, RefusedError)
    assert "CLUSTER MEET" in error.cause
    assert error.node == "redis-app-0"
    assert run.seconds < 60.0
    assert len(run.applied.batches) < 60


def test_a_refusal_of_a_server_ends_the_run() -> None:
    """The loop adds nothing to it."""
    refusal = RefusedError(node="redis-app-0", cause="ERR unknown command", remedy="rename it back")
    run = trial(APART)
    run.applied = Applied(failures=[refusal])
    assert run.run() is refusal


def test_an_expected_plan_is_applied() -> None:
    """The plan under the lock is compared as well; later plans are not."""
    fingerprint = plan(APART, DESIRED, Policy()).fingerprint
    run = trial(APART, APART, GONE, GONE, HEALTHY, expect=fingerprint)
    assert run.run() is None
    assert len(run.applied.batches) >= 1


@pytest.mark.parametrize("steps", [[APART], [HEALTHY]])
def test_another_plan_than_the_expected_one_is_refused(steps: Sequence[Step]) -> None:
    """The plan is refused even where nothing is left to do."""
    run = trial(*steps, expect="0123456789abcdef")
    error = run.run()
    assert isinstance(error, RefusedError)
    assert "0123456789abcdef" in error.cause
    assert run.applied.batches == []


def test_a_plan_that_changed_while_the_lock_was_awaited_is_refused() -> None:
    """The world moved after the review."""
    fingerprint = plan(APART, DESIRED, Policy()).fingerprint
    run = trial(APART, GONE, expect=fingerprint)
    assert isinstance(run.run(), RefusedError)
    assert run.applied.batches == []


def test_an_expected_plan_is_compared_when_all_pods_are_there() -> None:
    """Missing pods are waited for."""
    fingerprint = plan(APART, DESIRED, Policy()).fingerprint
    run = trial(MISSING, MISSING, APART, APART, HEALTHY, expect=fingerprint)
    assert run.run() is None


def test_primaries_do_not_meet_again_under_the_plan_that_was_expected() -> None:
    """What is sent is compared with the reviewed plan, while a pod is missing as well."""
    fingerprint = plan(APART, DESIRED, Policy()).fingerprint
    assert plan(OUTAGE, DESIRED, Policy()).actions
    run = trial(OUTAGE, OUTAGE, APART, expect=fingerprint)
    assert isinstance(run.run(), RefusedError)
    assert run.applied.batches == []


def test_wait_applies_nothing() -> None:
    """The command ends when others have made the cluster healthy."""
    run = trial(APART, GONE, HEALTHY, may_change=False)
    assert run.run() is None
    assert (run.applied.batches, run.lock.asked) == ([], 0)


def test_members_that_were_introduced_again_must_stay_known_for_a_while() -> None:
    """A FORGET travels with every ping of its ban, so one healthy moment proves nothing."""
    run = trial(APART, APART, APART, HEALTHY)
    assert run.run() is None
    assert any(isinstance(a, Meet) for batch in run.applied.batches for a in batch)
    assert run.seconds >= STEADY_S


def test_failovers_are_allowed_again_however_a_run_ends() -> None:
    """A run that held failovers back gives that back when it is stopped."""
    hold = SetNoFailover(node=node_id(3), no_failover=True, reason=FindingCode.ADDRESS_STALE)
    release = replace(hold, no_failover=False, reason=FindingCode.FAILOVER_DISABLED)
    run = trial(moved_primaries(0), stop_after_s=2.0, desired=wanted("3x1"))
    assert isinstance(run.run(), StoppedError)
    held = [a for batch in run.applied.batches for a in batch if isinstance(a, SetNoFailover)]
    assert hold in held
    assert run.applied.last == [(release,)]


def test_a_change_that_the_deadline_stops_is_not_a_signal() -> None:
    """An executor that ends early because of the stop does not decide the exit code."""
    run = trial(APART, timeout_s=2.0)
    stopped = StoppedError(cause="stopped", remedy="run it again")
    run.applied = Applied(seconds=4.0, failures=[stopped])
    assert isinstance(run.run(), NotConvergedError)
    early = trial(APART, timeout_s=20.0)
    early.applied = Applied(failures=[stopped])
    assert early.run() is stopped


def test_a_signal_after_a_change_does_not_wait_for_an_observation() -> None:
    """Only a change that is under way delays the end of a run."""
    run = trial(APART, APART, GONE, timeout_s=600.0, stop_after_s=25.0)
    run.script.answer_s = 10.0
    assert isinstance(run.run(), StoppedError)
    assert len(run.applied.batches) == 1
    assert run.seconds == 25.0


def test_the_pause_between_passes_follows_the_time_that_one_takes() -> None:
    """Servers get half of the time that a pass took, and at most a second."""
    for answer_s, pass_s in ((0.0, 0.1), (0.1, 0.2), (1.0, 1.5), (10.0, 11.0)):
        run = trial(DISAGREEING, timeout_s=20.25 * pass_s)
        run.script.answer_s = answer_s
        assert isinstance(run.run(), NotConvergedError)
        assert run.passes == 21


def test_pauses_double_while_pods_are_missing() -> None:
    """The pauses are 0.2, 0.4 and 0.8 seconds long, then a second each."""
    run = trial(MISSING, timeout_s=5.0)
    run.run()
    assert run.passes == 7


def test_a_run_names_its_phase_when_it_fails() -> None:
    """Observing comes first, verifying follows a healthy observation, and stages have names."""
    refused = RefusedError(cause="no", remedy="fix it")
    for steps, phase in (([refused], "observe"), ([HEALTHY, refused], "verify")):
        run = trial(*steps)
        assert run.run() is refused
        assert run.phase == phase
    run = trial(APART)
    run.applied = Applied(failures=[refused])
    assert run.run() is refused
    assert run.phase == "introduce"


def test_a_refusal_has_every_cause_and_the_first_remedy() -> None:
    """The pod of the first refusal is named."""
    nodes = (replace(n, cluster_enabled=n.endpoint.ordinal == 0) for n in HEALTHY.nodes)
    error = trial(replace(HEALTHY, nodes=tuple(nodes))).run()
    assert isinstance(error, RefusedError)
    assert error.node == "redis-app-1"
    first, second = error.cause.split("; ")
    assert first.startswith("redis-app-1 ")
    assert second.startswith("redis-app-2 ")
    assert "cluster-enabled" in error.remedy


@pytest.mark.parametrize("failure", [None, StaleViewError(cause="cut", remedy="wait")])
def test_all_failovers_that_a_run_has_held_are_allowed_again(failure: Exception | None) -> None:
    """The holds of several plans add up, also where it is not known whether they arrived."""
    run = trial(moved_primaries(0), moved_primaries(0), moved_primaries(1), desired=wanted("3x1"))
    run.stop_after_s = 2.0
    run.applied = Applied(failures=[failure])
    assert isinstance(run.run(), StoppedError)
    (released,) = run.applied.last
    assert {a.node for a in released if isinstance(a, SetNoFailover)} == {node_id(3), node_id(4)}
    assert all(isinstance(a, SetNoFailover) and not a.no_failover for a in released)


@pytest.mark.parametrize(
    ("failure", "seconds"), [(RefusedError(cause="no", remedy="x"), 0.0), (None, 500.0)]
)
def test_a_release_that_fails_does_not_hide_how_the_run_ended(
    failure: Exception | None, seconds: float
) -> None:
    """The release takes two seconds at most, and the lock is released in any case."""
    run = trial(moved_primaries(0), stop_after_s=2.0, desired=wanted("3x1"))
    run.applied = Applied(last_failure=failure, last_seconds=seconds)
    assert isinstance(run.run(), StoppedError)
    assert run.seconds == (2.0 if failure else 4.0)
    assert run.lock.released >= 1


def test_only_a_plan_that_may_be_applied_is_made_again_under_a_new_lock() -> None:
    """A step that needs a second observation is not observed twice in one pass."""
    run = trial(GONE, GONE, HEALTHY)
    assert run.run() is None
    assert (run.passes, len(run.script.asked)) == (5, 5)
    run = trial(APART, APART, APART, HEALTHY)
    assert run.run() is None
    assert len(run.applied.batches) == 2
    assert len(run.script.asked) == run.passes + 1


def test_a_hold_whose_release_failed_is_released_at_the_end() -> None:
    """A release that may not have arrived does not count as one."""
    held = builders.field(view("3x1"), 3, no_failover=True)
    run = trial(moved_primaries(0), moved_primaries(0), held, desired=wanted("3x1"))
    failure = StaleViewError(cause="cut", remedy="wait")
    run.applied = Applied(failures=[None, failure])
    run.stop_after_s = 2.0
    assert isinstance(run.run(), StoppedError)
    (released,) = run.applied.last
    assert {a.node for a in released if isinstance(a, SetNoFailover)} == {node_id(3)}
