"""Each component, applied and used."""

import json
from collections.abc import Callable

import pytest
import yaml

from tests.support.story import MEMBERS, ROOT, Object, Story, kubectl, script


def components(*names: str) -> Object:
    return {"components": [f"../manifests/components/{name}" for name in names]}


def test_valkey_heals_after_an_outage(new_story: Callable[..., Story]) -> None:
    """`valkey`, `reconcile` and `network-policy`: an outage of all pods is repaired by itself."""
    story = new_story("valkey", fields=components("valkey", "reconcile", "network-policy"))
    story.apply()
    assert story.wait_for_job()["outcome"] == "healthy"
    assert story.missing() == ""
    assert "server_name:valkey" in story.cli("redis-app-0", "info", "server")
    story.k("delete", "pods", "-l", MEMBERS, "--force", "--grace-period=0")
    seconds = story.wait_until_healthy(seconds=180)
    print(f"\nhealthy again by itself after {seconds:.1f} s")


@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_passwords_and_tls(new_story: Callable[..., Story], server: str) -> None:
    """`auth` and `tls`, and a larger cluster with them: keys move with passwords, over TLS."""
    also = ["valkey"] if server == "valkey" else []
    story = new_story(f"auth-tls-{server}", fields=components("auth", "tls", *also))
    story.k("apply", "-f", "-", stdin=script("auth-secret"))
    story.k("apply", "-f", "-", stdin=script("tls-secret", story.namespace))
    story.apply()
    assert story.wait_for_job()["outcome"] == "healthy"
    assert story.missing() == ""
    plain = story.k("exec", "redis-app-0", "--", "redis-cli", "-t", "2", "ping", check=False)
    assert "PONG" not in plain
    story.fill(300)
    story.apply(replicas=8)
    assert story.wait_for_job()["outcome"] == "healthy"
    assert story.missing() == ""
    assert story.keys() == 300


def test_plain_redis_beside_it(new_story: Callable[..., Story]) -> None:
    """The component `single` can also be applied alone."""
    story = new_story("single")
    story.k("apply", "-k", ROOT / "manifests/components/single")
    story.k("rollout", "status", "statefulset/single-redis", "--timeout=120s")
    story.k("exec", "single-redis-0", "--", "redis-cli", "set", "key", "value")
    story.k("delete", "pod", "single-redis-0")
    story.k("rollout", "status", "statefulset/single-redis", "--timeout=120s")
    assert story.k("exec", "single-redis-0", "--", "redis-cli", "get", "key").strip() == "value"
    said = story.k("apply", "-k", ROOT / "manifests/components/single").splitlines()
    assert all(line.endswith("unchanged") for line in said)


def test_volumes_of_another_class(new_story: Callable[..., Story]) -> None:
    """`storage-nfs`, with a class of that name that this cluster can serve."""
    classes = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    if not classes:
        pytest.skip("the cluster has no storage class")
    like = {
        key: classes[0][key] for key in ("apiVersion", "kind", "provisioner", "volumeBindingMode")
    }
    named = {**like, "metadata": {"name": "dg-nfs-storage"}}
    story = new_story("storage-nfs", fields=components("storage-nfs"))
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(named))
    try:
        story.apply()
        claims = json.loads(story.k("get", "pvc", "-o", "json"))["items"]
        story.wait_until(lambda: len(json.loads(story.k("get", "pvc", "-o", "json"))["items"]) == 6)
        claims = json.loads(story.k("get", "pvc", "-o", "json"))["items"]
        assert {c["spec"]["storageClassName"] for c in claims} == {"dg-nfs-storage"}
        assert {tuple(c["spec"]["accessModes"]) for c in claims} == {("ReadWriteMany",)}
        if like["provisioner"] != "rancher.io/local-path":  # that one has no volumes for many
            assert story.wait_for_job()["outcome"] == "healthy"
    finally:
        kubectl("delete", "storageclass", "dg-nfs-storage", "--wait=false")


def test_clients_outside_of_the_pod_network(new_story_on_nodes: Callable[..., Story]) -> None:
    """`external-nodeport`: members announce their node's address and a port of their own."""
    story = new_story_on_nodes("external", fields=components("external-nodeport"))
    story.apply()
    assert story.wait_for_job()["outcome"] == "healthy"
    assert story.missing() == ""
    hosts = {p["metadata"]["name"]: p["status"]["hostIP"] for p in story.pods()}
    announced = {m.address.partition("@")[0] for m in story.views()["redis-app-0"]}
    assert announced == {f"{host}:3010{name[-1]}" for name, host in hosts.items()}
