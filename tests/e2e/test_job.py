"""How the Job ends when something is in its way, and what it tells then."""

import json
import time
from collections.abc import Callable

import pytest
import yaml

from tests.support.story import (
    JOBS,
    MEMBERS,
    Object,
    Story,
    gives_up_soon,
    patch,
    replace,
    with_env,
)


def test_pods_deleted_while_the_job_runs(new_story: Callable[..., Story]) -> None:
    """The Job ends healthy although pods are deleted while it runs."""
    begun = time.monotonic()
    story = new_story("job-deleted")
    story.apply()
    story.k("wait", f"job/{story.job()}", "--for=jsonpath={.status.active}=1", "--timeout=60s")
    for pod in ("redis-app-1", "redis-app-4"):
        story.k("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Running", "--timeout=60s")
    story.k("delete", "pod", "redis-app-1", "redis-app-4", "--wait=false")
    assert story.wait_for_job()["outcome"] == "healthy"
    print(f"\n{time.monotonic() - begun:.1f} s")
    story.wait_until_healthy()


def test_two_runs_at_once(new_story: Callable[..., Story]) -> None:
    """Two Jobs at the same time both end healthy."""
    story = new_story("job-twice")
    story.apply()
    other = story.run_again("other")
    outcomes = {story.wait_for_job()["outcome"], story.wait_for_job(other)["outcome"]}
    assert outcomes == {"healthy"}
    assert story.missing() == ""


def test_evicted_run_is_no_failure(new_story: Callable[..., Story]) -> None:
    """Although there is no second try (backoffLimit 0), another pod goes on."""
    story = new_story("job-evicted")
    no_second_try = patch("Job", "redis-bootstrap", replace("/spec/backoffLimit", 0))
    not_yet = patch(
        "StatefulSet",
        "redis-app",
        {
            "op": "add",
            "path": "/spec/template/spec/schedulingGates",
            "value": [{"name": "e2e/hold"}],
        },
    )
    story.apply(patches=[no_second_try, not_yet])
    story.wait_until(
        lambda: "run.started" in story.k("logs", "-l", JOBS, check=False), description="run"
    )
    pod = story.pods(JOBS)[0]["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": story.namespace},
    }
    path = f"/api/v1/namespaces/{story.namespace}/pods/{pod}/eviction"
    story.k("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    for n in range(6):
        ungated = json.dumps([{"op": "remove", "path": "/spec/schedulingGates"}])
        story.k("patch", "pod", f"redis-app-{n}", "--type=json", "-p", ungated)
    assert story.wait_for_job()["outcome"] == "healthy"
    assert len(story.pods(JOBS)) >= 1
    story.wait_until_healthy()


def test_run_killed_for_memory(new_story: Callable[..., Story]) -> None:
    """Each kill counts as a try and `kubectl get pods` says OOMKilled; the next run finishes."""
    story = new_story("job-memory")
    container = "/spec/template/spec/containers/0/resources"
    starved = patch(
        "Job",
        "redis-bootstrap",
        replace(f"{container}/limits/memory", "20Mi"),
        replace(f"{container}/requests/memory", "20Mi"),
        replace("/spec/backoffLimit", 1),
    )
    story.apply(patches=[starved])
    assert story.wait_for_failure() == "BackoffLimitExceeded"
    ends = [
        pod["status"]["containerStatuses"][0]["state"]["terminated"] for pod in story.pods(JOBS)
    ]
    assert [(end["reason"], end["exitCode"]) for end in ends] == [("OOMKilled", 137)] * 2
    story.apply("--dry-run=client", patches=[])
    assert story.wait_for_job(story.run_again())["outcome"] == "healthy"
    story.wait_until_healthy()


@pytest.mark.parametrize(
    ("name", "variable", "value", "exit_code"),
    [
        ("job-settings", "BOOTSTRAP_REPLICAS", "2.5", 2),
        ("job-password", "BOOTSTRAP_PASSWORD", "wrong", 2),
    ],
)
def test_what_no_second_try_mends_fails_at_once(
    new_story: Callable[..., Story], name: str, variable: str, value: str, exit_code: int
) -> None:
    """Exit codes that a retry cannot change make the Job fail after one pod."""
    story = new_story(name)
    story.apply(patches=[with_env(variable, value)])
    assert story.wait_for_failure() == "PodFailurePolicy"
    words = story.last_words()
    print(f"\n{words}")
    assert words["exit_code"] == exit_code
    assert len(story.pods(JOBS)) == 1


@pytest.mark.parametrize(
    ("name", "operation", "expected"),
    [
        (
            "job-no-storage",
            replace("/spec/volumeClaimTemplates/0/spec/storageClassName", "no-such-class"),
            "PVC",
        ),
        (
            "job-no-image",
            replace("/spec/template/spec/containers/0/image", "redis:0.0-none"),
            "image",
        ),
    ],
)
def test_pods_that_never_come_are_named(
    new_story: Callable[..., Story], name: str, operation: Object, expected: str
) -> None:
    """The run tells which pods are missing, and what usually causes it."""
    operation = {**operation, "op": "add" if "storageClassName" in operation["path"] else "replace"}
    story = new_story(name)
    story.apply(patches=[patch("StatefulSet", "redis-app", operation), *gives_up_soon()])
    assert story.wait_for_failure() == "BackoffLimitExceeded"
    words = json.dumps(story.last_words())
    print(f"\n{words}")
    assert '"exit_code": 5' in words
    assert "redis-app-0" in words
    assert expected.lower() in (words + story.k("logs", f"job/{story.job()}")).lower()


def test_quota_is_in_the_way(new_story: Callable[..., Story]) -> None:
    """The run names the pods that a ResourceQuota keeps from being created."""
    story = new_story("job-quota")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"pods": "5"}},
    }
    story.k("apply", "-f", "-", stdin=yaml.safe_dump(quota))
    story.apply(patches=gives_up_soon())
    # Pods that are created at the same time can exceed a quota for a moment.
    story.wait_until(
        lambda: len(story.pods(MEMBERS) + story.pods(JOBS)) >= 5, description="five pods"
    )
    if story.pods(JOBS):
        assert story.wait_for_failure() == "BackoffLimitExceeded"
        print(f"\n{story.last_words()}")
