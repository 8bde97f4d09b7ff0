"""The life of one cluster under a client that writes, by editing the overlay and applying it.

The tests stand in the order of that life, each goes on where the one before ended.
"""

import time
from collections.abc import Callable

import pytest

from tests.support.story import MEMBERS, Object, Story, nothing_noticed, survives_an_outage

pytestmark = pytest.mark.slow
KEYS = 3000


@pytest.fixture(scope="module")
def cluster(long_story: Callable[..., Story]) -> Story:
    # With the reconciler: the Job of a former size has run already.
    one = long_story("life", fields=servers("8.0"), base="../manifests")
    one.apply()
    one.wait_for_job()
    one.fill(KEYS)
    return one


def servers(tag: str) -> Object:
    return {"images": [{"name": "redis", "newTag": tag}]}


def test_grow_from_six_to_eight(cluster: Story) -> None:
    """A larger size is applied under load, and no write is lost."""
    begun = time.monotonic()
    with cluster.writer("growing") as noticed:
        cluster.apply(replicas=8)
        assert cluster.wait_for_job(seconds=300)["outcome"] == "healthy"
    nothing_noticed(noticed, begun)
    assert cluster.missing() == ""
    assert cluster.keys() == KEYS + noticed["acknowledged"]


def test_shrink_from_eight_to_six(cluster: Story) -> None:
    """The pods that leave are held by their preStop hook until their slots have moved."""
    begun, before = time.monotonic(), cluster.keys()
    with cluster.writer("shrinking") as noticed:
        cluster.apply(replicas=6)
        cluster.wait_until_healthy(seconds=300)
        cluster.k("rollout", "status", "deployment/redis-bootstrap", "--timeout=60s")
    nothing_noticed(noticed, begun)
    assert cluster.keys() == before + noticed["acknowledged"]


def test_other_servers_one_by_one(cluster: Story) -> None:
    """Each primary hands its slots over before it is restarted."""
    begun, before = time.monotonic(), cluster.keys()
    with cluster.writer("updating") as noticed:
        said = cluster.apply(fields=servers("8.6"))
        assert said["statefulset.apps/redis-app"] == "configured"
        cluster.k("rollout", "status", "statefulset/redis-app", "--timeout=300s")
        cluster.wait_until_healthy()
    nothing_noticed(noticed, begun)
    assert "redis_version:8.6" in cluster.cli("redis-app-0", "info", "server")
    assert cluster.keys() == before + noticed["acknowledged"]


def test_all_pods_deleted(cluster: Story) -> None:
    """Primaries wait for their replicas to come back and hand over to them: a rolling restart."""
    begun, before = time.monotonic(), cluster.keys()
    with cluster.writer("deleting") as noticed:
        cluster.k("delete", "pods", "-l", MEMBERS)
        cluster.wait_until_healthy()
    nothing_noticed(noticed, begun)
    assert cluster.keys() == before + noticed["acknowledged"]


def test_all_pods_killed(cluster: Story) -> None:
    """All come back on new addresses at once, and the reconciler introduces them again."""
    survives_an_outage(cluster)


def test_pod_loses_its_volume(cluster: Story) -> None:
    """The empty pod that comes back joins as a replica, and the lost member is forgotten."""
    begun, before = time.monotonic(), cluster.keys()
    with cluster.writer("losing") as noticed:
        cluster.k("delete", "pvc", "redis-data-redis-app-1", "--wait=false")
        cluster.k("delete", "pod", "redis-app-1")
        # Kubernetes creates the pod again once the former claim is gone.
        cluster.wait_until_healthy(seconds=300)
    nothing_noticed(noticed, begun)
    assert cluster.missing() == ""
    assert cluster.keys() == before + noticed["acknowledged"]


def test_grow_again_after_shrinking(cluster: Story) -> None:
    """The volumes of the pods that left are still there, with what they last knew."""
    before = cluster.keys()
    cluster.apply(replicas=8)
    cluster.wait_until_healthy(seconds=300)
    assert cluster.keys() == before


def test_scale_without_a_run(cluster: Story) -> None:
    """After `kubectl scale` alone no slot moves: a pod that is needed waits and says why."""
    before = cluster.keys()
    leaving = ("redis-app-6", "redis-app-7")
    cluster.k("scale", "statefulset/redis-app", "--replicas=6")
    cluster.wait_until(
        lambda: cluster.is_gone_or_held(*leaving), seconds=60, description="gone or held"
    )
    assert "cluster_state:ok" in cluster.cli("redis-app-0", "cluster", "info")
    assert cluster.keys() == before

    cluster.apply(replicas=6)
    cluster.wait_until_healthy(seconds=300)
    assert cluster.keys() == before
