"""The state of a cluster in one word."""

import pytest

from bootstrap.core.actions import Plan, Refusal
from bootstrap.core.findings import Finding, FindingCode
from bootstrap.core.topology import ClusterView
from bootstrap.core.verdict import State, verdict
from tests.support.builders import view

SEEN = view("3x0")


def found(*codes: FindingCode) -> Plan:
    """Return a plan with these findings and nothing to do."""
    return Plan(findings=tuple(Finding(code=code, detail=f"{code} here") for code in codes))


@pytest.mark.parametrize(
    ("codes", "state"),
    [
        ([], State.HEALTHY),
        ([FindingCode.VIEW_OUTDATED], State.CONVERGING),
        ([FindingCode.SLOTS_UNEVEN, FindingCode.MEMBER_LEAVING], State.CONVERGING),
        ([FindingCode.VIEW_OUTDATED, FindingCode.STATE_FAIL], State.DEGRADED),
        ([FindingCode.POD_ABSENT], State.DEGRADED),
        ([FindingCode.STATE_FAIL, FindingCode.SLOTS_OF_GONE], State.DATA_AT_RISK),
        ([FindingCode.POD_ABSENT, FindingCode.SLOTS_OF_GONE], State.DEGRADED),
    ],
)
def test_the_worst_finding_decides(codes: list[FindingCode], state: State) -> None:
    """The most severe finding is the reason as well."""
    result = verdict(found(*codes), SEEN)
    assert result.state is state
    assert bool(result.reason) is bool(codes)


def test_the_first_of_the_worst_findings_is_the_reason() -> None:
    """In the order of how bad it is, not of how it was found."""
    plan = found(FindingCode.STATE_FAIL, FindingCode.SLOTS_UNCOVERED)
    assert verdict(plan, SEEN).reason == "slots_uncovered here"


def test_a_refusal_comes_before_everything() -> None:
    """A person must decide first."""
    plan = Plan(refusals=(Refusal(cause="two clusters", remedy="choose"),))
    assert verdict(plan, SEEN).state is State.REFUSED
    assert verdict(plan, SEEN).reason == "two clusters"


def test_what_nobody_saw_is_unknown() -> None:
    """A cluster that nobody has seen is not reported as lost."""
    nobody = ClusterView(nodes=())
    assert verdict(found(FindingCode.POD_ABSENT), nobody).state is State.UNKNOWN
    assert verdict(Plan(), nobody).reason == "no pod answered"


def test_what_is_only_reported_keeps_the_state_from_healthy() -> None:
    """Pods beyond the wanted number: what was applied is not what there is."""
    surplus = Finding(code=FindingCode.PODS_SURPLUS, detail="redis-app-3 is in DNS")
    result = verdict(Plan(notices=(surplus,)), SEEN)
    assert (result.state, result.reason) == (State.CONVERGING, "redis-app-3 is in DNS")
