"""The runbooks that take a cluster over from others, followed to the letter under a client.

The commands and the overlay are those of the documents, in their order; each test continues where
the one before ended.
"""

import json
import os
import re
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.story import ROOT, Story, kubectl

pytestmark = pytest.mark.slow
OTHERS = Path(__file__).parent / "others"
PASSWORD = "hunter2-of-the-shop"
KEYS = 3000
Begin = Callable[..., Story]


@dataclass
class Reader:
    """A person who follows a runbook, with the namespace as kubectl's current one."""

    story: Story
    document: str
    environment: dict[str, str] = field(default_factory=dict)
    blocks: Iterator[tuple[str, str]] = field(init=False)
    written: int = KEYS

    def __post_init__(self) -> None:
        text = (ROOT / "docs/runbooks" / self.document).read_text()
        marked = r"^ *<!-- (runs|mine/kustomization.yaml) -->\n( *```\w+\n.*?) *```$"
        self.blocks = iter(
            [
                (m[1], textwrap.dedent(m[2]).partition("\n")[2])
                for m in re.finditer(marked, text, re.DOTALL | re.MULTILINE)
            ]
        )
        self.folder = self.story.folder
        (self.folder / "mine").mkdir()
        (self.folder / "scripts").symlink_to(ROOT / "scripts")
        config = self.folder / "kubeconfig"
        config.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
        self.environment |= {**os.environ, "KUBECONFIG": str(config)}
        self.run(f"kubectl config set-context --current --namespace={self.story.namespace}")

    def run(self, commands: str) -> str:
        """Run commands in the folder that has the manifests."""
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def follow(self) -> str:
        """Do what the document says up to the end of its next commands."""
        kind, block = next(self.blocks)
        if kind != "runs":
            (self.folder / "mine/kustomization.yaml").write_text(block)
            kind, block = next(self.blocks)
        assert kind == "runs"
        return self.run(block)

    @contextmanager
    def client(self, name: str, **how: str) -> Iterator[None]:
        """Write meanwhile: a client must notice nothing, and the cluster must have every key."""
        begun = time.monotonic()
        with self.story.writer(name, **how) as noticed:
            yield
            seconds = time.monotonic() - begun
        print(f"\n{name}: {seconds:.1f} s; {noticed}")
        assert noticed["acknowledged"] > 0
        assert (noticed["failed"], noticed["lost"]) == (0, 0), noticed["errors"]
        self.written += noticed["acknowledged"]


def small(story: Story) -> None:
    """Let the pods of the manifests ask for less: other tests share the machine."""
    file = story.folder / "manifests/base/redis-app.yaml"
    text = file.read_text().replace("cpu: 100m", "cpu: 10m").replace("256Mi", "32Mi", 1)
    file.write_text(text)


def create(story: Story, pods: list[str], *password: str) -> None:
    """Join the pods by hand, as the toolbox does, and write some keys."""
    found = json.loads(story.k("get", "pods", "-o", "json"))["items"]
    address = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in found}
    members = [f"{address[pod]}:6379" for pod in pods]
    hand = ("exec", pods[0], "--", "redis-cli", *password)
    replicas = ("--cluster-replicas", "1", "--cluster-yes")
    story.k(*hand, "--cluster", "create", *members, *replicas)
    story.wait_until(lambda: "cluster_state:ok" in story.k(*hand, "cluster", "info"))
    time.sleep(1)
    pairs = "".join(f"set data:{n} {n}\n" for n in range(KEYS))
    story.k("exec", "-i", pods[0], "--", "redis-cli", "-c", *password, stdin=pairs)


# --- the toolbox recipe


@pytest.fixture(scope="module")
def recipe(long_story: Begin) -> Reader:
    story = long_story("toolbox")
    label = "pod-security.kubernetes.io/enforce=privileged"
    kubectl("label", "namespace", story.namespace, label, "--overwrite")
    small(story)
    story.k("apply", "-f", OTHERS / "toolbox.yaml")
    story.k("rollout", "status", "statefulset/redis-app", "--timeout=180s")
    create(story, [f"redis-app-{n}" for n in range(6)])
    story.wait_until_healthy()
    assert story.keys() == KEYS
    # 30010 can be given once: the recipe's Service has what was free.
    service = json.loads(story.k("get", "service", "redis-access-service", "-o", "json"))
    port = service["spec"]["ports"][0]["nodePort"]
    file = story.folder / "manifests/components/nodeport/redis-access-service.yaml"
    file.write_text(file.read_text().replace("30010", str(port)))
    return Reader(story, "toolbox.md")


def claims(story: Story) -> dict[str, str]:
    """Return the volume of each claim."""
    found = json.loads(story.k("get", "pvc", "-o", "json"))["items"]
    return {one["metadata"]["name"]: one["spec"]["volumeName"] for one in found}


def test_job_alone_on_pods_of_the_toolbox_recipe(recipe: Reader) -> None:
    """The program changes nothing of a healthy cluster, and repairs an outage of all pods."""
    story, before = recipe.story, recipe.story.uids()
    with recipe.client("job"):
        said = recipe.follow()
    assert "healthy" in said
    words = story.last_words(jobs(story)[0])
    assert (words["outcome"], words["write_commands"]) == ("healthy", 0)
    assert story.uids() == before

    begun = time.monotonic()
    story.k("delete", "pods", "-l", "app=redis", "--force", "--grace-period=0")
    story.wait_until_healthy(seconds=180)
    print(f"\nhealthy again by itself after {time.monotonic() - begun:.1f} s")
    assert story.keys() == recipe.written


def jobs(story: Story) -> list[str]:
    """Return the names of the Jobs, the newest last."""
    found = json.loads(story.k("get", "jobs", "-o", "json"))["items"]
    found.sort(key=lambda job: str(job["metadata"]["creationTimestamp"]))
    return [job["metadata"]["name"] for job in found]


def test_apply_at_once_is_refused(recipe: Reader) -> None:
    """The API refuses the StatefulSet, the node port is closed, and clients notice nothing."""
    story, before = recipe.story, recipe.story.uids()
    with recipe.client("at-once"):
        said = story.k("apply", "-k", story.folder / "manifests", check=False)
        story.wait_for_job(jobs(story)[-1])
    assert "updates to statefulset spec for fields other than" in said
    assert story.uids() == before
    service = json.loads(story.k("get", "service", "redis-access-service", "-o", "json"))["spec"]
    assert (service["type"], service["ports"][0].get("nodePort")) == ("ClusterIP", None)


def test_pods_of_the_toolbox_recipe_are_replaced(recipe: Reader) -> None:
    """One by one, with their volumes, and a client notices nothing."""
    story, old, before = recipe.story, recipe.story.uids(), claims(recipe.story)
    ids = {m.node_id for m in story.views()["redis-app-0"]}
    with recipe.client("replaced"):
        said = recipe.follow()
        assert "statefulset.apps/redis-app created" in said
        assert story.uids() == old
        recipe.follow()
        story.wait_until_healthy()
    assert not set(story.uids().values()) & set(old.values())
    assert claims(story) == before
    assert {m.node_id for m in story.views()["redis-app-0"]} == ids
    assert story.keys() == recipe.written


def test_former_pods_of_the_toolbox_recipe_run_without_root(recipe: Reader) -> None:
    """The last step is a rolling update that a client does not notice."""
    story = recipe.story
    with recipe.client("without-root"):
        recipe.follow()
        story.wait_until_healthy()
    assert story.keys() == recipe.written
    for pod in story.pods():
        assert "initContainers" not in pod["spec"]
        name = pod["metadata"]["name"]
        assert story.k("exec", name, "-c", "redis", "--", "id", "-u").strip() == "999"
        assert story.k("exec", name, "-c", "redis", "--", "find", "/data", "-user", "0") == ""
    service = json.loads(story.k("get", "service", "redis-access-service", "-o", "json"))["spec"]
    file = story.folder / "manifests/components/nodeport/redis-access-service.yaml"
    assert f"nodePort: {service['ports'][0]['nodePort']}" in file.read_text()


# --- Bitnami's chart


@pytest.fixture(scope="module")
def chart(long_story: Begin) -> Reader:
    story = long_story("bitnami")
    small(story)
    story.k("apply", "-f", OTHERS / "bitnami.yaml")
    story.k("rollout", "status", "statefulset/shop-redis-cluster", "--timeout=180s")
    create(story, [f"shop-redis-cluster-{n}" for n in range(6)], "-a", PASSWORD)
    helm = story.folder / "bin/helm"
    helm.parent.mkdir()
    helm.write_text(
        f'#!/bin/sh\n[ "$*" = "uninstall shop" ] && kubectl delete -f {OTHERS}/bitnami.yaml\n'
    )
    helm.chmod(0o755)
    path = f"{helm.parent}:{os.environ['PATH']}"
    reader = Reader(story, "bitnami.md")
    reader.environment["PATH"] = path
    return reader


def test_job_alone_on_pods_of_the_chart(chart: Reader) -> None:
    """The program logs in with the password of the release, and changes nothing."""
    story = chart.story
    with chart.client("job", host="shop-redis-cluster", password=PASSWORD):
        assert "healthy" in chart.follow()
    words = story.last_words(jobs(story)[0])
    assert (words["outcome"], words["write_commands"]) == ("healthy", 0)


def test_pods_of_both_are_one_cluster(chart: Reader) -> None:
    """Twelve members: three primaries of the release, and two new replicas for each."""
    story = chart.story
    chart.follow()
    with chart.client("joining", host="shop-redis-cluster", password=PASSWORD):
        said = chart.follow()
    assert "healthy" in said
    members = story.views()["redis-app-0"]
    assert len(members) == 12
    ours = {pod["status"]["podIP"] for pod in story.pods()}
    new = [m for m in members if m.address.partition(":")[0] in ours]
    assert not any(m.is_primary for m in new)


def test_pods_of_the_chart_leave(chart: Reader) -> None:
    """Slots and data are on the new pods; nothing is left of the release but its claims."""
    story = chart.story
    with chart.client("leaving", password=PASSWORD):
        chart.follow()
    with chart.client("without-the-chart", password=PASSWORD):
        chart.follow()
        story.wait_until_healthy()
    assert story.keys() == chart.written
    assert "NotFound" in story.k("get", "statefulset", "shop-redis-cluster", check=False)
    assert {name for name in claims(story) if "shop" in name} == {
        f"redis-data-shop-redis-cluster-{n}" for n in range(6)
    }
