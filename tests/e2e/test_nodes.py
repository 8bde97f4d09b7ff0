"""What happens to machines: they are drained, and they die."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.story import Story, kubectl

pytestmark = pytest.mark.machines
KEYS = 500


@pytest.fixture(scope="module")
def cluster(long_story: Callable[..., Story]) -> Story:
    one = long_story("nodes")
    one.apply()
    one.wait_for_job()
    one.fill(KEYS)
    return one


@pytest.fixture
def node(cluster: Story) -> Iterator[str]:
    """Choose the node of the highest ordinal that is no control plane."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    masters = "node-role.kubernetes.io/control-plane"
    workers = {n["metadata"]["name"] for n in nodes if masters not in n["metadata"]["labels"]}
    pods = sorted(cluster.pods(), key=lambda pod: pod["metadata"]["name"])
    chosen = [p["spec"]["nodeName"] for p in pods if p["spec"]["nodeName"] in workers]
    if not chosen:
        pytest.skip("no worker has a member")
    yield chosen[-1]
    kubectl("uncordon", chosen[-1])


def test_drain_takes_one_member_at_a_time(cluster: Story, node: str) -> None:
    """Volumes stay on their node here: no second member may go while the first is away."""
    with cluster.writer("draining") as noticed:
        kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
                "--pod-selector=app=redis", "--timeout=30s", check=False)  # fmt: skip
        running = [p for p in cluster.pods() if p["status"]["phase"] == "Running"]
        assert len(running) == 5
        kubectl("uncordon", node)
        cluster.wait_until_healthy()
    print(f"\n{noticed}")
    assert (noticed["failed"], noticed["lost"]) == (0, 0), noticed["errors"]


def machine(action: str, node: str) -> None:
    """Run the command that this environment has for it, such as `docker stop {name}`."""
    command = os.environ[f"E2E_NODE_{action}"]
    number = re.sub(r"\D", "", node)
    subprocess.run(command.format(name=node, number=number).split(), check=True, timeout=300)


@pytest.mark.skipif("E2E_NODE_DOWN" not in os.environ, reason="E2E_NODE_DOWN names no command")
def test_node_dies_and_comes_back(cluster: Story, node: str) -> None:
    """The others go on without it; when it is back, one run makes all healthy."""
    here = {p["metadata"]["name"] for p in cluster.pods() if p["spec"]["nodeName"] == node}
    survivor = next(f"redis-app-{n}" for n in range(6) if f"redis-app-{n}" not in here)
    begun = time.monotonic()
    machine("DOWN", node)

    def goes_on() -> bool:
        information = cluster.cli(survivor, "cluster", "info", check=False)
        failed = cluster.cli(survivor, "cluster", "nodes", check=False).count("fail")
        return "cluster_state:ok" in information and failed >= len(here)

    cluster.wait_until(goes_on, seconds=60, description="failed over")
    print(f"\nwithout {sorted(here)} after {time.monotonic() - begun:.1f} s")
    machine("UP", node)
    kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=120s")
    cluster.k("rollout", "status", "statefulset/redis-app", "--timeout=180s")
    back = time.monotonic()
    assert cluster.wait_for_job(cluster.run_again("after-node"))["outcome"] == "healthy"
    print(f"whole {time.monotonic() - back:.1f} s after it was back")
    assert cluster.missing() == ""
    assert cluster.keys() >= KEYS
