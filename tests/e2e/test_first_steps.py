"""From an empty namespace to a proven cluster, with one command."""

import json
import time
from collections.abc import Callable

import pytest

from tests.support.story import JOBS, MEMBERS, Story

VERSIONS = "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}"


@pytest.fixture(scope="module")
def cluster(long_story: Callable[..., Story]) -> Story:
    begun = time.monotonic()
    one = long_story("first-steps")
    one.apply()
    one.wait_for_job()
    print(f"\nfrom apply to healthy: {time.monotonic() - begun:.1f} s")
    return one


def test_apply_makes_a_healthy_cluster(cluster: Story) -> None:
    """One `kubectl apply -k` makes a healthy cluster."""
    assert cluster.missing() == ""


def test_job_says_at_the_end_what_it_did(cluster: Story) -> None:
    """The same words end the log and stand in the pod's termination message."""
    words = cluster.last_words()
    assert (words["outcome"], words["exit_code"]) == ("healthy", 0)
    log = cluster.k("logs", f"job/{cluster.job()}").splitlines()
    completed = next(line for line in log[-2:] if line.startswith("{"))  # the other is for people
    logged = json.loads(completed)
    assert words.pop("schema_version") == 1
    assert {key: logged[key] for key in words} == words
    print(f"\n{words}")


def test_second_apply_changes_nothing(cluster: Story) -> None:
    """Of every object but one kubectl says `unchanged`, and that one does not change either.

    It sends the selector of a PodDisruptionBudget with every apply, and so says `configured`.
    """
    before = cluster.k("get", "statefulset,service,pdb,deployment,configmap", "-o", VERSIONS)
    said = cluster.apply()
    assert said.pop("poddisruptionbudget.policy/redis-app") == "configured"
    assert set(said.values()) == {"unchanged"}
    assert len(said) == 6
    assert (
        cluster.k("get", "statefulset,service,pdb,deployment,configmap", "-o", VERSIONS) == before
    )


def test_primary_and_replica_are_in_different_zones(cluster: Story) -> None:
    """No shard has its primary and its replica in one zone."""
    zone = {
        node["metadata"]["name"]: node["metadata"]["labels"].get("topology.kubernetes.io/zone")
        for node in json.loads(cluster.k("get", "nodes", "-o", "json"))["items"]
    }
    where = {
        pod["status"]["podIP"]: (pod["spec"]["nodeName"], zone[pod["spec"]["nodeName"]])
        for pod in cluster.pods()
    }
    members = cluster.views()["redis-app-0"]
    place = {m.node_id: where[m.address.rpartition(":")[0]] for m in members}
    if len(set(where.values())) < 2:
        pytest.skip("one node")
    for replica in (m for m in members if not m.is_primary):
        assert place[replica.node_id] != place[replica.primary]


def test_run_by_hand_finds_nothing_to_do(cluster: Story) -> None:
    """A second run on a healthy cluster sends no write command."""
    words = cluster.wait_for_job(cluster.run_again())
    assert (words["outcome"], words["write_commands"]) == ("healthy", 0)
    assert words["duration_s"] < 5


def test_job_has_no_token_and_is_no_member(cluster: Story) -> None:
    """The Job's pod has no service account token, and the Service does not select it."""
    for pod in cluster.pods(JOBS) + cluster.pods(MEMBERS):
        assert not [v for v in pod["spec"].get("volumes", []) if "projected" in v]
    members = json.loads(cluster.k("get", "endpointslices", "-o", "json"))["items"]
    addresses = {a for s in members for e in s["endpoints"] for a in e["addresses"]}
    assert not addresses & {pod["status"].get("podIP") for pod in cluster.pods(JOBS)}


def test_another_size_is_another_job(cluster: Story) -> None:
    """After a change of the size, the same command creates another Job."""
    before = cluster.job()
    said = cluster.apply(replicas=8)
    assert cluster.job() != before
    assert said[f"job.batch/{cluster.job()}"] == "created"
    assert said["statefulset.apps/redis-app"] == "configured"
