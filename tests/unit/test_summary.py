"""The summary of a run says what happened, and stays short."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from bootstrap.core.topology import Absent
from bootstrap.core.verdict import Severity, State, Verdict
from bootstrap.errors import BootstrapError, NotConvergedError, Outcome, RefusedError
from bootstrap.loop.timeout_cause import absent_cause
from bootstrap.process.summary import MESSAGE_BYTES, VERDICT_CHARS, Counters, Summary

SERVICE = "redis-service.default.svc.cluster.local"
NOT_YET = "no address in DNS yet"
SERVFAIL = f"name servers 10.0.0.10 gave no answer for {SERVICE}: SERVFAIL"


def every_error(base: type[BootstrapError] = BootstrapError) -> Iterator[type[BootstrapError]]:
    """Yield every kind of error."""
    for kind in base.__subclasses__():
        yield kind
        yield from every_error(kind)


def absent(*causes: str, phase: str = "dns", suffix: str = "") -> list[Absent]:
    return [
        Absent(
            name=f"redis-app-{i}{suffix}",
            ordinal=i,
            phase=phase,
            cause=cause,
            remedy="check that CoreDNS runs" if cause is SERVFAIL else "",
        )
        for i, cause in enumerate(causes)
    ]


def message_about(pods: list[Absent]) -> dict[str, object]:
    late = absent_cause(pods)
    error = NotConvergedError(
        node=late.node, cause=f"not healthy after 3 s: {late.cause}", remedy=late.remedy
    )
    summary = Summary.of(error, phase="observe")
    assert len(summary.message().encode()) <= MESSAGE_BYTES
    assert len(summary.text()) <= MESSAGE_BYTES
    message: dict[str, object] = json.loads(summary.message())
    assert message["remedy"] == late.remedy
    return message


def test_a_healthy_run_has_no_reason() -> None:
    """The line of a healthy run has its counters, the cluster and the time, and no cause."""
    counters = Counters(passes=21, actions=63, slots_moved=1, keys_moved=2, duration_s=2.14)
    summary = Summary.of(None, phase="verify", counters=counters, run_id="0f3a", cluster="redis")
    assert summary.text() == (
        "healthy: exit code 0, 21 passes, 63 actions, 1 slots and 2 keys moved, 2.1 s"
    )
    fields = summary.fields()
    assert fields.items() >= {"outcome": "healthy", "exit_code": 0, "cluster": "redis"}.items()
    assert datetime.fromisoformat(str(fields["time"])).utcoffset() == timedelta()
    assert fields.keys().isdisjoint({"node", "phase", "cause", "remedy"})
    assert json.loads(summary.message()) == {"schema_version": 1, **fields}


@pytest.mark.parametrize("node", [None, "redis-app-0"])
def test_a_failed_run_has_its_reason(node: str | None) -> None:
    """The line of a failed run ends with pod, phase, cause and remedy."""
    error = RefusedError(node=node, cause="it has keys", remedy="empty it")
    summary = Summary.of(error, phase="plan")
    pod = f"{node}, " if node else ""
    assert summary.text().endswith(f"0.0 s; {pod}phase plan: it has keys; empty it")
    assert (summary.outcome, summary.exit_code, summary.error) == ("refused", 3, error)
    assert ("node" in summary.fields()) is bool(node)


def test_an_unforeseen_error_is_named() -> None:
    """An error of another kind is shown with its type, and is to be reported."""
    summary = Summary.of(ZeroDivisionError("division by zero"), phase="observe")
    assert (summary.outcome, summary.exit_code) == ("unforeseen", 1)
    assert summary.cause == "ZeroDivisionError: division by zero"
    assert summary.remedy == "report this bug with the traceback above"


@pytest.mark.parametrize("kind", [*every_error()])
def test_every_error_has_an_outcome_of_its_exit_code(kind: type[BootstrapError]) -> None:
    """Words and numbers of the contract agree: one exit code for each outcome."""
    codes = {
        Outcome.SETTINGS: 2, Outcome.CREDENTIALS: 2, Outcome.REFUSED: 3, Outcome.INVARIANT: 4,
        Outcome.NOT_HEALTHY: 5, Outcome.STOPPED: 143,
    }  # fmt: skip
    assert kind.exit_code == codes[kind.outcome]
    assert kind.exit_code.meaning


def test_all_pods_of_an_ordinary_cluster_are_named() -> None:
    """The cause has room for the pods of a cluster of thirty."""
    pods = absent(*[NOT_YET] * 30, suffix=f".{SERVICE}:6379")
    cause = str(message_about(pods)["cause"])
    assert all(pod.name in cause for pod in pods)
    assert NOT_YET in cause


def test_many_long_names_leave_room_for_the_reason() -> None:
    """Of a great many pods the first are named, and the reason is not cut off."""
    cause = str(message_about(absent(*[NOT_YET] * 400, suffix="-" + "x" * 40))["cause"])
    assert "redis-app-0-" in cause
    assert cause.endswith(f" more: {NOT_YET}")


def test_a_long_cause_keeps_its_beginning_and_its_end() -> None:
    """A cause that is too long is shortened in the middle."""
    cause = "first " + "pod, " * 5000 + "reason"
    summary = Summary.of(RefusedError(cause=cause, remedy="fix it"), phase="plan")
    message = json.loads(summary.message())
    assert message["cause"].startswith("first ")
    assert message["cause"].endswith("reason")
    assert summary.fields()["cause"] == message["cause"]


@pytest.mark.parametrize("text", ["\x9b" * 2000, "中" * 2500, '"' * 2500])
def test_a_message_is_never_longer_than_the_kubelet_reads(text: str) -> None:
    """The message stays JSON of at most 4096 bytes, however its characters are encoded."""
    error = RefusedError(node=text, cause=text, remedy=text)
    message = Summary.of(error, phase="plan").message()
    assert len(message.encode()) <= MESSAGE_BYTES
    assert json.loads(message)["exit_code"] == 3


@pytest.mark.parametrize(
    ("causes", "phase", "word"),
    [
        ([NOT_YET, NOT_YET], "dns", "PVC"),
        ([SERVFAIL, SERVFAIL], "dns", "CoreDNS"),
        ([NOT_YET, SERVFAIL], "dns", "CoreDNS"),
        (["redis-app-0 does not answer: timed out"], "connect", "kubectl"),
    ],
)
def test_the_remedy_is_that_of_the_cause(causes: list[str], phase: str, word: str) -> None:
    """The cause that is blamed decides about the remedy."""
    message = message_about(absent(*causes, phase=phase))
    assert word in str(message["remedy"])
    assert all(f"redis-app-{i}" in str(message["cause"]) for i in range(len(causes)))


def test_a_summary_has_the_last_verdict() -> None:
    """What the last observation showed, and for a failure what to do, kept short."""
    seen = Verdict(
        state=State.DATA_AT_RISK,
        severity=Severity.CRITICAL,
        reason="5461 slots of a member that is gone " * 50,
        since="2026-11-27T16:20:03+00:00",
        next="run applies it",
    )
    late = NotConvergedError(node="redis-app-0", cause="late", remedy="run it again")
    summary = Summary.of(late, phase="plan", verdict=seen)
    kept = json.loads(summary.message())["verdict"]
    assert summary.fields()["verdict"] == kept
    assert kept | {"reason": ""} == {
        "state": "data_at_risk", "severity": "critical", "reason": "",
        "since": seen.since, "next": "run it again",
    }  # fmt: skip
    assert 0 < len(kept["reason"]) < VERDICT_CHARS + 10
    assert re.match(r"not_healthy \(data at risk, critical since \d\d:\d\d:03\): ", summary.text())


def test_a_refusal_is_the_state_at_the_end() -> None:
    """A refusal of a server counts as one of the plan does."""
    seen = Verdict(
        state=State.CONVERGING, severity=Severity.INFO, since="2026-11-27T16:20:03+00:00"
    )
    refusal = RefusedError(cause="it has no room", remedy="make some")
    last = Summary.of(refusal, phase="drain", verdict=seen)
    assert (last.verdict.state, last.verdict.reason) == (State.REFUSED, "it has no room")
    assert last.text().startswith("refused (info since ")


@pytest.mark.parametrize(("error", "state"), [(None, "healthy"), (ValueError("x"), "unknown")])
def test_without_an_observation_the_end_has_a_verdict_too(
    error: Exception | None, state: str
) -> None:
    """Without an error it is healthy, otherwise unknown."""
    summary = Summary.of(error, phase="settings")
    assert json.loads(summary.message())["verdict"]["state"] == state
    assert "since" not in summary.text()
