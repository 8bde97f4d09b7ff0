"""What the last words say, and that they stay short."""

import json

import pytest

from bootstrap.core.topology import Absent
from bootstrap.errors import NotConvergedError, RefusedError
from bootstrap.loop.timeout_cause import absent_cause
from bootstrap.process.summary import MESSAGE_BYTES, Summary

SERVICE = "redis-service.default.svc.cluster.local"
NOT_YET = "no address in DNS yet"
SERVFAIL = f"name servers 10.0.0.10 gave no answer for {SERVICE}: SERVFAIL"


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


def told(pods: list[Absent]) -> dict[str, object]:
    late = absent_cause(pods)
    error = NotConvergedError(
        node=late.node, cause=f"not healthy after 3 s: {late.cause}", remedy=late.remedy
    )
    summary = Summary.of(error, phase="observe")
    assert len(summary.message().encode()) <= MESSAGE_BYTES
    assert len(summary.text()) <= MESSAGE_BYTES
    message = json.loads(summary.message())
    assert message["remedy"] == late.remedy
    return message


def test_all_pods_of_an_ordinary_cluster_are_named() -> None:
    pods = absent(*[NOT_YET] * 30, suffix=f".{SERVICE}:6379")
    cause = str(told(pods)["cause"])
    assert all(pod.name in cause for pod in pods)
    assert NOT_YET in cause


def test_many_long_names_leave_room_for_the_reason() -> None:
    cause = str(told(absent(*[NOT_YET] * 400, suffix="-" + "x" * 40))["cause"])
    assert "redis-app-0-" in cause
    assert cause.endswith(f" more: {NOT_YET}")


def test_a_long_story_keeps_its_beginning_and_its_end() -> None:
    cause = "first " + "pod, " * 5000 + "reason"
    summary = Summary.of(RefusedError(cause=cause, remedy="fix it"), phase="plan")
    message = json.loads(summary.message())
    assert message["cause"].startswith("first ")
    assert message["cause"].endswith("reason")
    assert summary.fields()["cause"] == message["cause"]


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
    message = told(absent(*causes, phase=phase))
    assert word in str(message["remedy"])
    assert all(f"redis-app-{i}" in str(message["cause"]) for i in range(len(causes)))
