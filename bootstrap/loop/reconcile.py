"""Keeps a cluster healthy: observes it again and again, and runs the loop when it is not.

Rules: a run is started only when there is something to do and the cluster has been still for a
while (`core.stillness`), so that a person or another tool is never interrupted; pods on new
addresses are introduced at once. What cannot be taken back must be seen twice in a row here and
once more in the run (`core.confirmations`). Runs that fail are followed by others at growing
intervals, and a refusal is observed again at growing intervals.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from ..core.confirmations import History
from ..core.stillness import Stillness
from ..core.verdict import State, Verdict
from ..errors import (
    CredentialsError,
    ExitCode,
    InvariantError,
    RefusedError,
    SettingsError,
    TransientError,
)
from ..process.summary import Summary
from .health import Health
from .observation import Assessor, Observation
from .stopping import now, pause

# While something is wrong it is observed more often than while all is well.
UNHEALTHY_INTERVAL_S = 1.0
# After a run that ended healthy, until readiness says so too.
CONFIRMING_INTERVAL_S = 0.1
LONGEST_INTERVAL_S = 30.0
FIRST_RUN_PAUSE_S = 5.0
LONGEST_RUN_PAUSE_S = 120.0
_JITTER = 0.2
# After so long without an observation, what is wrong does not pass by itself.
_PATIENCE_S = 300.0

_log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """Observes and runs until it is stopped.

    Attributes:
        run_once: Runs the loop once and returns how that ended.
        interval_s: Time between two observations of a healthy cluster.
    """

    assessor: Assessor
    run_once: Callable[[], Awaitable[Summary]]
    health: Health
    stop: asyncio.Event
    interval_s: float
    _history: History = field(default_factory=History)
    _stillness: Stillness = field(default_factory=Stillness)
    _verdict: Verdict | None = None
    _refusals: int = 0
    _failed_runs: int = 0
    _next_run_at: float = 0.0
    _is_running: bool = False
    _is_confirming: bool = False

    @property
    def is_running(self) -> bool:
        """Return whether a run is under way, which closes what it has begun when it is stopped."""
        return self._is_running

    async def run(self) -> None:
        """Keep the cluster healthy until the stop.

        Raises:
            CredentialsError: A pod rejected the credentials: a restart reads them again.
            SettingsError: Settings are wrong for a pod, and the last observation, if there was one,
                is five minutes ago: a restart reads the settings and the certificates again.
        """
        while not self.stop.is_set():
            try:
                # What is wrong right after a run is observed once more: runs have a pause between.
                is_confirming = self._is_confirming
                seen = await self._observe()
                if not is_confirming and self._should_run(seen):
                    await self._run()
            except CredentialsError:
                raise
            except (TransientError, RefusedError, InvariantError, SettingsError) as error:
                age_s = self.health.age_s
                if isinstance(error, SettingsError) and (age_s is None or age_s > _PATIENCE_S):
                    raise
                self._history = self._history.after_failure(error.cause, now=now())
                self._is_confirming = False
                # What does not pass by itself is observed again at growing intervals.
                self._refusals += not isinstance(error, TransientError)
                self.health.note_failure(error)
            self._log_change()
            await pause(self.stop, self._interval())

    async def _observe(self) -> Observation:
        began = now()
        shards = self._history.wants_shards
        seen = await self.assessor.observe(shards=shards)
        at = now()
        self._history = self._history.after(seen.plan, now=at, has_shards=shards)
        self._stillness = self._stillness.after(seen.view, now=at)
        proven = self._history.healthy_in_a_row > 1
        self._is_confirming &= self._history.is_healthy and not proven
        self._refusals = self._refusals + 1 if seen.plan.refusals else 0
        self.health.note(seen, self._history, seconds=at - began)
        if self.health.is_healthy:
            # What goes wrong after this has nothing to do with what failed before.
            self._failed_runs, self._next_run_at = 0, 0.0
        return seen

    def _should_run(self, seen: Observation) -> bool:
        """Return whether a run has something to do that no other tool is doing."""
        at = now()
        return (
            self._history.may_apply(has_acted=False)
            and self._stillness.allows(seen.plan, seen.view, now=at)
            and at >= self._next_run_at
        )

    async def _run(self) -> None:
        self._is_running = True
        try:
            summary = await self.run_once()
        finally:
            self._is_running = False
        self.health.note_run(summary)
        is_healthy = summary.exit_code is ExitCode.HEALTHY
        self._is_confirming = is_healthy
        self._failed_runs = 0 if is_healthy else self._failed_runs + 1
        wait_s = FIRST_RUN_PAUSE_S * 2 ** (self._failed_runs - 1) if self._failed_runs else 0.0
        self._next_run_at = now() + min(wait_s, LONGEST_RUN_PAUSE_S)
        self._history, self._stillness = History(), Stillness()

    def _interval(self) -> float:
        """Return the seconds until the next observation."""
        if self._history.healthy_in_a_row > 1:
            wait_s = self.interval_s
        elif self._is_confirming:
            wait_s = CONFIRMING_INTERVAL_S
        elif self._refusals:
            wait_s = min(UNHEALTHY_INTERVAL_S * 1.5**self._refusals, LONGEST_INTERVAL_S)
        else:
            wait_s = min(UNHEALTHY_INTERVAL_S, self.interval_s)
        return wait_s * random.uniform(1 - _JITTER, 1 + _JITTER)

    def _log_change(self) -> None:
        """Log the state where it has changed, so that one line stands for many observations."""
        if self.health.verdict == self._verdict:
            return
        self._verdict = self.health.verdict
        state, reason = self._verdict.state, self._verdict.reason or None
        is_refused = state is State.REFUSED
        log = _log.warning if is_refused else _log.info
        remedy = self._verdict.next if is_refused else None
        log("health.changed", state=state, reason=reason, remedy=remedy)
