"""What a run that ends too early reports as the cause: the pod, the reason and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.bus_links import BlockedLinks
from ..core.findings import Finding, FindingCode
from ..core.topology import Absent
from ..core.verdict import POD_REMEDY, USUAL_CAUSES
from ..errors import TransientError
from ..net.resolver import DNS_REMEDY

NAMES_CHARS = 1900
_LONGER = "increase BOOTSTRAP_TIMEOUT"
# For findings that do not become right by themselves.
_USUAL_REMEDY = "run it again; if the finding stays, inspect the log of that pod"
_REMEDIES = {
    FindingCode.REPLICA_LINK_DOWN: "inspect the log of that pod; where passwords are used, its "
    "masterauth (primaryauth) must be one that its primary accepts; where its primary drops it "
    "under writes, raise client-output-buffer-limit replica there",
    FindingCode.MEMBER_UNSEEN: "make its DNS name resolve to it and allow this Job to connect; "
    "or stop it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutCause:
    """Why a run has not ended, and the pod concerned, when there is one."""

    node: str | None = None
    cause: str
    remedy: str


def timeout_cause(
    *,
    absent: Sequence[Absent],
    silent_leavers: Sequence[Absent],
    lock_holder: str | None,
    blocked: BlockedLinks | None,
    findings: Sequence[Finding],
    failure: TransientError | None,
    has_actions: bool,
    unanswered: Sequence[str],
) -> TimeoutCause:
    """Return what holds a run up; the first of these that applies explains the others.

    Args:
        absent: Wanted pods that gave no view.
        silent_leavers: Pods that are to leave, have an address, and gave no view.
        lock_holder: The other run that has the lock.
        blocked: Pods that do not reach each other's bus port.
        findings: What the last observation found.
        failure: Why the last attempt that failed did so; it matters while the plan `has_actions`.
        has_actions: Whether the last plan has something to do.
        unanswered: Pods that gave no answer, where no observation was ever completed.
    """
    if absent:
        return absent_cause(absent)
    if lock_holder:
        cause = f"another run has the lock: {lock_holder}"
        return TimeoutCause(cause=cause, remedy="wait until it ends, then run again")
    if blocked:
        return TimeoutCause(
            node=blocked.node,
            cause=blocked.detail,
            remedy="open the bus port between the pods (NetworkPolicy, firewall, "
            "cluster-announce-bus-port)",
        )
    if silent_leavers and findings:
        first_silent = silent_leavers[0]
        return TimeoutCause(
            node=first_silent.name,
            cause=f"{first_silent.named_cause}; it is to leave, and is asked in each pass",
            remedy=f"inspect or delete that pod; or {_LONGER}",
        )
    if findings and not (failure and has_actions):
        first = findings[0]
        remedy = _REMEDIES.get(first.code, _USUAL_REMEDY)
        return TimeoutCause(node=first.node or None, cause=first.detail, remedy=remedy)
    if failure is not None:
        return TimeoutCause(node=failure.node, cause=failure.cause, remedy=failure.remedy)
    return silent_cause(unanswered)


def absent_cause(absent: Sequence[Absent]) -> TimeoutCause:
    """Return the cause where wanted pods gave no view.

    What keeps a pod from having a name explains more than what keeps another from answering, and a
    name server that fails explains more than a name that is not there.
    """
    unnamed = [a for a in absent if a.phase == "dns"]
    unasked = [a for a in unnamed if a.remedy]
    chosen = unasked or unnamed or absent
    first = chosen[0]
    remedy = first.remedy or (USUAL_CAUSES if unnamed else POD_REMEDY)
    others = [a.name for a in unnamed if a not in chosen]
    also = f"; {_listed(others)}: no address" if others else ""
    names = _listed([a.name for a in chosen])
    cause = first.named_cause if len(chosen) == 1 else f"{names}: {first.bare_cause}"
    return TimeoutCause(node=first.name, cause=f"{cause}{also}", remedy=remedy)


def silent_cause(names: Sequence[str]) -> TimeoutCause:
    """Return the cause where none of these pods answered in time; without any, none was asked."""
    if not names:
        remedy = f"{DNS_REMEDY}, or {_LONGER}"
        return TimeoutCause(cause="the name servers gave no answer in time", remedy=remedy)
    cause, remedy = f"{_listed(names)} gave no answer in time", f"{POD_REMEDY}; or {_LONGER}"
    return TimeoutCause(node=names[0], cause=cause, remedy=remedy)


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
