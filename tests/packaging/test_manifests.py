"""What every rendered object must hold to."""

import json
import subprocess
from itertools import product

import pytest
import yaml

from bootstrap import __version__
from bootstrap.errors import ExitCode
from tests.support.rendering import (
    COMPONENTS,
    ENTRY_POINTS,
    MANIFESTS,
    ROOT,
    Render,
    Rendered,
    only,
    pod_of,
    render,
)

kubernetes_validate = pytest.importorskip("kubernetes_validate")

WORKLOADS = {"StatefulSet", "Deployment", "Job", "CronJob"}
SELECTOR = {"app": "redis", "appCluster": "redis-cluster"}
NOT_RESTRICTED = {"host-network"}  # a pod on its node's network cannot be


@pytest.fixture(params=[*ENTRY_POINTS, *(f"components/{name}" for name in COMPONENTS)])
def rendered(request: pytest.FixtureRequest, overlay: Render) -> tuple[str, Rendered]:
    """Every entry point, and the base with each component alone."""
    where: str = request.param
    if where.startswith("components/"):
        return where, overlay(components=[f"../manifests/{where}"])
    return where, render(MANIFESTS / where)


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.36"])
def test_objects_are_valid(rendered: tuple[str, Rendered], version: str) -> None:
    for one in rendered[1]:
        kubernetes_validate.validate(one, version, strict=True)


def test_pods_are_restricted(rendered: tuple[str, Rendered]) -> None:
    where, objects = rendered
    for pod in (pod_of(o)["spec"] for o in objects if o["kind"] in WORKLOADS):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert where.split("/")[-1] in NOT_RESTRICTED or not pod.get("hostNetwork")
        for container in pod["containers"] + pod.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_objects_can_be_selected_together(rendered: tuple[str, Rendered]) -> None:
    """`kubectl apply --prune --selector` applies only what the selector finds."""
    for one in rendered[1]:
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "redis-cluster"


def test_containers_ask_for_what_they_need(rendered: tuple[str, Rendered]) -> None:
    for one in (o for o in rendered[1] if o["kind"] in WORKLOADS):
        for container in pod_of(one)["spec"]["containers"]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert set(container["resources"]["limits"]) == {"memory"}
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert ":" in container["image"].rsplit("/", 1)[-1]  # `latest` is always pulled


def test_job_is_no_member(rendered: tuple[str, Rendered]) -> None:
    """A Job's pod that a Service or a disruption budget selects gets traffic, or blocks drains."""
    objects = rendered[1]
    for kind in ("Job", "CronJob"):
        labels = pod_of(only(objects, kind, "redis-bootstrap"))["metadata"]["labels"]
        assert not SELECTOR.items() <= labels.items()
        assert "app" not in labels
    for one in objects:
        if one["metadata"]["name"] in ("redis-service", "redis-access-service"):
            assert one["spec"]["selector"] == SELECTOR
        if one["kind"] == "PodDisruptionBudget" or (
            one["metadata"]["name"] == "redis-app" and one["kind"] == "StatefulSet"
        ):
            assert one["spec"]["selector"]["matchLabels"] == SELECTOR


def test_cronjob_runs_what_the_job_runs(rendered: tuple[str, Rendered]) -> None:
    job = only(rendered[1], "Job")
    cronjob = only(rendered[1], "CronJob")
    assert cronjob["spec"]["jobTemplate"]["spec"] == job["spec"]


def test_second_cluster_in_a_namespace_has_its_own_members(overlay: Render) -> None:
    """Names and labels of its own, as the documentation shows, reach all that selects."""
    labels = [{"pairs": {"appCluster": "eu"}, "includeSelectors": True}]
    policies = ["../manifests/components/network-policy"]
    objects = overlay(namePrefix="eu-", labels=labels, components=policies)
    assert '"appCluster": "redis-cluster"' not in json.dumps(objects)
    mine = {**SELECTOR, "appCluster": "eu"}
    assert only(objects, "Service", "eu-redis-access")["spec"]["selector"] == mine
    assert only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == mine
    assert mine.items() <= pod_of(only(objects, "StatefulSet"))["metadata"]["labels"].items()
    for kind in ("Job", "CronJob"):
        assert not mine.items() <= pod_of(only(objects, kind))["metadata"]["labels"].items()


def test_failure_policy_follows_the_exit_codes() -> None:
    final = [ExitCode.SETTINGS, ExitCode.REFUSED, ExitCode.INVARIANT]
    rules = only(render(MANIFESTS), "Job")["spec"]["podFailurePolicy"]["rules"]
    codes = {"containerName": "bootstrap", "operator": "In", "values": sorted(map(int, final))}
    disruption = [{"type": "DisruptionTarget", "status": "True"}]
    assert rules == [
        {"action": "FailJob", "onExitCodes": codes},
        {"action": "Ignore", "onPodConditions": disruption},
    ]


def test_deadlines_are_in_order() -> None:
    """The program speaks last in each run, the Job ends by itself, and a held pod outwaits it."""
    objects = render(MANIFESTS)
    job = only(objects, "Job")["spec"]
    one_run = int(only(objects, "ConfigMap", "redis-bootstrap-")["data"]["BOOTSTRAP_TIMEOUT"])
    pod = pod_of(only(objects, "StatefulSet"))["spec"]
    env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    back_off = sum(10 * 2**n for n in range(job["backoffLimit"]))
    runs = job["backoffLimit"] + 1
    assert runs * one_run + back_off < job["activeDeadlineSeconds"]
    assert job["activeDeadlineSeconds"] < int(env["PRESTOP_HOLD_SECONDS"])
    assert int(env["PRESTOP_HOLD_SECONDS"]) + 60 == pod["terminationGracePeriodSeconds"]


def test_image_has_the_version_of_the_package() -> None:
    images = yaml.safe_load((MANIFESTS / "base/kustomization.yaml").read_text())["images"]
    assert {"name": "redis-cluster-bootstrap", "newTag": __version__} in images
    told = subprocess.run(
        ["git", "grep", "-lE", r"redis-cluster-bootstrap:[0-9]", "--", "manifests"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout == ""


def test_secrets_are_not_in_the_repository() -> None:
    assert not [o for o in render(MANIFESTS / "overlays/production") if o["kind"] == "Secret"]


@pytest.mark.parametrize(
    ("one", "other"), [pair for pair in product(COMPONENTS, COMPONENTS) if pair[0] < pair[1]]
)
def test_components_go_together(overlay: Render, one: str, other: str) -> None:
    objects = overlay(components=[f"../manifests/components/{c}" for c in (one, other)])
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("options", [[], ["--redis-6.2"]])
def test_bootstrap_user_may_do_what_the_documentation_says(options: list[str]) -> None:
    """And no more but PING, for the probes."""
    done = subprocess.run(
        [ROOT / "scripts/auth-secret", *options], capture_output=True, text=True, check=True
    )
    users = yaml.safe_load(done.stdout)["stringData"]["users.acl"].splitlines()
    rules = next(line for line in users if line.startswith("user bootstrap ")).split()[4:]
    said = (ROOT / "docs/acl.md").read_text().splitlines()
    documented = [line.split()[4:] for line in said if line.startswith("user bootstrap ")]
    assert sorted(rules) == sorted([*documented[1 if options else 0], "+ping"])
