"""What a run logs while it works: changes, not observations; what lasts is repeated seldom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from ..core.actions import Plan, describe, kinds
from ..core.bus_links import BlockedLinks, BusLinks
from ..core.findings import Finding, FindingCode, counted
from ..core.topology import Absent, DesiredTopology
from ..core.verdict import Verdict, causes, verdict
from ..errors import TransientError
from ..net.migration.session import Progress
from . import timeout_cause
from .observation import Observation
from .stopping import now
from .timeout_cause import TimeoutCause

if TYPE_CHECKING:
    from ..report.run_screen import RunScreen

REPORT_EVERY_S = 2.0
# Of one pass about pods that are missing, or about refusals.
MOST_LINES = 20
MISSING_FIRST_S = 5.0
MISSING_EVERY_S = 30.0
_WARNS = frozenset(
    {FindingCode.POD_ABSENT, FindingCode.PODS_SURPLUS, FindingCode.REPLICA_BUFFER_SMALL}
)

_log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class ProgressLog:
    """Logs the progress of one run, and remembers what its last line may have to explain.

    Attributes:
        desired: What the cluster is to be.
        verbose: Log every action.
        screen: Where steps are shown in place of the log.
        seen: The last observation.
        verdict: The state that it showed.
    """

    desired: DesiredTopology
    verbose: bool = False
    screen: RunScreen | None = None
    seen: Observation | None = None
    verdict: Verdict | None = None
    _links: BusLinks = field(default_factory=BusLinks)
    _blocked: BlockedLinks | None = None
    _warned_of_links: bool = False
    _known: frozenset[tuple[FindingCode, str]] = frozenset()
    _failure: TransientError | None = None
    _codes: list[str] = field(default_factory=list)
    _plan: str = ""
    _causes: set[str] = field(default_factory=set)
    _moves_at: float = 0.0
    _waiting_since: float | None = None
    _missing_at: float | None = None
    _missing_since: dict[str, str] = field(default_factory=dict)

    def started(self, cluster: str) -> None:
        """Log which cluster this run is about, and what it is to be."""
        nodes, replicas = self.desired.nodes, self.desired.replicas
        if self.screen is not None:
            shape = f"{counted(nodes, 'pod')}, {counted(replicas, 'replica')} per primary"
            self.screen.step(f"{cluster}: {shape}")
        else:
            _log.info("run.started", cluster=cluster, nodes=nodes, replicas=replicas)

    def observed(self, seen: Observation) -> None:
        """Log what is new: kinds of findings, missing pods, pairs without a bus link."""
        self.seen = seen
        before, self.verdict = self.verdict, verdict(seen.plan, seen.view)
        self.verdict = self.verdict.after(before, _time())
        found = (*seen.plan.findings, *seen.plan.notices)
        known, self._known = self._known, frozenset((f.code, f.node) for f in found)
        self._blocked = self._links.blocked(seen.view, self.desired, now())
        if self.screen is not None:
            self._show(self.screen, self.verdict, before)
        else:
            self._log_observed(seen, [f for f in found if (f.code, f.node) not in known])
        if self._blocked and not self._warned_of_links:
            self._warned_of_links = True
            if self.screen is not None:
                self.screen.step(self._blocked.detail)
            else:
                _log.warning("bus.blocked", detail=self._blocked.detail)

    def _show(self, screen: RunScreen, current: Verdict, before: Verdict | None) -> None:
        reason = current.reason
        if current != before:
            words = f"{current.state.words} ({current.severity})"
            screen.step(f"{words}: {reason or current.next}")
        screen.waits(f"{reason}; {current.next}" if reason else "")

    def _log_observed(self, seen: Observation, new: Sequence[Finding]) -> None:
        """Log what is new; all pods that are missing for one reason are one line."""
        absent = [finding for finding in new if finding.code is FindingCode.POD_ABSENT]
        for cause in islice(causes(Plan(findings=tuple(absent)), seen.view), MOST_LINES):
            _log.warning("finding.detected", code=cause.code, node=cause.node, detail=cause.text)
        for finding in (finding for finding in new if finding not in absent):
            log = _log.warning if finding.code in _WARNS else _log.debug
            log("finding.detected", code=finding.code, node=finding.node, detail=finding.detail)
        codes = sorted({finding.code.value for finding in seen.plan.findings})
        if codes != self._codes:
            self._codes = codes
            _log.info("view.observed", nodes=len(seen.view.nodes), findings=codes)
        self._log_missing(now())

    def _log_missing(self, at: float) -> None:
        """Log which pods are missing, since when and the usual causes, soon and then seldom."""
        absent = self._absent()
        since = {pod.name: self._missing_since.get(pod.name, _time()) for pod in absent}
        self._missing_since = since
        if not absent:
            self._missing_at = None
            return
        if self._waiting_since is None:
            self._waiting_since = at
        if self._missing_at is None:
            self._missing_at = at + MISSING_FIRST_S
        if at < self._missing_at:
            return
        self._missing_at = at + MISSING_EVERY_S
        cause = timeout_cause.absent_cause(absent)
        _log.info(
            "pods.waited",
            pods=[a.name for a in absent],
            since=min(since.values()),
            waited_s=round(at - self._waiting_since),
            cause=cause.cause,
            remedy=cause.remedy,
        )

    def planned(self, plan: Plan, *, stage: str) -> None:
        """Log what is about to be done, unless it is repeated."""
        if plan.fingerprint != self._plan:
            self._plan = plan.fingerprint
            self._causes.clear()
            counts = kinds(plan.actions)
            if self.screen is not None:
                done = ", ".join(f"{kind} {count}" for kind, count in counts.items())
                self.screen.step(f"{stage}: {done}")
            else:
                _log.info("plan.computed", stage=stage, actions=len(plan.actions), kinds=counts)
        for action in plan.actions if self.verbose else ():
            _log.debug("action.started", **describe(action))

    def refused(self, plan: Plan) -> None:
        """Log every reason for changing nothing."""
        for refusal in plan.refusals[:MOST_LINES]:
            _log.warning("plan.refused", node=refusal.node, cause=refusal.cause)

    def failed(self, error: TransientError, *, phase: str) -> None:
        """Log why a pass failed, if that is new since the last plan."""
        if error.cause not in self._causes:
            self._causes.add(error.cause)
            if self.screen is not None:
                self.screen.step(f"{phase} is tried again: {error}")
            else:
                _log.warning("pass.failed", phase=phase, node=error.node, cause=error.cause)
        self._failure = error

    def moved(self, progress: Progress) -> None:
        """Log how far the moves are, every few seconds."""
        keys, rate, left = progress.keys_moved, round(progress.keys_per_s), progress.left_s
        if self.screen is not None:
            words = f"{counted(keys, 'key')}  {rate} keys/s"
            words += "" if left is None else f"  {left:.0f} s left"
            self.screen.moved(progress.slots_moved, progress.slots_total, words)
        elif now() - self._moves_at >= REPORT_EVERY_S:
            self._moves_at = now()
            _log.info(
                "slots.moved",
                slots_moved=progress.slots_moved,
                slots_total=progress.slots_total,
                keys_moved=keys,
                keys_per_s=rate,
                left_s=None if left is None else round(left),
            )

    def timeout_cause(self, *, lock_holder: str | None, unanswered: Sequence[str]) -> TimeoutCause:
        """Return what held the run up, when its deadline comes; see `timeout_cause`."""
        plan = self.seen.plan if self.seen else Plan()
        return timeout_cause.timeout_cause(
            absent=self._absent(),
            silent_leavers=self._silent_leavers(),
            lock_holder=lock_holder,
            blocked=self._blocked,
            findings=plan.findings,
            failure=self._failure,
            has_actions=bool(plan.actions),
            unanswered=unanswered,
        )

    def _absent(self) -> list[Absent]:
        """Return the wanted pods that gave no view at the last observation."""
        absent = self.seen.view.absent if self.seen else ()
        return [a for a in absent if self.desired.stays(a.ordinal)]

    def _silent_leavers(self) -> list[Absent]:
        absent = self.seen.view.absent if self.seen else ()
        return [a for a in absent if not self.desired.stays(a.ordinal) and a.phase != "dns"]


def _time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
