"""What every rendered object must hold to."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bootstrap import __version__
from bootstrap.errors import ExitCode
from tests.support.rendering import (
    COMPONENTS,
    ENTRY_POINTS,
    IMAGE_TAG,
    MANIFESTS,
    ROOT,
    Object,
    Rendered,
    only,
    pod_of,
    render,
    settings_of,
)

kubernetes_validate = pytest.importorskip("kubernetes_validate")

WORKLOADS = {"StatefulSet", "Deployment", "Job"}
MEMBERS = {"app": "redis", "appCluster": "redis-cluster"}
NOT_RESTRICTED = {"host-network"}  # a pod on its node's network cannot be
VERSIONS = [f"1.{minor}" for minor in range(29, 37)]


@pytest.fixture(scope="session")
def render_once(beside_manifests: Path) -> Callable[[str], Rendered]:
    """Render an entry point, or `manifests/` with one component, once in a session."""
    done: dict[str, Rendered] = {}

    def rendered(where: str) -> Rendered:
        if where not in done:
            folder = MANIFESTS / where
            if where.startswith("components/"):
                folder = beside_manifests / where.replace("/", "-")
                folder.mkdir()
                base = "../manifests/base" if where.endswith("/reconcile") else "../manifests"
                lines = {"resources": [base], "components": [f"../manifests/{where}"]}
                (folder / "kustomization.yaml").write_text(yaml.safe_dump(lines))
            done[where] = render(folder)
        return done[where]

    return rendered


@pytest.fixture(params=[*ENTRY_POINTS, *(f"components/{name}" for name in COMPONENTS)])
def rendered(
    request: pytest.FixtureRequest, render_once: Callable[[str], Rendered]
) -> tuple[str, Rendered]:
    """Every entry point, and `manifests/` with each component alone."""
    where: str = request.param
    return where, render_once(where)


def test_objects_are_valid(rendered: tuple[str, Rendered]) -> None:
    """Each follows the schema of its kind; promtool checks those of the Prometheus operator."""
    objects = [o for o in rendered[1] if o["apiVersion"] != "monitoring.coreos.com/v1"]
    for version in VERSIONS:
        for one in objects:
            kubernetes_validate.validate(one, version, strict=True)


def test_pods_are_restricted(rendered: tuple[str, Rendered]) -> None:
    """Each pod meets the restricted Pod Security Standard."""
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


def test_every_object_carries_the_label_of_its_cluster(rendered: tuple[str, Rendered]) -> None:
    """So do the pods; `single` has a label of its own, since it is no part of a cluster."""
    where, objects = rendered
    for one in objects:
        is_single = one["metadata"]["name"].startswith("single-redis")
        alone = is_single and where == "components/single"  # not the policy of `network-policy`
        cluster = "single-redis" if alone else "redis-cluster"
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == cluster
        if one["kind"] in WORKLOADS:
            labels = pod_of(one)["metadata"]["labels"]
            assert labels["app.kubernetes.io/instance"] == cluster


def test_containers_state_what_they_need(rendered: tuple[str, Rendered]) -> None:
    """Each container has requests and a memory limit."""
    for one in (o for o in rendered[1] if o["kind"] in WORKLOADS):
        for container in pod_of(one)["spec"]["containers"]:
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert set(container["resources"]["limits"]) == {"memory"}
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert ":" in container["image"].rsplit("/", 1)[-1]  # `latest` is always pulled


def test_program_is_no_member(rendered: tuple[str, Rendered]) -> None:
    """A pod that a Service or a disruption budget selects gets traffic, or blocks drains."""
    where, objects = rendered
    for kind in ("Job", "Deployment"):
        labels = pod_of(only(objects, kind, "redis-bootstrap"))["metadata"]["labels"]
        assert "app" not in labels
        assert "appCluster" not in labels
    if where == "components/job-only":
        return
    for name in ("redis-service", "redis-access-service"):
        assert only(objects, "Service", name)["spec"]["selector"] == MEMBERS
    for kind in ("PodDisruptionBudget", "StatefulSet"):
        assert only(objects, kind, "redis-app")["spec"]["selector"]["matchLabels"] == MEMBERS


def test_program_is_not_the_first_process(rendered: tuple[str, Rendered]) -> None:
    """So SIGTERM ends it also before it has set its handlers."""
    for kind in ("Job", "Deployment"):
        pod = pod_of(only(rendered[1], kind, "redis-bootstrap"))["spec"]
        assert pod["shareProcessNamespace"] is True


def test_target_ports_are_numbers(rendered: tuple[str, Rendered]) -> None:
    """A name would cut off pods with the same labels that do not name their ports."""
    for service in (o for o in rendered[1] if o["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            assert isinstance(port["targetPort"], int)


def test_only_components_for_it_open_a_port_to_the_outside(
    rendered: tuple[str, Rendered],
) -> None:
    """A node port is opened only by the components and overlays whose purpose that is."""
    where, objects = rendered
    opened = {
        port["nodePort"]
        for o in objects
        if o["kind"] == "Service"
        for port in o["spec"]["ports"]
        if "nodePort" in port
    }
    external = {port + ordinal for port in (30100, 30200) for ordinal in range(6)}
    expected = {"overlays/kind": {30010}, "components/nodeport": {30010},
                "components/external-nodeport": external}  # fmt: skip
    assert opened == expected.get(where, set())
    kinds = {o["spec"].get("type") for o in objects if o["kind"] == "Service"}
    assert bool(opened) == ("NodePort" in kinds)
    assert "LoadBalancer" not in kinds


def test_secrets_are_mounted_by_key(rendered: tuple[str, Rendered]) -> None:
    """Readable by the group of the pod, and with no key that the container does not need.

    Only `job-only` mounts a Secret of unknown keys, that of other manifests.
    """
    where, objects = rendered
    for one in (o for o in objects if o["kind"] in WORKLOADS):
        for volume in pod_of(one)["spec"].get("volumes", []):
            if "secret" in volume:
                assert where == "components/job-only"
                assert volume["secret"]["defaultMode"] == 0o440
            if "projected" in volume:
                assert volume["projected"]["defaultMode"] == 0o440
                for source in volume["projected"]["sources"]:
                    assert source["secret"]["items"]


def test_applications_password_is_mounted_nowhere() -> None:
    """No pod of ours mounts the password of the applications."""
    text = json.dumps(render(MANIFESTS / "overlays/production"))
    assert '"key": "password"' not in text
    assert '"key": "viewer-password"' not in text
    assert not [o for o in render(MANIFESTS / "overlays/production") if o["kind"] == "Secret"]


def test_policies_allow_name_servers_behind_both_ports() -> None:
    """OpenShift's name servers listen on 5353, and a policy counts the port of the pod."""
    policies = [o for o in render(MANIFESTS / "overlays/production")
                if o["kind"] == "NetworkPolicy" and o["spec"].get("egress")]  # fmt: skip
    assert {o["metadata"]["name"] for o in policies} == {"redis-app", "redis-bootstrap"}
    for policy in policies:
        (names,) = [r for r in policy["spec"]["egress"] if "openshift-dns" in str(r["to"])]
        ports = {(port["port"], port["protocol"]) for port in names["ports"]}
        assert ports == {(port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")}


def test_production_has_all_that_protects(beside_manifests: Path) -> None:
    """The production overlay has authentication, TLS, network policies and metrics."""
    folder = beside_manifests / "manifests/overlays/production"
    named = {Path(c).name for c in yaml.safe_load((folder / "kustomization.yaml").read_text())
             ["components"]}  # fmt: skip
    assert named == {"auth", "tls", "network-policy", "reconcile", "metrics"}


def reconciler() -> tuple[Object, Object]:
    deployment = only(render(MANIFESTS), "Deployment")
    return deployment, pod_of(deployment)["spec"]["containers"][0]


def test_reconciler_is_ready_while_the_cluster_is_healthy() -> None:
    """The readiness probe of the reconciler asks for the health of the cluster."""
    deployment, container = reconciler()
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1
    assert container["args"] == ["reconcile"]
    ports = [{"name": "http-metrics", "containerPort": 9102, "protocol": "TCP"}]
    assert container["ports"] == ports
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http-metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http-metrics"}
    assert container["readinessProbe"]["failureThreshold"] == 1


def test_reconciler_runs_as_the_job_does() -> None:
    """Same image, settings and security; it restarts, and has room for less."""
    objects = render(MANIFESTS)
    job = pod_of(only(objects, "Job"))["spec"]
    pod = pod_of(only(objects, "Deployment"))["spec"]
    other = {"args", "ports", "livenessProbe", "readinessProbe", "resources"}
    assert {**pod, "restartPolicy": "Never", "containers": []} == {**job, "containers": []}
    ours, theirs = pod["containers"][0], job["containers"][0]
    assert {k: v for k, v in ours.items() if k not in other} == {
        k: v for k, v in theirs.items() if k not in other
    }


def test_failure_policy_follows_the_exit_codes() -> None:
    """The Job fails at once on the exit codes that no retry can change."""
    final = [ExitCode.SETTINGS, ExitCode.REFUSED, ExitCode.INVARIANT]
    rules = only(render(MANIFESTS), "Job")["spec"]["podFailurePolicy"]["rules"]
    codes = {"containerName": "bootstrap", "operator": "In", "values": sorted(map(int, final))}
    disruption = [{"type": "DisruptionTarget", "status": "True"}]
    assert rules == [
        {"action": "FailJob", "onExitCodes": codes},
        {"action": "Ignore", "onPodConditions": disruption},
    ]


def test_deadlines_are_in_order() -> None:
    """The program speaks last in each run, the Job ends by itself, and a held pod outlasts it."""
    objects = render(MANIFESTS)
    job = only(objects, "Job")["spec"]
    one_run = int(settings_of(objects)["BOOTSTRAP_TIMEOUT"])
    pod = pod_of(only(objects, "StatefulSet"))["spec"]
    env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    back_off = sum(10 * 2**n for n in range(job["backoffLimit"]))
    runs = job["backoffLimit"] + 1
    assert runs * one_run + back_off < job["activeDeadlineSeconds"]
    assert job["activeDeadlineSeconds"] < int(env["PRESTOP_HOLD_SECONDS"])
    assert int(env["PRESTOP_HOLD_SECONDS"]) + 60 == pod["terminationGracePeriodSeconds"]
    assert one_run < only(objects, "Deployment")["spec"]["progressDeadlineSeconds"]


def test_image_has_the_version_of_the_package() -> None:
    """The manifests name the image with the version of the package."""
    assert __version__ == IMAGE_TAG
    found = subprocess.run(
        ["git", "grep", "-lE", r"redis-cluster-bootstrap:[0-9]", "--", "manifests"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""


def test_exporter_sends_its_password_to_its_own_server_only() -> None:
    """Since 1.83 an option closes /scrape, which sends it to any address that a caller names."""
    pod = pod_of(only(render(MANIFESTS / "overlays/production"), "StatefulSet"))["spec"]
    exporter = next(c for c in pod["containers"] if c["name"] == "exporter")
    assert "--disable-scrape-endpoint" in exporter["args"]
    assert "--config-command=-" in exporter["args"]
    version = exporter["image"].rpartition(":v")[2].split(".")
    assert [int(part) for part in version] >= [1, 83]
    env = {e["name"]: e for e in exporter["env"]}
    assert env["REDIS_ADDR"]["value"] == "rediss://localhost:6379"
    assert env["REDIS_EXPORTER_TLS_CA_CERT_FILE"]["value"].startswith(
        tuple(mount["mountPath"] for mount in exporter["volumeMounts"])
    )
    assert env["REDIS_PASSWORD"]["valueFrom"]["secretKeyRef"]["key"] == "exporter-password"
