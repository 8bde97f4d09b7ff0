"""What a run tells people while it goes on, and what it blames when it ends too early.

It decides nothing. Changes are logged, not looks; what lasts is told again now and then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from ..core.actions import Plan, kinds
from ..core.bus_links import Stuck, Watch
from ..core.findings import Finding, FindingCode
from ..core.topology import Absent, ClusterView, DesiredTopology
from ..errors import TransientError
from ..net.dns_queries import DNS_REMEDY
from ..net.migration.migrator import Progress

REPORT_EVERY_S = 2.0
MISSING_EVERY_S = 30.0
NAMES_CHARS = 1900
USUAL_CAUSES = "usual causes: PVC pending, image not pulled, quota, no room on a node"
POD_REMEDY = "look at the pod: kubectl describe, kubectl logs"
_LONGER = "give BOOTSTRAP_TIMEOUT more seconds"

_log = structlog.get_logger()
TimeoutCause = tuple[str | None, str, str]


@dataclass(slots=True, kw_only=True)
class ProgressLog:
    """Tells about one run.

    Attributes:
        desired: What the cluster is to be.
    """

    desired: DesiredTopology
    _watch: Watch = field(default_factory=Watch)
    _view: ClusterView | None = None
    _plan: Plan | None = None
    _trouble: TransientError | None = None
    _codes: list[str] = field(default_factory=list)
    _told_plan: str = ""
    _told_causes: set[str] = field(default_factory=set)
    _reported_at: float = 0.0

    def looked(self, view: ClusterView, plan: Plan) -> None:
        """Log what is new: kinds of findings, missing pods, pairs that stay apart."""
        now = time.monotonic()
        self._view, self._plan = view, plan
        for finding in self._watch.news(plan.findings):
            missing = finding.code is FindingCode.POD_ABSENT
            log = _log.warning if missing else _log.debug
            log("finding.detected", code=finding.code, node=finding.node, detail=finding.detail)
        codes = sorted({finding.code.value for finding in plan.findings})
        if codes != self._codes:
            self._codes = codes
            _log.info("view.observed", nodes=len(view.nodes), findings=codes)
        absent = [a.name for a in self._absent()]
        if absent and now - self._reported_at >= MISSING_EVERY_S:
            self._reported_at = now
            _log.info("pods.waited", pods=absent, waited_s=self._watch.waited_s(now))
        for stuck in self._watch.stuck(view, self.desired, now):
            _log.warning("bus.blocked", detail=stuck.detail)

    def planned(self, plan: Plan, *, stage: str) -> None:
        """Log what is about to be done, unless it is tried again."""
        if plan.fingerprint != self._told_plan:
            self._told_plan = plan.fingerprint
            self._told_causes.clear()
            told = kinds(plan.actions)
            _log.info("plan.computed", stage=stage, actions=len(plan.actions), kinds=told)

    def failed(self, error: TransientError, *, phase: str) -> bool:
        """Log why a pass failed, if that is new since the last plan; return whether it was not."""
        is_known = error.cause in self._told_causes
        if not is_known:
            self._told_causes.add(error.cause)
            _log.warning("pass.failed", phase=phase, node=error.node, cause=error.cause)
        self._trouble = error
        return is_known

    def moved(self, progress: Progress) -> None:
        """Log how far the moves are, every few seconds."""
        now = time.monotonic()
        if now - self._reported_at >= REPORT_EVERY_S:
            self._reported_at = now
            left = progress.left_s
            _log.info(
                "slots.moved",
                slots_moved=progress.slots_moved,
                slots_total=progress.slots_total,
                keys_moved=progress.keys_moved,
                keys_per_s=round(progress.keys_per_s),
                left_s=None if left is None else round(left),
            )

    def timeout_cause(self, *, holder: str | None, unanswered: Sequence[str]) -> TimeoutCause:
        """Return the pod, the cause and the remedy of what holds the run up.

        Args:
            holder: The other run that has the lock.
            unanswered: What gave no answer in time, where no look was ever completed.
        """
        if absent := self._absent():
            return absent_cause(absent)
        if holder:
            return None, f"another run has the lock: {holder}", "wait for it, then run again"
        if stuck := self._watch.worst():
            return bus_blocked_cause(stuck)
        trouble, findings = self._trouble, self._plan.findings if self._plan else ()
        if findings and not (trouble and self._plan and self._plan.actions):
            return finding_cause(findings[0])
        if trouble is not None:
            return trouble.node, trouble.cause, trouble.remedy
        return silent_cause(unanswered)

    def _absent(self) -> list[Absent]:
        """Return the wanted pods that gave no view at the last look."""
        seen = self._view.absent if self._view else ()
        return [a for a in seen if self.desired.stays(a.ordinal)]


def absent_cause(absent: Sequence[Absent]) -> TimeoutCause:
    """Return pod, cause and remedy where wanted pods gave no view.

    What keeps a pod from having a name tells more than what keeps another from answering, and a
    name server that fails more than a name that is not there.
    """
    unnamed = [a for a in absent if a.phase == "dns"]
    unasked = [a for a in unnamed if a.remedy]
    blamed = unasked or unnamed or absent
    first = blamed[0]
    remedy = first.remedy or (USUAL_CAUSES if unnamed else POD_REMEDY)
    others = [a.name for a in unnamed if a not in blamed]
    also = f"; {_listed(others)}: no address" if others else ""
    return first.name, f"{_listed([a.name for a in blamed])}: {first.cause}{also}", remedy


def silent_cause(names: Sequence[str]) -> TimeoutCause:
    """Return pod, cause and remedy where no look was done in time.

    Args:
        names: Pods that were asked and did not answer; none where no pod was asked yet.
    """
    if not names:
        return None, "the name servers gave no answer in time", f"{DNS_REMEDY}, or {_LONGER}"
    return names[0], f"{_listed(names)} gave no answer in time", f"{POD_REMEDY}; or {_LONGER}"


def _listed(names: Sequence[str]) -> str:
    """Return as many names as a message has room for beside the cause itself."""
    shown, room = 0, NAMES_CHARS
    for name in names:
        room -= len(name) + 2
        if room < 0:
            break
        shown += 1
    more = f" and {len(names) - shown} more" if shown < len(names) else ""
    return ", ".join(names[:shown]) + more


def bus_blocked_cause(stuck: Stuck) -> TimeoutCause:
    """Return pod, cause and remedy where nodes do not reach each other."""
    return (
        stuck.node,
        stuck.detail,
        "open the bus port between the pods (NetworkPolicy, firewall, cluster-announce-bus-port)",
    )


_REMEDIES = {
    FindingCode.REPLICA_LINK_DOWN: "look at the log of that pod; where there are passwords, its "
    "masterauth (primaryauth) must be one that its primary takes",
    FindingCode.MEMBER_UNSEEN: "let the name of its pod lead to it again, and let this program in; "
    "or stop it",
}


def finding_cause(finding: Finding) -> TimeoutCause:
    """Return pod, cause and remedy where something does not become right by itself."""
    usual = "run it again; if it stays, look at the log of that pod"
    return finding.node or None, finding.detail, _REMEDIES.get(finding.code, usual)
