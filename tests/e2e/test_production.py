"""`overlays/production` from nothing, under a client that writes with its password over TLS.

It has passwords, TLS, metrics, network policies and the reconciler together. The tests stand in the
order of its life, each goes on where the one before ended.
"""

import os
import re
import time
from collections.abc import Callable, Sequence

import pytest
import yaml

from tests.support.story import Story, kubectl, nothing_noticed, script, survives_an_outage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "E2E_EXPORTER_IMAGE" not in os.environ,
        reason="E2E_EXPORTER_IMAGE names no image of redis_exporter (tests/e2e/exporter/build)",
    ),
]
KEYS = 1000
# Prints what each address answers. A new pod is known to the network policies only after a moment.
FETCH = """
import sys, time, urllib.request
for url in sys.argv[1:]:
    for left in reversed(range(60)):
        try:
            print(urllib.request.urlopen(url, timeout=2).read().decode())
            break
        except OSError:
            time.sleep(0.5) if left else sys.exit(f"no answer: {url}")
"""
# Prints the ports of an address that can be reached, once one can that was named as such.
KNOCK = """
import socket, sys, time
host, *ports = sys.argv[1:]
def is_open(port):
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True
for _ in range(60):
    if not ports[0] or is_open(ports[0]):
        break
    time.sleep(0.5)
print(*[port for port in ports[1:] if is_open(port)])
"""


@pytest.fixture(scope="module")
def cluster(long_story: Callable[..., Story]) -> Story:
    name, _, tag = os.environ["E2E_EXPORTER_IMAGE"].rpartition(":")
    exporter = {"name": "oliver006/redis_exporter", "newName": name, "newTag": tag}
    story = long_story("production", fields={"images": [exporter]})
    story.base = "../manifests/overlays/production"
    story.k("apply", "-f", "-", stdin=script("auth-secret"))
    story.k("apply", "-f", "-", stdin=script("tls-secret", story.namespace))
    return story


def scrape(story: Story, addresses: Sequence[str]) -> list[dict[str, float]]:
    """Return the metrics at each address, as a pod in the namespace of Prometheus sees them."""
    urls = [f"http://{address}/metrics" for address in addresses]
    pod = story.pod("scraper", ["/app/bin/python", "-c", FETCH, *urls])
    namespace = kubectl("create", "namespace", "monitoring", "--dry-run=client", "-o", "yaml")
    kubectl("apply", "-f", "-", stdin=namespace)
    in_monitoring = ("-n", "monitoring")
    kubectl(*in_monitoring, "apply", "-f", "-", stdin=yaml.safe_dump(pod))
    ended = "--for=jsonpath={.status.phase}=Succeeded"
    kubectl(*in_monitoring, "wait", "pod/scraper", ended, "--timeout=60s")
    text = kubectl(*in_monitoring, "logs", "scraper")
    kubectl(*in_monitoring, "delete", "pod", "scraper", "--wait=false")
    return [
        {name: float(value) for name, value in re.findall(r"(?m)^(\w+(?:\{.*\})?) (\S+)$", one)}
        for one in text.split("\n\n")
        if one.strip()
    ]


def test_first_apply(cluster: Story) -> None:
    """Two Secrets and one command make a healthy cluster."""
    begun = time.monotonic()
    cluster.apply()
    assert cluster.wait_for_job()["outcome"] == "healthy"
    print(f"\nhealthy {time.monotonic() - begun:.1f} s after the first apply")
    assert cluster.missing() == ""
    cluster.fill(KEYS)


def test_a_scrape_shows_the_cluster(cluster: Story) -> None:
    """The exporter logs in over TLS, and the reconciler says that the cluster is healthy.

    Network policies admit only the namespace of Prometheus to both.
    """
    [reconciler] = cluster.pods("app.kubernetes.io/component=reconcile")
    addresses = [f"{pod['status']['podIP']}:9121" for pod in cluster.pods()]
    *each, ours = scrape(cluster, [*addresses, f"{reconciler['status']['podIP']}:9102"])
    assert [one["redis_up"] for one in each] == [1] * 6
    assert [one["redis_cluster_state"] for one in each] == [1] * 6
    keys = sum(
        value
        for one in each
        for name, value in one.items()
        if name.startswith("redis_db_keys{") and one["redis_connected_slaves"]
    )
    assert keys == KEYS
    assert ours["redis_cluster_bootstrap_healthy"] == 1


@pytest.mark.skipif(
    "E2E_POLICIES" not in os.environ, reason="E2E_POLICIES does not say that they are enforced"
)
@pytest.mark.parametrize("is_client", [True, False])
def test_other_pods_reach_nothing(cluster: Story, is_client: bool) -> None:  # noqa: FBT001 - a case
    """A pod with the label of applications reaches the client port alone, any other pod nothing."""
    address = cluster.pods()[0]["status"]["podIP"]
    ports = ["6379", "16379", "9121"]
    name = "client" if is_client else "stranger"
    awaited = "6379" if is_client else ""
    pod = cluster.pod(name, ["/app/bin/python", "-c", KNOCK, address, awaited, *ports])
    pod["metadata"]["labels"] = {"redis-client": str(is_client).lower()}
    cluster.k("apply", "-f", "-", stdin=yaml.safe_dump(pod))
    ended = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.k("wait", f"pod/{name}", ended, "--timeout=60s")
    assert cluster.k("logs", name).split() == (["6379"] if is_client else [])
    cluster.k("delete", "pod", name, "--wait=false")


def test_larger_and_smaller_again(cluster: Story) -> None:
    """Keys move with passwords, over TLS, and no write fails."""
    begun = time.monotonic()
    with cluster.writer("resizing") as noticed:
        for replicas in (8, 6):
            cluster.apply(replicas=replicas)
            cluster.wait_until_healthy(seconds=180)
    nothing_noticed(noticed, begun)
    assert cluster.keys() == KEYS + noticed["acknowledged"]


def test_rolling_restart(cluster: Story) -> None:
    """Each primary hands its slots over before it is restarted."""
    begun, before = time.monotonic(), cluster.keys()
    with cluster.writer("restarting") as noticed:
        cluster.k("rollout", "restart", "statefulset/redis-app")
        cluster.k("rollout", "status", "statefulset/redis-app", "--timeout=300s")
        cluster.wait_until_healthy(seconds=180)
    nothing_noticed(noticed, begun)
    assert cluster.keys() == before + noticed["acknowledged"]


def test_outage(cluster: Story) -> None:
    """All pods come back on new addresses at once, and the reconciler repairs the cluster."""
    survives_an_outage(cluster)
