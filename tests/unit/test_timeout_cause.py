"""What a run that reaches its deadline reports: the first cause that explains the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bootstrap.core.bus_links import BlockedLinks
from bootstrap.core.findings import Finding, FindingCode
from bootstrap.core.topology import Absent
from bootstrap.errors import NodeUnreachableError
from bootstrap.loop.timeout_cause import NAMES_CHARS, TimeoutCause, timeout_cause

FAILURE = NodeUnreachableError(node="redis-app-4", cause="no answer", remedy="look at it")
UNEVEN = Finding(code=FindingCode.SLOTS_UNEVEN, node="redis-app-3", detail="uneven slots")
BLOCKED = BlockedLinks(node="redis-app-2", detail="bus port")


def missing(number: int, phase: str = "connect", remedy: str = "") -> Absent:
    name = f"redis-app-{number}"
    return Absent(name=name, ordinal=number, phase=phase, cause=f"{phase} fails", remedy=remedy)


def cause(**known: Any) -> TimeoutCause:
    """Return the cause where only these things are known."""
    nothing: dict[str, Any] = {
        "absent": (),
        "silent_leavers": (),
        "lock_holder": None,
        "blocked": None,
        "findings": (),
        "failure": None,
        "has_actions": False,
        "unanswered": (),
    }
    return timeout_cause(**{**nothing, **known})


def test_the_first_cause_that_applies_is_reported() -> None:
    """Missing pods come before another run, blocked bus ports, findings and failures."""
    everything: dict[str, Any] = {
        "absent": [missing(1)],
        "lock_holder": "redis-bootstrap-x",
        "blocked": BLOCKED,
        "silent_leavers": [missing(7)],
        "findings": [UNEVEN],
        "failure": FAILURE,
    }
    expected = {
        "absent": "redis-app-1: connect fails",
        "lock_holder": "redis-bootstrap-x",
        "blocked": "bus port",
        "silent_leavers": "redis-app-7: connect fails; it is to leave, and is asked in each pass",
        "findings": "uneven slots",
        "failure": "no answer",
    }
    for name, words in expected.items():
        assert words in cause(**everything).cause
        del everything[name]
    assert cause().node is None


def test_the_pod_of_the_cause_is_named() -> None:
    """A finding about the whole cluster names no pod, and neither does another run."""
    assert cause(absent=[missing(1), missing(2)]).node == "redis-app-1"
    assert cause(lock_holder="other").node is None
    assert cause(blocked=BLOCKED).node == "redis-app-2"
    assert cause(silent_leavers=[missing(7)], findings=[UNEVEN]).node == "redis-app-7"
    assert cause(findings=[UNEVEN]).node == "redis-app-3"
    assert cause(findings=[Finding(code=FindingCode.SLOTS_UNEVEN, detail="x")]).node is None
    assert cause(failure=FAILURE).node == "redis-app-4"
    assert cause(unanswered=["redis-app-5", "redis-app-6"]).node == "redis-app-5"


def test_a_failure_explains_findings_that_have_actions() -> None:
    """Without actions the failure is one of an earlier pass."""
    assert cause(findings=[UNEVEN], failure=FAILURE, has_actions=True).cause == "no answer"
    assert cause(findings=[UNEVEN], failure=FAILURE).cause == "uneven slots"
    assert cause(findings=[UNEVEN], has_actions=True).cause == "uneven slots"


def test_a_pod_without_a_name_explains_one_that_does_not_answer() -> None:
    """A name server that fails explains a name that is absent; the others are listed behind."""
    found = cause(absent=[missing(1), missing(2, "dns"), missing(3, "dns")])
    assert found == TimeoutCause(
        node="redis-app-2", cause="redis-app-2, redis-app-3: dns fails", remedy=found.remedy
    )
    assert "PVC" in found.remedy
    assert "PVC" not in cause(absent=[missing(1)]).remedy
    asked = cause(absent=[missing(2, "dns"), missing(3, "dns", "ask another server")])
    assert asked.cause == "redis-app-3: dns fails; redis-app-2: no address"
    assert asked.remedy == "ask another server"


def test_remedies_follow_the_finding() -> None:
    """A broken replication link and an unknown member have remedies of their own."""
    remedies = {
        cause(findings=[Finding(code=code, detail="x")]).remedy
        for code in (
            FindingCode.SLOTS_UNEVEN,
            FindingCode.REPLICA_LINK_DOWN,
            FindingCode.MEMBER_UNSEEN,
        )
    }
    assert len(remedies) == 3


@pytest.mark.parametrize(
    ("length", "count", "shown"), [(17, 100, 100), (17, 101, 100), (36, 60, 50)]
)
def test_as_many_names_are_listed_as_a_message_has_room_for(
    length: int, count: int, shown: int
) -> None:
    """Each name takes its length and a comma with a blank; the others are counted."""
    names = [f"{number:0{length}}" for number in range(count)]
    assert NAMES_CHARS == 1900
    listed, _, rest = (
        cause(unanswered=names).cause.partition(" gave no answer")[0].partition(" and ")
    )
    assert listed == ", ".join(names[:shown])
    assert rest == (f"{count - shown} more" if shown < count else "")


def test_the_name_of_a_pod_is_not_repeated() -> None:
    """A cause that begins with the name of the pod is reported as it is."""
    refuses = replace(missing(1), cause="redis-app-1 at 10.0.0.1 port 6379: refused")
    assert cause(absent=[refuses]).cause == refuses.cause
    assert cause(absent=[missing(1)]).cause == "redis-app-1: connect fails"
    assert cause(absent=[missing(1), missing(2)]).cause == "redis-app-1, redis-app-2: connect fails"
