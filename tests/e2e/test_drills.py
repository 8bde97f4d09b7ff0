"""Mistakes, late changes and combinations of components, each on a cluster of its own.

All have the reconciler. They take fifty minutes, so that only E2E=full runs them.
"""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from itertools import combinations

import pytest
import yaml

from tests.support.story import (
    ROOT,
    Object,
    Story,
    gives_up_soon,
    kubectl,
    nothing_noticed,
    patch,
    script,
    tell,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("E2E") != "full", reason="E2E=full runs the drills"),
]
Begin = Callable[..., Story]
BASE = "../manifests"
KEYS = 1000
REASON = ("logs", "deployment/redis-bootstrap", "--tail=20")
# What a new pod has had to become ready by itself, if it is mistaken for the first of a cluster.
LONG_UP_S = 30
ASK = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""


def formed(story: Story) -> Story:
    """Apply, wait until the cluster is healthy, and write keys."""
    story.apply(base=BASE)
    assert story.wait_for_job()["outcome"] == "healthy"
    story.wait_until_ready()
    story.fill(KEYS)
    return story


def with_settings(**settings: object) -> Object:
    """Return fields of an overlay that change settings of the program."""
    literals = [f"{name}={value}" for name, value in settings.items()]
    merged = {"name": "redis-bootstrap", "behavior": "merge", "literals": literals}
    return {"configMapGenerator": [merged]}


def with_configuration(line: str) -> Object:
    """Return fields of an overlay that change the configuration of the servers."""
    merged = {"name": "redis-conf", "behavior": "merge", "literals": [f"more.conf={line}"]}
    return {"configMapGenerator": [merged]}


def container(pod: Object) -> Object:
    """Return the status of a member's container."""
    [status] = [s for s in pod["status"]["containerStatuses"] if s["name"] == "redis"]
    return dict(status)


# --- sizes


def test_impossible_size_is_taken_back(new_story: Begin) -> None:
    """Four members cannot be a cluster: the Job ends with 2, and with six again all is well."""
    story = formed(new_story("impossible"))
    begun = time.monotonic()
    with story.writer() as noticed:
        story.apply(replicas=4)
        assert story.wait_for_job()["exit_code"] == 2
        story.wait_until(
            lambda: story.is_gone_or_held("redis-app-4", "redis-app-5"), description="gone or held"
        )
        story.k("wait", "deployment/redis-bootstrap", "--for=condition=Available=false")
        story.wait_until(
            lambda: "BOOTSTRAP_NODES" in story.k(*REASON, check=False), description="the reason"
        )
        story.apply(replicas=6)
        again = story.wait_until_ready()
    tell(six_again_s=again)
    nothing_noticed(noticed, begun)
    assert story.keys() == KEYS + noticed["acknowledged"]


def test_scaled_without_apply(new_story: Begin) -> None:
    """Pods beyond the applied size get no clients, and the reconciler names them until they go."""
    story, more = formed(new_story("scaled")), {f"redis-app-{n}" for n in range(6, 10)}
    resolved: dict[str, bool] = {}

    def up_for_long() -> bool:
        for one in story.endpoints("redis-access-service"):
            resolved[one["targetRef"]["name"]] = one["conditions"]["ready"]
        assert not any(resolved.get(pod) for pod in more), resolved
        servers = [story.cli(pod, "info", "server", check=False) for pod in more]
        up = [re.search(r"uptime_in_seconds:(\d+)", server) for server in servers]
        return all(one and int(one[1]) > LONG_UP_S for one in up)

    def asked(path: str) -> str:
        url = f"http://localhost:9102/{path}"
        pod = "deployment/redis-bootstrap"
        return story.k("exec", pod, "--", "/app/bin/python", "-c", ASK, url)

    begun = time.monotonic()
    with story.writer() as noticed:
        story.k("scale", "statefulset/redis-app", "--replicas=10")
        story.wait_until(up_for_long, description="ten pods")
        assert resolved == {f"redis-app-{n}": n < 6 for n in range(10)}
        story.k("wait", "deployment/redis-bootstrap", "--for=condition=Available=false")
        reason = asked("readyz")
        print(f"\n{reason}")
        assert "redis-app-6" in reason
        assert "redis-app-6" in story.k(*REASON)
        assert 'findings{code="pods_surplus"} 1' in asked("metrics")
        story.k("scale", "statefulset/redis-app", "--replicas=6")
        tell(six_again_s=story.wait_until_ready())
    nothing_noticed(noticed, begun)
    assert story.keys() == KEYS + noticed["acknowledged"]


@pytest.mark.parametrize("when", ["at-once", "while-members-join"])
def test_growth_is_taken_back_before_it_ended(new_story: Begin, when: str) -> None:
    """Eight members are applied, and six again while the first run still works."""
    story = formed(new_story(f"taken-back-{when}"))
    begun = time.monotonic()
    with story.writer() as noticed:
        story.apply(replicas=8)
        if when != "at-once":
            story.wait_until(lambda: len(story.views()["redis-app-0"]) > 6, description="joining")
        story.apply(replicas=6)
        tell(six_again_s=story.wait_until_ready(seconds=900))
    nothing_noticed(noticed, begun)
    print(story.k("get", "jobs"))
    assert story.keys() == KEYS + noticed["acknowledged"]


def test_settings_change_while_a_run_works(new_story: Begin) -> None:
    """Other settings start another Job and another reconciler beside the run that moves slots."""
    story = formed(new_story("meanwhile"))
    begun = time.monotonic()
    with story.writer() as noticed:
        story.apply(replicas=8)
        first = story.job()
        story.wait_until(
            lambda: "plan.computed" in story.k("logs", f"job/{first}", check=False),
            description="the run works",
        )
        story.apply(fields=with_settings(BOOTSTRAP_TIMEOUT=500))
        assert story.job() != first
        tell(eight_s=story.wait_until_ready())
        outcomes = [story.wait_for_job(name)["outcome"] for name in (first, story.job())]
    nothing_noticed(noticed, begun)
    assert outcomes == ["healthy", "healthy"]
    assert story.keys() == KEYS + noticed["acknowledged"]


# --- what comes late


def given_up(story: Story, **changes: object) -> Story:
    """Apply with something in the way, and wait until the Job has failed."""
    story.apply(base=BASE, **changes)
    assert story.wait_for_failure() == "BackoffLimitExceeded"
    return story


def test_storage_class_that_comes_late(new_story: Begin) -> None:
    """After the Job has failed, the class that the claims name is all that is missing."""
    classes = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    if not classes:
        pytest.skip("the cluster has no storage class")
    path = "/spec/volumeClaimTemplates/0/spec/storageClassName"
    name = {"op": "add", "path": path, "value": "e2e-late"}
    late = {**classes[0], "metadata": {"name": "e2e-late"}}
    named = patch("StatefulSet", "redis-app", name)
    story = given_up(new_story("late-storage"), patches=[named, *gives_up_soon()])
    assert {pod["status"]["phase"] for pod in story.pods()} == {"Pending"}
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(late))
    try:
        tell(healthy_s=story.wait_until_ready())
    finally:
        kubectl("delete", "storageclass", "e2e-late", "--wait=false")


def no_such_image(story: Story) -> Story:
    """Apply an image that is nowhere, and wait until the Job has failed."""
    nowhere = {"images": [{"name": "redis", "newTag": "0.0-none"}]}
    return given_up(story, fields=nowhere, patches=gives_up_soon())


def test_image_that_comes_late(new_story: Begin) -> None:
    """After the Job has failed, the image is all that is missing."""
    story = no_such_image(new_story("late-image"))
    # No test can push to the registry of a cluster: the pods get the name of one that is there.
    story.apply("--dry-run=client", fields={})
    server = story.rendered("StatefulSet")["spec"]["template"]["spec"]["containers"][0]["image"]
    for pod in story.uids():
        story.k("set", "image", f"pod/{pod}", f"redis={server}")
    tell(healthy_s=story.wait_until_ready())


def test_wrong_image_is_corrected(new_story: Begin) -> None:
    """The right image is applied after the Job has failed; the pods are replaced one by one."""
    story = no_such_image(new_story("wrong-image"))
    story.apply(fields={})
    tell(healthy_s=story.wait_until_ready(seconds=600))


def test_quota_is_lifted(new_story: Begin) -> None:
    """Pods that a quota kept from being created come by themselves, and so does the cluster."""
    story = new_story("late-quota")
    hard = {"hard": {"pods": "4"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": hard}
    story.k("apply", "-f", "-", stdin=yaml.safe_dump(quota))
    story.apply(base=BASE, patches=gives_up_soon())
    denied = ("get", "events", "--field-selector=reason=FailedCreate", "-o", "name")
    story.wait_until(lambda: story.k(*denied), description="a pod is denied")
    assert len(story.pods()) < story.replicas
    story.k("delete", "resourcequota", "few")
    tell(healthy_s=story.wait_until_ready(seconds=600))


# --- configurations of the servers


def node_timeouts(story: Story) -> set[str]:
    """Return the node timeouts of all members."""
    ask = ("config", "get", "cluster-node-timeout")
    return {story.cli(pod, *ask).split()[-1] for pod in story.uids()}


def test_rollout_undo(new_story: Begin) -> None:
    """A changed redis.conf and its former content again are two rolling updates."""
    story, rolled_out = formed(new_story("undo")), ("rollout", "status", "statefulset/redis-app")
    begun, former = time.monotonic(), node_timeouts(story)
    with story.writer() as noticed:
        story.apply(fields=with_configuration("cluster-node-timeout 8000"))
        story.k(*rolled_out, "--timeout=300s")
        assert node_timeouts(story) == {"8000"}
        story.k("rollout", "undo", "statefulset/redis-app")
        story.k(*rolled_out, "--timeout=300s")
        assert node_timeouts(story) == former
        story.wait_until_ready()
    nothing_noticed(noticed, begun)
    assert story.keys() == KEYS + noticed["acknowledged"]


def test_broken_configuration_stops_at_the_first_pod(new_story: Begin) -> None:
    """A directive that no server knows costs one pod, and the former files bring it back."""
    story, last = formed(new_story("broken")), "redis-app-5"
    begun, before = time.monotonic(), story.uids()

    def others() -> list[Object]:
        return [pod for pod in story.pods() if pod["metadata"]["name"] != last]

    def does_not_start() -> bool:
        broken = [pod for pod in story.pods() if pod["metadata"]["uid"] not in before.values()]
        statuses = [pod["status"].get("containerStatuses") for pod in broken]
        return any(statuses) and container(broken[0])["restartCount"] > 1

    with story.writer() as noticed:
        story.apply(fields=with_configuration("no-such-directive yes"))
        story.wait_until(does_not_start, description="the first pod does not start")
        assert all(before[p["metadata"]["name"]] == p["metadata"]["uid"] for p in others())
        assert {(container(p)["ready"], container(p)["restartCount"]) for p in others()} == {
            (True, 0)
        }
        assert "cluster_state:ok" in story.cli("redis-app-0", "cluster", "info")
        story.apply(fields={})
        tell(healthy_s=story.wait_until_ready())
    nothing_noticed(noticed, begun)
    assert {k: v for k, v in story.uids().items() if k != last}.items() <= before.items()
    assert story.keys() == KEYS + noticed["acknowledged"]


# --- neighbours


def uninstall(story: Story) -> None:
    """Do what the runbook says for a cluster."""
    text = (ROOT / "docs/runbooks/uninstall.md").read_text()
    about_a_cluster = text.partition("## The program alone")[0]
    for block in re.findall(r"```sh\n(.*?)```", about_a_cluster, re.DOTALL):
        for line in block.splitlines():
            command, *arguments = shlex.split(line.replace("manifests/", str(story.mine)))
            assert command == "kubectl"
            print(f"\n{line}\n{story.k(*arguments)}")


def test_neighbours_in_one_namespace(new_story: Begin) -> None:
    """Two clusters grow, one shrinks, the other is removed; a plain Redis is beside them."""
    one = new_story("neighbours")
    other = dataclasses.replace(one, prefix="eu-")
    kinds, single = "statefulset,deployment,service,pdb,configmap,pvc", "app=single-redis"
    one.k("apply", "-k", ROOT / "manifests/components/single")
    formed(one)
    formed(other)
    one.k("exec", "single-redis-0", "--", "redis-cli", "set", "key", "value")
    begun, alone = time.monotonic(), one.uids(single)
    with other.writer("writer-of-other") as noticed:
        with one.writer("writer-of-one") as noticed_by_one:
            for each in (one, other):
                each.apply(replicas=8)
            for each in (one, other):
                each.wait_until_ready()
            other.apply(replicas=6)
            other.wait_until_ready()
        nothing_noticed(noticed_by_one, begun)
        assert one.missing() == ""
        assert one.keys() == KEYS + noticed_by_one["acknowledged"]
        its = ("get", kinds, "-l", "app.kubernetes.io/instance=eu-redis-cluster", "-o", "name")
        before, objects = other.uids(), other.k(*its)
        uninstall(one)
        one.wait_until(lambda: not one.pods(), description="no pods of the first cluster")
    nothing_noticed(noticed, begun)
    assert other.missing() == ""
    assert (other.uids(), other.k(*its)) == (before, objects)
    assert other.keys() == KEYS + noticed["acknowledged"]
    assert one.uids(single) == alone
    one.k("delete", "pod", "single-redis-0")
    one.k("rollout", "status", "statefulset/single-redis", "--timeout=60s")
    assert one.k("exec", "single-redis-0", "--", "redis-cli", "get", "key").strip() == "value"


# --- components

COMPONENTS = ["external-nodeport", "host-network", "metrics", "network-policy"]
SECURE = ["auth", "tls"]
TOGETHER = [
    *([name] for name in COMPONENTS),
    *([name, *SECURE] for name in COMPONENTS),
    *([*pair, *SECURE] for pair in combinations(COMPONENTS, 2)),
]


def with_components(story: Story, *names: str) -> Story:
    """Prepare an overlay, and the namespace for it, as the documents say."""
    images = []
    if "metrics" in names:
        if "E2E_EXPORTER_IMAGE" not in os.environ:
            pytest.skip("E2E_EXPORTER_IMAGE names no image of redis_exporter")
        name, _, tag = os.environ["E2E_EXPORTER_IMAGE"].rpartition(":")
        images = [{"name": "oliver006/redis_exporter", "newName": name, "newTag": tag}]
    story.base = BASE
    story.fields = {"components": [f"{BASE}/components/{n}" for n in names], "images": images}
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    if "host-network" in names:
        story.replicas, story.copies = 3, 0
        if len(nodes) < story.replicas:
            pytest.skip("host-network needs three nodes")
        story.fields |= with_settings(BOOTSTRAP_REPLICAS=0)
        privileged = "pod-security.kubernetes.io/enforce=privileged"
        kubectl("label", "--overwrite", "namespace", story.namespace, privileged)
    if "tls" in names:
        addresses = [a for node in nodes for a in node["status"]["addresses"]]
        ips = [a["address"] for a in addresses if a["type"] == "InternalIP"]
        options = [word for ip in ips for word in ("--ip", ip)]
        story.k("apply", "-f", "-", stdin=script("auth-secret"))
        story.k("apply", "-f", "-", stdin=script("tls-secret", *options, story.namespace))
    return story


@pytest.fixture
def any_story(request: pytest.FixtureRequest) -> Begin:
    """Begin a story on ports of nodes where the components need them."""
    on_nodes = {"external-nodeport", "host-network"} & {*request.node.callspec.params["names"]}
    begin: Begin = request.getfixturevalue("new_story_on_nodes" if on_nodes else "new_story")
    return begin


@pytest.mark.parametrize("names", TOGETHER, ids="-".join)
def test_components_together(any_story: Begin, names: list[str]) -> None:
    """With each pair of components a pod is replaced, or the pair is refused with the reason."""
    initials = "-".join("".join(word[:4] for word in name.split("-")) for name in names)
    story = with_components(any_story(f"with-{initials}"), *names)
    begun = time.monotonic()
    if len({*names} - {"metrics", *SECURE}) > 1:
        with pytest.raises(AssertionError, match=r"cannot be combined: \w+"):
            story.apply()
        return
    formed(story)
    tell(formed_s=time.monotonic() - begun)
    if "host-network" in names:  # without replicas: what is deleted is not served meanwhile
        story.k("delete", "pod", "redis-app-1", "--grace-period=5")
        tell(healthy_s=story.wait_until_ready())
        assert story.keys() == KEYS
        return
    begun = time.monotonic()
    with story.writer() as noticed:
        story.k("delete", "pod", "redis-app-1")
        story.wait_until_ready()
    nothing_noticed(noticed, begun)
    assert story.keys() == KEYS + noticed["acknowledged"]


@pytest.mark.parametrize(
    "names", [["external-nodeport"], ["external-nodeport", *SECURE]], ids="-".join
)
def test_members_with_ports_of_nodes_grow(any_story: Begin, names: list[str]) -> None:
    """The Services that the document makes for two more members are all that they need."""
    story = formed(with_components(any_story(f"external-{len(names)}"), *names))
    text = (ROOT / "docs/kubernetes.md").read_text()
    [loop] = re.findall(r"```sh\n(for n in .*?)```", text, re.DOTALL)
    subprocess.run(["bash", "-euc", loop], cwd=story.folder, check=True)
    made = sorted(story.folder.glob("redis-app-?.yaml"))
    for file in made:
        file.rename(story.mine / file.name)
    story.fields["resources"] = [BASE, *(file.name for file in made)]
    begun = time.monotonic()
    with story.writer() as noticed:
        story.apply(replicas=8)
        story.wait_until_ready()
    nothing_noticed(noticed, begun)
    hosts = {p["metadata"]["name"]: p["status"]["hostIP"] for p in story.pods()}
    announced = {m.address.partition("@")[0] for m in story.views()["redis-app-0"]}
    assert announced == {f"{host}:3010{name[-1]}" for name, host in hosts.items()}
    assert story.keys() == KEYS + noticed["acknowledged"]
