"""The state of a cluster in one word, for people and for monitoring.

Rules: the word says how bad it is, the reason says why; what was not seen is unknown, never lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .actions import Plan
from .findings import WAITING, Finding, FindingCode
from .topology import ClusterView


class State(StrEnum):
    """From good to bad; part of the JSON output and of the metrics.

    HEALTHY: everything is as required on every node's own view.
    CONVERGING: all slots are served; something is being, or has to be, put in order.
    DEGRADED: slots are not served, or a shard or a pod is missing.
    DATA_AT_RISK: keys have no owner, or more than one.
    REFUSED: a person must decide before anything is changed.
    UNKNOWN: the nodes could not be observed.
    """

    HEALTHY = "healthy"
    CONVERGING = "converging"
    DEGRADED = "degraded"
    DATA_AT_RISK = "data_at_risk"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A state and why it is that one."""

    state: State
    reason: str = ""


_AT_RISK = (
    FindingCode.SLOTS_CONTESTED,
    FindingCode.SLOTS_OF_GONE,
)
_DEGRADED = (
    FindingCode.SLOTS_UNCOVERED,
    FindingCode.STATE_FAIL,
    FindingCode.NODE_FAILING,
)


def verdict(plan: Plan, view: ClusterView) -> Verdict:
    """Return the state that an observation shows."""
    if plan.refusals:
        return Verdict(state=State.REFUSED, reason=plan.refusals[0].cause)
    if not view.nodes:
        reason = plan.findings[0].detail if plan.findings else "no pod answered"
        return Verdict(state=State.UNKNOWN, reason=reason)
    # A pod that was not observed may own the slots whose owner seems to be gone.
    if waited_for := _first(plan.findings, tuple(sorted(WAITING))):
        return Verdict(state=State.DEGRADED, reason=waited_for.detail)
    for state, codes in ((State.DATA_AT_RISK, _AT_RISK), (State.DEGRADED, _DEGRADED)):
        if worst := _first(plan.findings, codes):
            return Verdict(state=state, reason=worst.detail)
    if plan.findings:
        return Verdict(state=State.CONVERGING, reason=plan.findings[0].detail)
    if plan.notices:
        return Verdict(state=State.CONVERGING, reason=plan.notices[0].detail)
    return Verdict(state=State.HEALTHY)


def _first(findings: tuple[Finding, ...], codes: tuple[FindingCode, ...]) -> Finding | None:
    """Return the finding with the first of these codes."""
    found = [finding for finding in findings if finding.code in codes]
    return min(found, key=lambda finding: codes.index(finding.code), default=None)
