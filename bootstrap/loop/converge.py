"""The loop: observe, plan, apply, and again, until the cluster is healthy on every node.

Rules: it decides nothing about clusters, `core.planner` does; what must be seen twice is decided by
`core.confirmations`; it never assumes what an earlier run, or an earlier pass, did. Every failure
names the pod, the phase, the cause and what to do next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ..core import introductions
from ..core.actions import Action, Plan
from ..core.confirmations import History
from ..core.topology import ClusterView, NodeId
from ..errors import (
    BootstrapError,
    NotConvergedError,
    RefusedError,
    StaleViewError,
    StoppedError,
    TransientError,
)
from .observation import Assessor, Observation
from .progress import ProgressLog
from .run_lock import RunLock
from .stopping import Deadline, now, pause, run_until

TICK_S = 0.1
LONGEST_PAUSE_S = 1.0
# After members of a running cluster were introduced again: a FORGET may still travel (60 s ban).
STEADY_S = 1.5
RELEASE_TIMEOUT_S = 2.0


class ActionExecutor(Protocol):
    """What carries actions out; `net.executor.Executor`."""

    async def apply(
        self, view: ClusterView, actions: Sequence[Action], *, despite_stop: bool = False
    ) -> None:
        """Carry out actions that were planned from this view."""


@dataclass(slots=True, kw_only=True)
class Converger:
    """One run of the loop.

    Attributes:
        deadline: Of the run; its `stop` ends the run after what is under way.
        may_change: False for `wait`, which only observes.
        expect: Fingerprint of the reviewed plan; the first plan must be that one.
        phase: What the run is doing.
        passes: Turns of the loop so far.
    """

    assessor: Assessor
    executor: ActionExecutor
    lock: RunLock
    progress: ProgressLog
    deadline: Deadline
    may_change: bool = True
    expect: str | None = None
    phase: str = "discover"
    passes: int = 0
    _history: History = field(default_factory=History)
    _view: ClusterView | None = None
    _steady_s: float = 0.0
    _is_applying: bool = False
    _has_acted: bool = False
    _holds: frozenset[NodeId] = frozenset()

    async def run(self) -> None:
        """Run until the cluster is healthy.

        Raises:
            RefusedError: A person must decide.
            SettingsError: Settings or credentials cannot work.
            NotConvergedError: The deadline came first.
            StoppedError: A signal came first.
        """
        stop = self.deadline.stop
        try:
            with self.deadline.running():
                is_healthy = await run_until(
                    stop, self._until_healthy(), is_closing=lambda: self._is_applying
                )
        except (TransientError, StoppedError) as error:
            if not stop.is_set():
                raise
            raise self._end() from error
        finally:
            await self._release()
        if not is_healthy:
            raise self._end()

    async def _until_healthy(self) -> bool:
        """Return True once the cluster is healthy, False when a stop was asked for before."""
        while not self.deadline.stop.is_set():
            self.passes += 1
            began = now()
            try:
                seen = await self._observe()
                if self._history.is_proven_healthy(now=now(), steady_s=self._steady_s):
                    return True
                await self._act(seen)
            except TransientError as error:
                self._note_failure(error)
            await self._pause(began)
        return False

    async def _observe(self) -> Observation:
        """Observe and plan; refuse where the same refusal was seen twice in a row."""
        shards = self._history.wants_shards
        self.phase = "verify" if shards else "observe"
        seen = await self.assessor.observe(shards=shards)
        self._view = seen.view
        self._history = self._history.after(seen.plan, now=now(), has_shards=shards)
        self.progress.observed(seen)
        self._check_expected(seen.plan)
        if seen.plan.refusals and self._history.is_confirmed:
            self.phase = "plan"
            self.progress.refused(seen.plan)
            raise _refusal(seen.plan)
        return seen

    def _check_expected(self, plan: Plan) -> None:
        """Refuse where the first plan is not the one that was reviewed."""
        if self.expect not in (None, plan.fingerprint) and not self._history.is_waiting:
            raise RefusedError(
                cause=f"the plan is {plan.fingerprint} now, not {self.expect}",
                remedy="review the output of `plan` again",
            )

    async def _act(self, seen: Observation) -> None:
        """Apply the plan, if there is one, it is our turn, and it was seen often enough."""
        if not self.may_change or not seen.plan.actions:
            return
        if not await self.lock.acquire(seen.view):
            return
        if self.lock.is_new and self._history.may_apply(has_acted=self._has_acted):
            # The plan was made before the lock was ours: another run may have applied it since.
            # What must be seen once more is observed by the next pass, after a pause.
            seen = await self._observe()
        if not self._history.may_apply(has_acted=self._has_acted):
            return
        self.expect = None
        self.phase = seen.plan.stage or "apply"
        self.progress.planned(seen.plan, stage=self.phase)
        await self._apply(seen)

    async def _apply(self, seen: Observation) -> None:
        actions = seen.plan.actions
        # Noted before they are sent: a hold that may have arrived is released at the end.
        self._holds |= introductions.holds_after(self._holds, actions)
        if introductions.reintroduces_members(seen.view, actions):
            self._steady_s = STEADY_S
        self._has_acted = self._is_applying = True
        try:
            async with self.lock.kept_alive():
                await self.executor.apply(seen.view, actions)
        finally:
            self._is_applying = False
        self._holds = introductions.holds_after(self._holds, actions)

    def _note_failure(self, error: TransientError) -> None:
        """Take note of a pass that failed; refuse where repeating it has proven useless."""
        self.progress.failed(error, phase=self.phase)
        self._history = self._history.after_failure(error.cause, now=now())
        if isinstance(error, StaleViewError) and self._history.is_hopeless(now=now()):
            raise RefusedError(
                node=error.node,
                cause=f"{self._history.failures} attempts ended the same way: {error.cause}",
                remedy="inspect the log of that pod, fix the cause and run again",
            ) from error

    async def _pause(self, began: float) -> None:
        """Wait before the next pass; not where all is healthy and only to be seen once more.

        After a change a packet of before it can still arrive, and a node then sees a shard as it
        was: the two observations that count have a pause between them.
        """
        is_settled = not self._has_acted or not self._history.healthy_in_a_row
        if self._history.is_healthy and is_settled and not self._steady_s:
            return
        delay_s = min(TICK_S * 2**self._history.delays, LONGEST_PAUSE_S)
        # A pass that took long is not followed at once by the next one: servers have work to do.
        longest = min((now() - began) / 2, LONGEST_PAUSE_S)
        await pause(self.deadline.stop, max(delay_s, longest))

    def _end(self) -> BootstrapError:
        """Return why the run ends before the cluster is healthy."""
        if not self.deadline.is_over:
            return StoppedError(
                cause="stopped by a signal", remedy="run it again; it continues from there"
            )
        late = self.progress.timeout_cause(
            lock_holder=self.lock.holder, unanswered=sorted(self.assessor.source.unanswered)
        )
        return NotConvergedError(
            node=late.node,
            cause=f"not healthy after {self.deadline.seconds:g} s: {late.cause}",
            remedy=late.remedy,
        )

    async def _release(self) -> None:
        """Allow failovers again that this run has held back, and release the lock."""
        actions = introductions.release_holds(sorted(self._holds))
        if actions and self._view is not None:
            with suppress(BootstrapError, TimeoutError):
                async with asyncio.timeout(RELEASE_TIMEOUT_S):
                    await self.executor.apply(self._view, actions, despite_stop=True)
        await self.lock.release()


def _refusal(plan: Plan) -> RefusedError:
    """Return all refusals of a plan as one error, with the remedy of the first."""
    first = plan.refusals[0]
    causes = "; ".join(refusal.cause for refusal in plan.refusals)
    return RefusedError(node=first.node, cause=causes, remedy=first.remedy)
