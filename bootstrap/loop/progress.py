"""What a run logs while it works: changes, not observations; what lasts is repeated seldom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from ..core.actions import Plan, describe, kinds
from ..core.bus_links import BlockedLinks, BusLinks
from ..core.findings import FindingCode
from ..core.topology import Absent, DesiredTopology
from ..errors import TransientError
from ..net.migration.session import Progress
from . import timeout_cause
from .observation import Observation
from .stopping import now
from .timeout_cause import TimeoutCause

REPORT_EVERY_S = 2.0
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
    """

    desired: DesiredTopology
    verbose: bool = False
    _links: BusLinks = field(default_factory=BusLinks)
    _blocked: BlockedLinks | None = None
    _warned_of_links: bool = False
    _known: frozenset[tuple[FindingCode, str]] = frozenset()
    _last: Observation | None = None
    _failure: TransientError | None = None
    _codes: list[str] = field(default_factory=list)
    _plan: str = ""
    _causes: set[str] = field(default_factory=set)
    _moves_at: float = 0.0
    _waiting_since: float | None = None
    _missing_at: float | None = None

    def observed(self, seen: Observation) -> None:
        """Log what is new: kinds of findings, missing pods, pairs without a bus link."""
        self._last = seen
        found = (*seen.plan.findings, *seen.plan.notices)
        known, self._known = self._known, frozenset((f.code, f.node) for f in found)
        for finding in (f for f in found if (f.code, f.node) not in known):
            log = _log.warning if finding.code in _WARNS else _log.debug
            log("finding.detected", code=finding.code, node=finding.node, detail=finding.detail)
        codes = sorted({finding.code.value for finding in seen.plan.findings})
        if codes != self._codes:
            self._codes = codes
            _log.info("view.observed", nodes=len(seen.view.nodes), findings=codes)
        self._log_missing(now())
        self._blocked = self._links.blocked(seen.view, self.desired, now())
        if self._blocked and not self._warned_of_links:
            self._warned_of_links = True
            _log.warning("bus.blocked", detail=self._blocked.detail)

    def _log_missing(self, at: float) -> None:
        """Log which pods are missing, since when and the usual causes, soon and then seldom."""
        absent = self._absent()
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
            waited_s=round(at - self._waiting_since),
            cause=cause.cause,
            remedy=cause.remedy,
        )

    def planned(self, plan: Plan, *, stage: str) -> None:
        """Log what is about to be done, unless it is repeated."""
        if plan.fingerprint != self._plan:
            self._plan = plan.fingerprint
            self._causes.clear()
            _log.info(
                "plan.computed", stage=stage, actions=len(plan.actions), kinds=kinds(plan.actions)
            )
        for action in plan.actions if self.verbose else ():
            _log.debug("action.started", **describe(action))

    def refused(self, plan: Plan) -> None:
        """Log every reason for changing nothing."""
        for refusal in plan.refusals:
            _log.warning("plan.refused", node=refusal.node, cause=refusal.cause)

    def failed(self, error: TransientError, *, phase: str) -> None:
        """Log why a pass failed, if that is new since the last plan."""
        if error.cause not in self._causes:
            self._causes.add(error.cause)
            _log.warning("pass.failed", phase=phase, node=error.node, cause=error.cause)
        self._failure = error

    def moved(self, progress: Progress) -> None:
        """Log how far the moves are, every few seconds."""
        if now() - self._moves_at >= REPORT_EVERY_S:
            self._moves_at = now()
            left = progress.left_s
            _log.info(
                "slots.moved",
                slots_moved=progress.slots_moved,
                slots_total=progress.slots_total,
                keys_moved=progress.keys_moved,
                keys_per_s=round(progress.keys_per_s),
                left_s=None if left is None else round(left),
            )

    def timeout_cause(self, *, lock_holder: str | None, unanswered: Sequence[str]) -> TimeoutCause:
        """Return what held the run up, when its deadline comes; see `timeout_cause`."""
        plan = self._last.plan if self._last else Plan()
        return timeout_cause.timeout_cause(
            absent=self._absent(),
            lock_holder=lock_holder,
            blocked=self._blocked,
            findings=plan.findings,
            failure=self._failure,
            has_actions=bool(plan.actions),
            unanswered=unanswered,
        )

    def _absent(self) -> list[Absent]:
        """Return the wanted pods that gave no view at the last observation."""
        absent = self._last.view.absent if self._last else ()
        return [a for a in absent if self.desired.stays(a.ordinal)]
