"""What the observations of a run have shown so far, as far as decisions depend on it.

Rules: a value that is never modified; every observation makes the next value out of the last one,
also an observation that is used for nothing else, and an attempt that failed breaks every series.
Nodes are asked at the same time, not at one moment: a slot that the servers pass on meanwhile can
seem to have no owner. So whatever cannot be taken back needs the same plan twice in a row.

Invariant: `repeats` and `healthy_in_a_row` count observations that directly follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .actions import ClaimSlots, CloseSlots, Failover, FailoverMode, Forget, Plan, Stage
from .findings import FindingCode

CONFIRMATIONS = 2
# Servers tell each other of changes within some ticks of 100 ms; until then nothing is wrong.
CALM_CONFIRMATIONS = 3
MOST_EQUAL_FAILURES = 10
EQUAL_FAILURES_S = 30.0
# Equal plans without an effect: after these the servers get more time before each next one.
_UNHURRIED_REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What earlier observations have shown. Times are seconds of any steady clock.

    Attributes:
        plan: Of the last observation; None when there was none, or when the last attempt failed.
        repeats: Observations in a row that gave this plan, the last one included.
        healthy_in_a_row: Observations with shard ids in a row that found the cluster healthy.
        healthy_since: When the first of these was made.
        failure: Cause of the last attempt that failed, while its plan is still the plan.
        failures: How often in a row that plan ended with that failure.
        failing_since: When it did so first.
    """

    plan: Plan | None = None
    repeats: int = 0
    healthy_in_a_row: int = 0
    healthy_since: float = 0.0
    failure: str | None = None
    failures: int = 0
    failing_since: float = 0.0
    _failed_plan: str | None = None

    def after(self, plan: Plan, *, now: float, has_shards: bool) -> History:
        """Return the history with one more observation."""
        is_same = self.plan is not None and self.plan.fingerprint == plan.fingerprint
        keeps_failure = self._failed_plan == plan.fingerprint
        history = self if keeps_failure else replace(self, failure=None, failures=0)
        return replace(
            history,
            plan=plan,
            repeats=self.repeats + 1 if is_same else 1,
            healthy_in_a_row=self.healthy_in_a_row + 1 if plan.is_healthy and has_shards else 0,
            healthy_since=self.healthy_since if self.healthy_in_a_row else now,
        )

    def after_failure(self, cause: str, *, now: float) -> History:
        """Return the history after an attempt to observe or to act that failed."""
        is_same = cause == self.failure
        return History(
            failure=cause,
            failures=self.failures + 1 if is_same else 1,
            failing_since=self.failing_since if is_same else now,
            _failed_plan=self.plan.fingerprint if self.plan else self._failed_plan,
        )

    @property
    def is_confirmed(self) -> bool:
        """Return whether the last two observations gave the same plan."""
        return self.repeats >= CONFIRMATIONS

    def is_proven_healthy(self, *, now: float, steady_s: float) -> bool:
        """Return whether the cluster was healthy twice in a row and for this many seconds."""
        return self.healthy_in_a_row >= CONFIRMATIONS and now - self.healthy_since >= steady_s

    @property
    def is_healthy(self) -> bool:
        """Return whether the last observation found the cluster healthy, shard ids or not."""
        return self.plan is not None and self.plan.is_healthy

    @property
    def wants_shards(self) -> bool:
        """Return whether shard ids matter now: only the agreement of the views is still missing."""
        ends = (None, Stage.REFRESH_VIEWS)
        return self.plan is not None and self.plan.stage in ends and not self.is_waiting

    @property
    def is_waiting(self) -> bool:
        """Return whether pods or members were missing at the last observation."""
        return self.plan is not None and self.plan.is_waiting

    def may_apply(self, *, has_acted: bool) -> bool:
        """Return whether the last plan may be applied now, or must be seen once more before."""
        if self.plan is None or not self.plan.actions:
            return False
        if _is_calm(self.plan, has_acted=has_acted):
            return self.repeats >= CALM_CONFIRMATIONS
        return self.is_confirmed or not _is_final(self.plan)

    def is_hopeless(self, *, now: float) -> bool:
        """Return whether the same plan has ended with the same failure too often to be repeated."""
        return self.failures >= MOST_EQUAL_FAILURES and now - self.failing_since >= EQUAL_FAILURES_S

    @property
    def delays(self) -> int:
        """Return by how many doublings the next pass should come later, as nothing has changed."""
        if self.is_waiting:
            return self.repeats
        acts = self.plan is not None and bool(self.plan.actions)
        return max(self.failures - 1, self.repeats - _UNHURRIED_REPEATS if acts else 0, 0)


def _is_final(plan: Plan) -> bool:
    """Return whether a plan has a step that no later one can take back."""
    return any(
        isinstance(action, ClaimSlots | CloseSlots | Forget)
        or (isinstance(action, Failover) and action.mode is FailoverMode.TAKEOVER)
        for action in plan.actions
    )


def _is_calm(plan: Plan, *, has_acted: bool) -> bool:
    """Return whether a running cluster that we did not change has only views to bring up to date.

    Gossip is about to do that by itself; it is helped only where it does not.
    """
    serves = all(f.code is not FindingCode.STATE_FAIL for f in plan.findings)
    return plan.stage is Stage.REFRESH_VIEWS and serves and not has_acted
