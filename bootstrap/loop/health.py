"""What the reconciler knows of its cluster, for readiness and metrics."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from ..core.confirmations import History
from ..core.facts import Facts
from ..core.topology import DesiredTopology
from ..core.verdict import State, Verdict, verdict
from ..errors import BootstrapError, RefusedError
from ..process.summary import Summary
from .observation import Observation
from .stopping import now


@dataclass(slots=True, kw_only=True)
class Health:
    """The last observation and the runs so far.

    Attributes:
        fresh_s: How old an observation may be before it says nothing any more.
        is_healthy: Whether it was healthy, and so was the one before.
        observed_at: When it was made, by the steady clock; `healthy_at`: when one was healthy, by
            the wall clock.
        findings: How many of each code.
        runs: How many runs ended with each outcome.
    """

    desired: DesiredTopology
    fresh_s: float
    verdict: Verdict = field(default_factory=lambda: Verdict(state=State.UNKNOWN))
    is_healthy: bool = False
    observed_at: float | None = None
    healthy_at: float | None = None
    observation_s: float = 0.0
    pods: int = 0
    slots: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    run_s: float = 0.0
    slots_moved: int = 0
    keys_moved: int = 0

    @property
    def is_ready(self) -> bool:
        """Return whether the cluster is healthy, as far as a recent observation shows."""
        return self.is_healthy and self.age_s is not None and self.age_s <= self.fresh_s

    @property
    def age_s(self) -> float | None:
        """Return the age of the last observation in seconds; None before the first one."""
        return None if self.observed_at is None else now() - self.observed_at

    def note(self, seen: Observation, history: History, *, seconds: float) -> None:
        """Take over what an observation showed."""
        facts = Facts(seen.view, self.desired)
        self.verdict = verdict(seen.plan, seen.view)
        # Pods beyond the number that the settings ask for: what was applied is not what there is.
        self.is_healthy = not seen.plan.notices and history.is_proven_healthy(
            now=history.healthy_since, steady_s=0.0
        )
        self.observed_at, self.observation_s = now(), seconds
        self.pods, self.slots = len(facts.staying), len(facts.owned)
        found = (*seen.plan.findings, *seen.plan.notices)
        self.findings = Counter(finding.code.value for finding in found)
        if self.is_healthy:
            self.healthy_at = time.time()

    def note_failure(self, error: BootstrapError) -> None:
        """Record that an observation failed, or that it refused a pod."""
        if isinstance(error, RefusedError):
            self.verdict = Verdict(state=State.REFUSED, reason=error.cause, next=error.remedy)
        else:
            self.verdict = Verdict(state=State.UNKNOWN, reason=str(error))
        self.is_healthy = False
        self.findings = Counter()

    def note_run(self, summary: Summary) -> None:
        """Take over how a run ended."""
        self.runs[summary.outcome] += 1
        self.run_s = summary.counters.duration_s
        self.slots_moved += summary.counters.slots_moved
        self.keys_moved += summary.counters.keys_moved
