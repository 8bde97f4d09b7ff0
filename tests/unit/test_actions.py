"""Plans as data."""

import json
from dataclasses import replace

from bootstrap.core.actions import (
    Forget,
    Meet,
    MoveSlots,
    Plan,
    Refusal,
    SetConfigEpoch,
    Stage,
    describe,
    kinds,
)
from bootstrap.core.findings import Finding, FindingCode
from tests.support.builders import node_id, slots

MOVE = MoveSlots(
    source=node_id(0), target=node_id(1), slots=slots("0-9,12"), reason=FindingCode.SLOTS_UNEVEN
)
MEET = Meet(node=node_id(0), target=node_id(1), reason=FindingCode.NODE_UNKNOWN)


def test_an_action_is_described_in_plain_values() -> None:
    """JSON takes them as they are."""
    assert json.loads(json.dumps(describe(MOVE))) == {
        "action": "MoveSlots",
        "source": node_id(0),
        "target": node_id(1),
        "slots": "0-9,12",
        "reason": "slots_uneven",
    }
    described = describe(SetConfigEpoch(node=node_id(0), epoch=4, reason=FindingCode.NODE_UNKNOWN))
    assert described["epoch"] == 4


def test_kinds_counts_actions() -> None:
    """Actions are counted by the name of their class."""
    assert kinds([MOVE, MEET, MEET]) == {"MoveSlots": 1, "Meet": 2}


def test_a_plan_is_healthy_without_findings_and_refusals() -> None:
    """Actions alone do not count."""
    assert Plan().is_healthy
    assert not Plan(findings=(Finding(code=FindingCode.STATE_FAIL),)).is_healthy
    assert not Plan(refusals=(Refusal(cause="c", remedy="r"),)).is_healthy


def test_fingerprints_are_of_what_would_be_done() -> None:
    """Findings may differ, actions, stage and refusals may not."""
    plan = Plan(stage=Stage.REBALANCE, actions=(MOVE,))
    found = replace(plan, findings=(Finding(code=FindingCode.SLOTS_UNEVEN),))
    assert plan.fingerprint == found.fingerprint
    assert len(plan.fingerprint) == 16
    others = [
        replace(plan, stage=Stage.DRAIN),
        replace(plan, actions=(replace(MOVE, slots=slots("0-9")),)),
        replace(plan, actions=(MOVE, Forget(node=node_id(0), gone=node_id(1), reason=MOVE.reason))),
        replace(plan, refusals=(Refusal(cause="c", remedy="r"),)),
        Plan(),
    ]
    assert len({plan.fingerprint, *(o.fingerprint for o in others)}) == 1 + len(others)
