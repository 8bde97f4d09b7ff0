"""The loop: observe, plan, apply, and again, until the cluster is healthy on every node.

Rules: it decides nothing about clusters, `core.planner` does; it never assumes what an earlier
run, or an earlier pass, did; it exits 0 only after two looks in a row that were healthy, the second
with shard ids. Every failure says which pod, which phase, which cause and what to do next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from ..core import forming, planner
from ..core.actions import Action, ClaimSlots, Forget, HoldFailover, Plan, Stage, describe
from ..core.findings import WAITING, FindingCode
from ..core.planner import Policy
from ..core.topology import ClusterView, DesiredTopology, NodeId
from ..errors import BootstrapError, NotConvergedError, RefusedError, StoppedError, TransientError
from ..net.executor import Executor
from ..net.lock import ConnectionLock
from ..net.migration.session import MigrationHistory
from ..net.observer import Observer
from ..net.pool import ConnectionPool
from ..process.summary import Summary
from .progress import ProgressLog

TICK_S = 0.1
LONGEST_PAUSE_S = 1.0
CLOSING_S = 20.0
STEADY_S = 1.5
KEEP_LOCK_EVERY_S = 5.0

_log = structlog.get_logger()


@dataclass(slots=True)
class Converger:
    """One run of the loop.

    Attributes:
        stop: Set by a signal or by the deadline; what is in flight is closed first.
        may_change: False for `wait`, which only watches.
        expect: Fingerprint of the reviewed plan; the first plan must be that one.
        verbose: Log every action.
    """

    observer: Observer
    pool: ConnectionPool
    lock_on: Callable[[ClusterView], ConnectionLock]
    desired: DesiredTopology
    policy: Policy
    timeout_s: float
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    may_change: bool = True
    expect: str | None = None
    verbose: bool = False
    summary: Summary = field(default_factory=Summary)
    _phase: str = "discover"
    _is_changing: bool = False
    _is_late: bool = False
    _with_shards: bool = False
    _lock: ConnectionLock | None = None
    _holder: str | None = None
    _view: ClusterView | None = None
    _plan: Plan | None = None
    _unanswered: list[str] = field(default_factory=list)
    _before: str | None = None
    _steady_s: float = 0.0
    _memory: MigrationHistory = field(default_factory=MigrationHistory)
    _held: set[NodeId] = field(default_factory=set)
    _progress: ProgressLog = field(init=False)

    def __post_init__(self) -> None:
        """Let people hear of it."""
        self._progress = ProgressLog(desired=self.desired)

    async def run(self) -> Summary:
        """Run until the cluster is healthy.

        Raises:
            BootstrapError: Why it is not; `summary` says how far it came.
        """
        started = time.monotonic()
        deadline = asyncio.get_running_loop().call_later(self.timeout_s, self._expire)
        try:
            await self._until_stopped(self._loop())
        except Exception as error:
            self.summary.note_failure(error, phase=self._phase)
            raise
        finally:
            deadline.cancel()
            await self._let_go()
            self._count(time.monotonic() - started)
        self.summary.outcome, self.summary.exit_code = "healthy", 0
        return self.summary

    def _expire(self) -> None:
        self._is_late = True
        self._unanswered = sorted(self.observer.unanswered)
        self.stop.set()

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        """Run the loop; on a stop let actions under way end, then raise what was asked for."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and self._is_changing:
                await asyncio.wait({task}, timeout=CLOSING_S)
        finally:
            stopping.cancel()
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if task.done() and not task.cancelled():
            failure = task.exception()
            if failure is None or not isinstance(failure, TransientError | StoppedError):
                return task.result()
        raise self._ending()

    async def _loop(self) -> None:
        healthy_looks, healthy_since = 0, 0.0
        pause = TICK_S
        while not self.stop.is_set():
            self.summary.passes += 1
            looked_at = time.monotonic()
            try:
                plan = await self._look(shards=self._is_waiting())
                self._compare(plan)
                healthy_looks = healthy_looks + 1 if plan.is_healthy else 0
                healthy_looks = min(healthy_looks, 1 + self._with_shards)
                healthy_since = healthy_since if healthy_looks else time.monotonic()
                if healthy_looks > 1 and time.monotonic() - healthy_since >= self._steady_s:
                    return
                acted = not healthy_looks and await self._act(plan)
                is_stuck = False
            except TransientError as error:
                is_stuck = self._progress.failed(error, phase=self._phase)
                acted, healthy_looks = False, 0
            look_s = time.monotonic() - looked_at
            slow = is_stuck or (self._is_absent() and not acted)
            pause = min(2 * pause, LONGEST_PAUSE_S) if slow else TICK_S
            if not healthy_looks or self._steady_s:
                await self._pause(max(pause, min(look_s / 2, LONGEST_PAUSE_S)))
        raise self._ending()

    def _is_waiting(self) -> bool:
        """Return whether the last observation left nothing to do, so that shard ids matter."""
        plan = self._plan
        settling = plan is not None and plan.stage in (None, Stage.REFRESH_VIEWS)
        return settling and not self._is_absent()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    async def _look(self, *, shards: bool) -> Plan:
        """Observe and plan; tell what changed."""
        self._phase = "verify" if shards else "observe"
        self._with_shards = shards
        view = await self.observer.observe(shards=shards)
        if slots := planner.probe_slots(view, self.desired):
            view = await self.observer.count_keys(view, slots)
        self._view = view
        plan = self._plan = planner.plan(view, self.desired, self.policy)
        self._progress.looked(view, plan)
        if plan.refusals and self._is_confirmed(plan):
            first = plan.refusals[0]
            self._phase = "plan"
            for refusal in plan.refusals:
                _log.warning("plan.refused", node=refusal.node, cause=refusal.cause)
            causes = "; ".join(refusal.cause for refusal in plan.refusals)
            raise RefusedError(node=first.node, cause=causes, remedy=first.remedy)
        return plan

    def _compare(self, plan: Plan) -> None:
        """Refuse where the first plan is not the one that was reviewed."""
        if self.expect not in (None, plan.fingerprint) and not self._is_absent():
            raise RefusedError(
                cause=f"the plan is {plan.fingerprint} now, not {self.expect}",
                remedy="look at `plan` again",
            )

    def _is_confirmed(self, plan: Plan) -> bool:
        """Return whether the look before gave the same plan.

        Nodes are asked at the same time, not at one moment: a slot that the servers hand over
        meanwhile can seem to have no owner. What would refuse or claim must be seen twice.
        """
        before, self._before = self._before, plan.fingerprint
        return before == plan.fingerprint

    def _is_calm(self, plan: Plan) -> bool:
        """Return whether a running cluster that we changed nothing in has only views to settle.

        Gossip is about to do that by itself; it is helped only where it does not.
        """
        serves = all(f.code is not FindingCode.STATE_FAIL for f in plan.findings)
        return plan.stage is Stage.REFRESH_VIEWS and serves and self.summary.actions == 0

    async def _act(self, plan: Plan) -> bool:
        """Apply the stage, if there is one, and it is our turn."""
        if not self.may_change or not plan.actions or self._view is None:
            return False
        is_first = self._lock is None or self._holder is not None
        if not await self._has_lock(self._view):
            return False
        if is_first:
            plan = await self._look(shards=False)
            self._compare(plan)
        is_grave = any(isinstance(a, ClaimSlots | Forget) for a in plan.actions)
        if (is_grave or self._is_calm(plan)) and not self._is_confirmed(plan):
            return False
        self.expect = None
        self._phase = plan.stage.name.lower() if plan.stage else "apply"
        self._progress.planned(plan, stage=self._phase)
        await self._apply(self._view, plan.actions)
        return True

    async def _apply(self, view: ClusterView, actions: Sequence[Action]) -> None:
        executor = Executor(
            pool=self.pool,
            view=view,
            stop=self.stop,
            on_progress=self._progress.moved,
            memory=self._memory,
        )
        for action in actions:
            if isinstance(action, HoldFailover):
                (self._held.add if action.hold else self._held.discard)(action.node)
            if self.verbose:
                _log.debug("action.started", **describe(action))
        if forming.reintroduces_members(view, actions):
            self._steady_s = STEADY_S
        self._is_changing = True
        keeping = asyncio.ensure_future(self._keep_lock())
        try:
            self.summary.actions += await executor.apply(actions)
        finally:
            keeping.cancel()
            self._is_changing = False
            self.summary.slots_moved += executor.progress.slots_moved
            self.summary.keys_moved += executor.progress.keys_moved

    async def _has_lock(self, view: ClusterView) -> bool:
        """Take the lock; a plan made before that may be another run's past."""
        if self._lock is None:
            self._lock = self.lock_on(view)
        try:
            holder = await self._lock.try_acquire()
        except TransientError:
            # Its pod may be elsewhere by now; the next look tells where.
            await self._lock.release()
            self._lock = None
            raise
        if holder and holder != self._holder:
            _log.info("lock.waited", holder=holder)
        self._holder = holder
        return holder is None

    async def _keep_lock(self) -> None:
        """Use the lock's connection while a long stage runs, or other runs take it for dead."""
        while self._lock is not None:
            await asyncio.sleep(KEEP_LOCK_EVERY_S)
            with suppress(BootstrapError):
                await self._lock.try_acquire()

    def _is_absent(self) -> bool:
        findings = self._plan.findings if self._plan else ()
        return any(f.code in WAITING for f in findings)

    def _ending(self) -> BootstrapError:
        """Return why the run ends before the cluster is healthy."""
        if not self._is_late:
            return StoppedError(
                cause="stopped by a signal", remedy="run it again, it goes on where this one ended"
            )
        name, cause, remedy = self._progress.timeout_cause(
            holder=self._holder, unanswered=self._unanswered
        )
        return NotConvergedError(
            node=name,
            cause=f"not healthy after {self.timeout_s:g} s: {cause}",
            remedy=remedy,
        )

    async def _let_go(self) -> None:
        """Give back holds on failover, the lock and the connections."""
        if self._held and self._view is not None:
            nodes = [n for n in self._view.nodes if n.node_id in self._held]
            await asyncio.gather(
                *(
                    self.pool.client(n.name).write(
                        "CONFIG", "SET", "cluster-replica-no-failover", "no", timeout_s=2.0
                    )
                    for n in nodes
                ),
                return_exceptions=True,
            )
        if self._lock is not None:
            await self._lock.release()
        await self.pool.close()

    def _count(self, seconds: float) -> None:
        traffic = self.pool.access.traffic
        self.summary.duration_s = round(seconds, 3)
        self.summary.commands = traffic.commands
        self.summary.write_commands = traffic.writes
        self.summary.round_trips = traffic.round_trips
