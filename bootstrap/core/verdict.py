"""The state of a cluster in one word and its causes, for people and for monitoring.

Rules: the word says how bad it is, the reason says why; what was not seen is unknown, never lost;
what follows from another finding is no cause, and one cause is reported once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from .actions import Plan
from .findings import Finding, FindingCode, counted, listed
from .slots import SlotSet, union
from .topology import ClusterView, Role

USUAL_CAUSES = "usual causes: PVC pending, image not pulled, quota, no room on a node"
POD_REMEDY = "inspect the pod: kubectl describe, kubectl logs"


class State(StrEnum):
    """From good to bad; part of the JSON output and of the metrics.

    HEALTHY: everything is as required in the view of every node.
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

    @property
    def words(self) -> str:
        """Return it as people write it."""
        return self.value.replace("_", " ")


class Severity(StrEnum):
    """How much it concerns the people whose data it is; part of the JSON output.

    OK: nothing to do. INFO: it settles, and clients do not notice.
    WARNING: a person should check: a shard has no replica in sync, nothing happens by itself, or
    nothing is known.
    CRITICAL: a part of the data is not served, or may be lost.
    """

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A state and why it is that one. The names are part of the JSON output.

    Attributes:
        severity: By default that of a cluster that was not observed.
        since: When the program first saw the cluster in this state, as ISO 8601.
        next: What happens next, or what a person can do.
    """

    state: State
    severity: Severity = Severity.WARNING
    reason: str = ""
    since: str = field(default="", compare=False)
    next: str = field(default="", compare=False)

    def after(self, before: Verdict | None, now: str) -> Verdict:
        """Return it with the time from which on the state has been this one."""
        lasts = before is not None and before.state is self.state
        return replace(self, since=before.since if before and lasts else now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that is wrong.

    Attributes:
        code: Of its findings; None for a refusal.
        node: The first pod concerned.
        text: A sentence without its last stop.
        remedy: What to do; empty where the program does it.
    """

    code: FindingCode | None = None
    node: str = ""
    text: str
    remedy: str = ""


_AT_RISK = frozenset({FindingCode.SLOTS_CONTESTED, FindingCode.SLOTS_OF_GONE})
_DEGRADED = frozenset(
    {FindingCode.SLOTS_UNCOVERED, FindingCode.STATE_FAIL, FindingCode.NODE_FAILING}
)
_REDUNDANCY = frozenset(
    {FindingCode.REPLICA_COUNT, FindingCode.REPLICA_LINK_DOWN, FindingCode.MEMBER_GONE}
)
_SHAPE = frozenset({FindingCode.PRIMARY_COUNT, FindingCode.REPLICA_COUNT, FindingCode.SLOTS_UNEVEN})
_VIEWS = frozenset(
    {
        FindingCode.STATE_FAIL,
        FindingCode.NODE_FAILING,
        FindingCode.VIEW_OUTDATED,
        FindingCode.SHARDS_DISAGREE,
        FindingCode.HANDSHAKE_OPEN,
        FindingCode.REPLICA_LINK_DOWN,
    }
)
_LOST = frozenset({FindingCode.SLOTS_OF_GONE, FindingCode.SLOTS_UNCOVERED, FindingCode.MEMBER_GONE})
# In the order in which people should read them, with what follows from each.
_EXPLAINS: dict[FindingCode, frozenset[FindingCode]] = {
    FindingCode.POD_ABSENT: _LOST | _SHAPE | _VIEWS,
    FindingCode.MEMBER_UNSEEN: _LOST | _SHAPE | _VIEWS,
    FindingCode.SLOTS_CONTESTED: _VIEWS,
    FindingCode.SLOTS_OF_GONE: _LOST | _SHAPE | _VIEWS,
    FindingCode.SLOTS_UNCOVERED: frozenset({FindingCode.STATE_FAIL, FindingCode.SLOTS_UNEVEN}),
    FindingCode.ADDRESS_STALE: _VIEWS,
    FindingCode.NODE_UNKNOWN: _SHAPE | _VIEWS,
    FindingCode.MEMBER_GONE: _SHAPE | _VIEWS,
    FindingCode.STATE_FAIL: frozenset(),
    FindingCode.NODE_FAILING: frozenset({FindingCode.VIEW_OUTDATED}),
    FindingCode.MEMBER_LEAVING: _SHAPE,
    FindingCode.PRIMARY_COUNT: _SHAPE,
}
_ORDER = [*_EXPLAINS, *(code for code in FindingCode if code not in _EXPLAINS)]


def verdict(plan: Plan, view: ClusterView) -> Verdict:
    """Return the state that an observation shows."""
    found = {finding.code for finding in plan.findings}
    failing = [node for node in view.nodes if not node.state_ok]
    if failing and all(node.is_isolated for node in failing) and is_a_cluster(view):
        # New pods are in no cluster whose state could be ok.
        found -= {FindingCode.STATE_FAIL}
    # A pod that was not observed may own the slots whose owner seems to be gone.
    if plan.refusals:
        state = State.REFUSED
    elif not view.nodes:
        state = State.UNKNOWN
    elif plan.is_partial:
        state = State.DEGRADED
    elif found & _AT_RISK:
        state = State.DATA_AT_RISK
    elif found & _DEGRADED:
        state = State.DEGRADED
    else:
        state = State.CONVERGING if found or plan.notices else State.HEALTHY
    first = next(causes(plan, view), Cause(text="" if view.nodes else "no pod answered"))
    return Verdict(
        state=state,
        severity=_severity(state, plan, view, is_down=FindingCode.STATE_FAIL in found),
        reason=first.text,
        next=_next(plan, first),
    )


def _severity(state: State, plan: Plan, view: ClusterView, *, is_down: bool) -> Severity:
    match state:
        case State.HEALTHY:
            return Severity.OK
        case State.CONVERGING:
            lacks_replica = any(finding.code in _REDUNDANCY for finding in plan.findings)
            is_left_alone = plan.notices and not plan.findings
            if is_left_alone or (lacks_replica and _has_single_copy(view)):
                return Severity.WARNING
            return Severity.INFO
        case State.DATA_AT_RISK:
            return Severity.CRITICAL
        case State.DEGRADED | State.REFUSED if is_a_cluster(view):
            is_whole = union(node.slots for node in view.nodes) == SlotSet.all()
            return Severity.WARNING if is_whole and not is_down else Severity.CRITICAL
        case _:
            return Severity.WARNING


def _has_single_copy(view: ClusterView) -> bool:
    """Return whether the keys of any slot are on one node only, as far as was observed."""
    in_sync = {
        node.shard_primary for node in view.nodes if node.role is Role.REPLICA and node.link_up
    }
    return any(node.slots and node.node_id not in in_sync for node in view.nodes)


def is_a_cluster(view: ClusterView) -> bool:
    """Return whether any slot has an owner in any view, so that there is something to lose."""
    return any(line.slots for node in view.nodes for line in node.known.values())


def _next(plan: Plan, first: Cause) -> str:
    if plan.refusals:
        return first.remedy
    if plan.is_waiting:
        return f"nothing is changed until every pod answers; {first.remedy or POD_REMEDY}"
    if plan.actions:
        return f"run applies {counted(len(plan.actions), 'action')} of the stage {plan.stage}"
    if plan.findings:
        return "no action yet: the servers need time for gossip, an election or replication"
    if plan.notices:
        return "nothing by itself: inspect what the reason names"
    if plan.advice:
        return f"nothing is required; run improves the placement: {plan.advice}"
    return "nothing to do"


def causes(plan: Plan, view: ClusterView, *, most: int | None = 3) -> Iterator[Cause]:
    """Yield what is wrong, the worst first; what follows from it is left out.

    Args:
        plan: What the planner made of the view.
        view: What was observed.
        most: How many pods to name in a sentence; None for all.
    """
    for refusal in plan.refusals:
        yield Cause(node=refusal.node or "", text=refusal.cause, remedy=refusal.remedy)
    by_code: dict[FindingCode, list[Finding]] = {}
    for finding in plan.findings:
        by_code.setdefault(finding.code, []).append(finding)
    explained = explained_codes(plan.findings) | (_LOST if plan.refusals else frozenset())
    absent = by_code.pop(FindingCode.POD_ABSENT, [])
    yield from _absent_causes(absent, view, most)
    if view.nodes and not is_a_cluster(view) and FindingCode.SLOTS_UNCOVERED in by_code:
        answer = counted(len(view.nodes), "pod")
        text = f"there is no cluster yet: no slot has an owner ({answer} answered)"
        yield Cause(code=FindingCode.SLOTS_UNCOVERED, text=text)
        return
    unseen = SlotSet.all() - union(node.slots for node in view.nodes)
    if unseen and view.nodes and by_code.keys() & _LOST and plan.is_partial:
        count = counted(len(unseen), "slot")
        text = f"the owner of {count} is unknown: no pod that answered owns them"
        yield Cause(code=FindingCode.SLOTS_UNCOVERED, text=text)
    isolated = [node.name for node in view.nodes if node.is_isolated]
    for code in _ORDER:
        if code not in by_code or code in explained:
            continue
        surplus = any(notice.code is FindingCode.PODS_SURPLUS for notice in plan.notices)
        if code is FindingCode.NODE_UNKNOWN and isolated and not surplus:
            text = f"not a member of the cluster yet: {listed(isolated, most=most)}"
            yield Cause(code=code, node=isolated[0], text=text)
        else:
            yield _cause(by_code[code], most)
    for notice in plan.notices:
        yield Cause(code=notice.code, node=notice.node, text=notice.detail)


def explained_codes(findings: Sequence[Finding]) -> frozenset[FindingCode]:
    """Return the codes of findings that follow from others."""
    found = [finding.code for finding in findings]
    explained: set[FindingCode] = set()
    if 0 < found.count(FindingCode.MEMBER_UNSEEN) <= found.count(FindingCode.POD_ABSENT):
        explained.add(FindingCode.MEMBER_UNSEEN)
    for code in _ORDER:
        if code in found and code not in explained:
            explained |= _EXPLAINS.get(code, frozenset()) - {code}
    return frozenset(explained.intersection(found))


def _cause(findings: Sequence[Finding], most: int | None) -> Cause:
    """Return all findings of one kind as one cause."""
    first, others = findings[0], findings[1:]
    text = first.detail
    if others and all(finding.detail.startswith(finding.node) for finding in findings):
        text += f"; likewise {listed([finding.node for finding in others], most=most)}"
    elif others:
        text += "; ".join(["", *(finding.detail for finding in others[: most and most - 1])])
        left = len(others) - (most - 1) if most else 0
        text += f" and {left} more" if left > 0 else ""
    return Cause(code=first.code, node=first.node, text=text)


def _absent_causes(
    findings: Sequence[Finding], view: ClusterView, most: int | None
) -> Iterator[Cause]:
    """Yield one cause for all pods that are absent for the same reason."""
    by_name = {absent.name: absent for absent in view.absent}
    alike: dict[str, list[Finding]] = {}
    for finding in findings:
        absent = by_name.get(finding.node)
        alike.setdefault(absent.bare_cause if absent else finding.detail, []).append(finding)
    for words, group in alike.items():
        first, names = by_name.get(group[0].node), [finding.node for finding in group]
        text = group[0].detail
        if len(names) > 1:
            they = re.sub("^does not", "do not", words)
            text = f"{listed(names, most=most)} ({len(names)} pods): {they}"
        usual = USUAL_CAUSES if first and first.phase == "dns" else POD_REMEDY
        yield Cause(
            code=FindingCode.POD_ABSENT,
            node=names[0],
            text=text,
            remedy=(first and first.remedy) or usual,
        )
