"""The state of a cluster in one word."""

from dataclasses import replace

import pytest

from bootstrap.core import planner
from bootstrap.core.actions import Plan, Refusal
from bootstrap.core.findings import Finding, FindingCode
from bootstrap.core.topology import Absent, ClusterView
from bootstrap.core.verdict import POD_REMEDY, Severity, State, Verdict, causes, verdict
from tests.support.builders import (
    POLICY,
    absent,
    field,
    fresh,
    joined,
    node,
    own,
    slots,
    view,
    wanted,
    with_line,
    without,
)

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
    assert result.severity is Severity.WARNING  # nothing is done about it


def test_what_a_run_would_improve_is_named_without_alarm() -> None:
    """Pods of a healthy cluster that share a zone can change places."""
    result = verdict(Plan(advice="redis-app-3 moves"), SEEN)
    assert (result.state, result.severity, result.reason) == (State.HEALTHY, Severity.OK, "")
    assert result.next.endswith("run improves the placement: redis-app-3 moves")


ALIVE = view("3x1")


def judged(seen: ClusterView, shape: str = "3x1") -> Verdict:
    """Return the verdict on a view."""
    return verdict(planner.plan(seen, wanted(shape), POLICY), seen)


@pytest.mark.parametrize(
    ("seen", "state", "severity"),
    [
        (ALIVE, State.HEALTHY, Severity.OK),
        (with_line(ALIVE, 4, 0, config_epoch=9), State.CONVERGING, Severity.INFO),
        (joined(ALIVE, node(6), node(7)), State.CONVERGING, Severity.INFO),
        (field(ALIVE, 4, link_up=False), State.CONVERGING, Severity.WARNING),
        (without(ALIVE, 4), State.CONVERGING, Severity.WARNING),
        (absent(ALIVE, 4), State.DEGRADED, Severity.WARNING),
        (absent(ALIVE, 1), State.DEGRADED, Severity.CRITICAL),
        (field(ALIVE, 0, state_ok=False), State.DEGRADED, Severity.CRITICAL),
        (fresh(6), State.DEGRADED, Severity.WARNING),
        (own(ALIVE, 0, slots=slots("0-5470")), State.DATA_AT_RISK, Severity.CRITICAL),
        (field(ALIVE, 0, version=(6, 0, 0)), State.REFUSED, Severity.WARNING),
        (replace(absent(ALIVE, 0), nodes=()), State.UNKNOWN, Severity.WARNING),
    ],
)
def test_severity_is_what_clients_notice(
    seen: ClusterView, state: State, severity: Severity
) -> None:
    """Pods that are to join make nothing worse; slots that are not served are critical."""
    shape = "4x1" if len(seen.nodes) == 8 else "3x1"
    result = judged(seen, shape)
    assert (result.state, result.severity) == (state, severity)
    assert result.next
    assert state.words == state.value.replace("_", " ")


def test_a_shard_with_another_replica_in_sync_has_not_lost_its_redundancy() -> None:
    """Only the loss of the last copy is a warning."""
    one_lost = field(view("3x2"), 3, link_up=False)
    both_lost = field(one_lost, 6, link_up=False)
    severities = [judged(seen, "3x2").severity for seen in (one_lost, both_lost)]
    assert severities == [Severity.INFO, Severity.WARNING]


@pytest.mark.parametrize(
    ("plan", "following"),
    [
        (Plan(refusals=(Refusal(cause="two clusters", remedy="choose"),)), "choose"),
        (
            planner.plan(absent(ALIVE, 4), wanted("3x1"), POLICY),
            f"nothing is changed until every pod answers; {POD_REMEDY}",
        ),
        (
            planner.plan(joined(ALIVE, node(6), node(7)), wanted("4x1"), POLICY),
            "run applies 15 actions of the stage introduce",
        ),
        (
            found(FindingCode.STATE_FAIL),
            "no action yet: the servers need time for gossip, an election or replication",
        ),
        (
            Plan(notices=found(FindingCode.REPLICA_BUFFER_SMALL).findings),
            "nothing by itself: inspect what the reason names",
        ),
        (Plan(), "nothing to do"),
    ],
)
def test_what_happens_next(plan: Plan, following: str) -> None:
    """The sentence tells whether a run, the servers or a person are next."""
    assert verdict(plan, ALIVE).next == following


def test_a_state_lasts_while_it_is_the_same() -> None:
    """Another reason does not change since when."""
    first = judged(absent(ALIVE, 4)).after(None, "10:00")
    second = judged(absent(ALIVE, 5)).after(first, "10:01")
    assert (first.since, second.since) == ("10:00", "10:00")
    assert judged(ALIVE).after(second, "10:02").since == "10:02"


def texts_of(seen: ClusterView, shape: str = "3x1", most: int | None = 3) -> list[str]:
    """Return the causes of what is wrong in a view."""
    plan = planner.plan(seen, wanted(shape), POLICY)
    return [cause.text for cause in causes(plan, seen, most=most)]


def test_one_cause_is_reported_once() -> None:
    """Pods that are missing for one reason are one cause, and what follows from it is none."""
    dead = "name servers gave no answer"
    pods = (Absent(name=f"redis-app-{i}", ordinal=i, phase="dns", cause=dead) for i in range(34))
    seen = ClusterView(nodes=(), absent=tuple(pods))
    assert texts_of(seen, "17x1") == [
        f"redis-app-0, redis-app-1, redis-app-2 and 31 more (34 pods): {dead}"
    ]
    assert "redis-app-33" in texts_of(seen, "17x1", most=None)[0]
    refused = "redis-app-{0} at {1} port 6379 does not answer: refused"
    hung = absent(absent(ALIVE, 1), 4)
    hung = replace(
        hung,
        absent=tuple(
            replace(
                a,
                address=f"10.0.0.{a.ordinal}",
                cause=refused.format(a.ordinal, f"10.0.0.{a.ordinal}"),
            )
            for a in hung.absent
        ),
    )
    assert texts_of(hung) == [
        "redis-app-1, redis-app-4 (2 pods): port 6379 does not answer: refused",
        "the owner of 5461 slots is unknown: no pod that answered owns them",
    ]


def test_a_pod_is_named_once() -> None:
    """A cause that begins with its name needs no other."""
    assert texts_of(absent(ALIVE, 4, "redis-app-4 is not ready: LOADING")) == [
        "redis-app-4 is not ready: LOADING"
    ]


def test_a_member_that_was_not_seen_follows_from_a_pod_that_did_not_answer() -> None:
    """Where there are more of them than pods, they are a cause."""
    hung = with_line(absent(ALIVE, 4), 0, 4, link_up=True)
    assert len(texts_of(hung)) == 1
    both = with_line(with_line(hung, 0, 4, link_up=True), 0, 5, link_up=True)
    more = replace(both, nodes=tuple(n for n in both.nodes if n.endpoint.ordinal != 5))
    assert "according to its peers" in " ".join(texts_of(more))


def test_like_findings_are_one_sentence() -> None:
    """With the pods, or with the first ones and how many were left out."""
    seen = view("5x0")
    for number in range(4):
        seen = own(seen, number, config_epoch=7)
    assert texts_of(seen, "5x0")[0] == (
        "redis-app-0 shares config epoch 7; likewise redis-app-1, redis-app-2, redis-app-3"
    )
    gone = without(view("9x1"), 10, 11, 12, 13, 14)
    text = next(cause for cause in texts_of(gone, "9x1") if "is gone" in cause)
    assert text.count("is gone") == 3
    assert text.endswith(" and 2 more")
    text = next(cause for cause in texts_of(gone, "9x1", most=None) if "is gone" in cause)
    assert text.count("is gone") == 5


def test_new_pods_are_named() -> None:
    """Not the pairs that do not know each other."""
    text = "not a member of the cluster yet: redis-app-6, redis-app-7"
    assert texts_of(joined(ALIVE, node(6), node(7)), "4x1")[0] == text


def test_a_refusal_is_reported_with_what_else_is_wrong() -> None:
    """The loss that is refused is not reported again."""
    lost = field(without(ALIVE, 2, 5), 4, link_up=False)
    lost = replace(lost, nodes=tuple(replace(n, keys=5) for n in lost.nodes))
    texts = texts_of(lost)
    assert "is gone with all its replicas" in texts[0]
    assert not any("slots of member" in text for text in texts)


def test_a_notice_asks_for_a_person() -> None:
    """Nothing happens by itself where something is only reported."""
    notice = Finding(code=FindingCode.REPLICA_BUFFER_SMALL, detail="redis-app-0 has little room")
    result = verdict(Plan(notices=(notice,)), SEEN)
    assert result.next.startswith("nothing by itself")


@pytest.mark.parametrize(
    ("most", "words"),
    [(2, "a; b and 2 more"), (3, "a; b; c and 1 more"), (4, "a; b; c; d"), (None, "a; b; c; d")],
)
def test_findings_of_one_kind_are_one_cause(most: int | None, words: str) -> None:
    """The first finding gives the pod, and those that have no room are counted."""
    code = FindingCode.VIEW_OUTDATED
    findings = (Finding(code=code, node=f"redis-app-{i}", detail=t) for i, t in enumerate("abcd"))
    (cause,) = causes(Plan(findings=tuple(findings)), SEEN, most=most)
    assert (cause.code, cause.node, cause.text) == (code, "redis-app-0", words)
