"""A Job cannot be changed, so what changes its settings must change its name."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.support.rendering import (
    COMPONENTS,
    IMAGE,
    KUBECTL,
    MANIFESTS,
    Object,
    Render,
    Rendered,
    only,
    pod_of,
    render,
    settings_of,
)

Write = Callable[..., Path]

PROGRAM = "registry.example.com/team/redis-cluster-bootstrap"
CHANGES: list[Object] = [
    {"replicas": [{"name": "redis-app", "count": 8}]},
    {"images": [{"name": IMAGE, "newName": PROGRAM, "newTag": "9"}]},
    {"namePrefix": "eu-"},
    {"namespace": "shop"},
    {
        "configMapGenerator": [
            {
                "name": "redis-bootstrap",
                "behavior": "merge",
                "literals": ["BOOTSTRAP_REPLICAS=2"],
            }
        ]
    },
]
BASES = ["../manifests", "../manifests/base", "../manifests/overlays/production"]


def job_name(objects: Rendered) -> str:
    name: str = only(objects, "Job")["metadata"]["name"]
    return name


def container_of(objects: Rendered, kind: str) -> Object:
    container: Object = pod_of(only(objects, kind, "redis-bootstrap"))["spec"]["containers"][0]
    return container


def test_job_is_named_after_its_settings() -> None:
    """The name of the Job ends with a hash of its settings."""
    objects = render(MANIFESTS)
    name = job_name(objects)
    assert name.startswith("redis-bootstrap-")
    assert name == only(objects, "ConfigMap", "redis-bootstrap-")["metadata"]["name"]
    for kind in ("Job", "Deployment"):
        settings = [{"configMapRef": {"name": name}}]
        assert container_of(objects, kind)["envFrom"] == settings


def test_settings_follow_the_statefulset() -> None:
    """The Job's settings have the size and the names of the rendered StatefulSet."""
    objects = render(MANIFESTS)
    settings = settings_of(objects)
    statefulset = only(objects, "StatefulSet")
    assert settings["BOOTSTRAP_NODES"] == str(statefulset["spec"]["replicas"]) == "6"
    assert settings["BOOTSTRAP_STATEFULSET"] == statefulset["metadata"]["name"] == "redis-app"
    assert settings["BOOTSTRAP_SERVICE"] == statefulset["spec"]["serviceName"] == "redis-service"
    assert settings["JOB_IMAGE"] == container_of(objects, "Job")["image"]


def test_same_input_gives_the_same_name() -> None:
    """Rendering twice gives the same Job."""
    assert job_name(render(MANIFESTS)) == job_name(render(MANIFESTS))


def test_reconciler_keeps_its_name_and_runs_the_same_image() -> None:
    """The Deployment keeps its name when settings change, and has the image of the Job."""
    objects = render(MANIFESTS)
    assert only(objects, "Deployment")["metadata"]["name"] == "redis-bootstrap"
    assert container_of(objects, "Deployment")["image"] == container_of(objects, "Job")["image"]


def test_edit_in_place_is_carried(tmp_path: Path) -> None:
    """Whoever edits the number in redis-app.yaml itself needs nothing else."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    statefulset = tmp_path / "manifests/base/redis-app.yaml"
    statefulset.write_text(statefulset.read_text().replace("  replicas: 6\n", "  replicas: 8\n"))
    objects = render(tmp_path / "manifests")
    assert settings_of(objects)["BOOTSTRAP_NODES"] == "8"
    assert job_name(objects) != job_name(render(MANIFESTS))


def check_chain(write: Write, base: str, program: Sequence[str]) -> None:
    """Stack one overlay for each change, and find all of them in what the topmost renders."""
    before = job_name(render(write(resources=base), program))
    for number, change in enumerate(CHANGES):
        folder = write(resources=base, name=str(number), **change)
        base = f"../{folder.name}"
    objects = render(folder, program)
    settings = settings_of(objects)
    assert settings["BOOTSTRAP_NODES"] == "8"
    assert settings["BOOTSTRAP_REPLICAS"] == "2"
    assert settings["BOOTSTRAP_STATEFULSET"] == "eu-redis-app"
    assert settings["BOOTSTRAP_SERVICE"] == "eu-redis-service"
    assert settings["JOB_IMAGE"] == f"{PROGRAM}:9"
    statefulset = only(objects, "StatefulSet")
    assert statefulset["metadata"]["name"] == "eu-redis-app"
    assert statefulset["spec"]["replicas"] == 8
    assert statefulset["spec"]["serviceName"] == "eu-redis-service"
    assert {one["metadata"].get("namespace") for one in objects} == {"shop"}
    name = job_name(objects)
    assert name.startswith("eu-redis-bootstrap-")
    assert name.rpartition("-")[2] != before.rpartition("-")[2]
    workloads = [one for one in objects if one["kind"] in ("Job", "Deployment")]
    for one in workloads:
        container = pod_of(one)["spec"]["containers"][0]
        assert container["image"] == f"{PROGRAM}:9"
        assert container["envFrom"] == [{"configMapRef": {"name": name}}]


@pytest.mark.parametrize("base", BASES)
def test_stacked_overlays_carry_everything(write_overlay: Write, base: str) -> None:
    """Five overlays, each on the one before, and not a line about how settings are carried."""
    check_chain(write_overlay, base, KUBECTL)


@pytest.mark.parametrize("base", BASES)
def test_stacked_overlays_carry_everything_in_other_versions(
    write_overlay: Write, base: str, other_kustomize: Sequence[str]
) -> None:
    """Other versions of kustomize carry settings through stacked overlays as well."""
    check_chain(write_overlay, base, other_kustomize)


@pytest.mark.parametrize("change", CHANGES[:2] + CHANGES[4:], ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("base", BASES)
def test_every_change_is_another_job(overlay: Render, base: str, change: Object) -> None:
    """Each change of a setting gives the Job another name."""
    assert job_name(overlay(resources=base, **change)) != job_name(overlay(resources=base))


@pytest.mark.parametrize("component", COMPONENTS)
def test_another_pod_is_another_job(component: str, overlay: Render) -> None:
    """A component that changes the Job's pod changes its name, or the next apply is refused."""
    without, found = overlay(), overlay(components=[f"../manifests/components/{component}"])
    if pod_of(only(found, "Job")) != pod_of(only(without, "Job")):
        assert job_name(found) != job_name(without)


def test_image_of_the_servers_does_not_run_the_job_again(overlay: Render) -> None:
    """Another server image leaves the name of the Job as it is."""
    assert job_name(overlay(images=[{"name": "redis", "newTag": "8.0"}])) == job_name(overlay())


def test_digest_of_an_image_is_carried(overlay: Render) -> None:
    """An image that is given by digest is used by digest in every pod."""
    digest = f"sha256:{'5' * 64}"
    objects = overlay(images=[{"name": IMAGE, "digest": digest}])
    assert settings_of(objects)["JOB_IMAGE"].endswith(f"@{digest}")
    assert job_name(objects) != job_name(overlay())


def test_revision_runs_the_job_again(overlay: Render) -> None:
    """Another value of the revision gives the Job another name."""
    merged = {"name": "redis-bootstrap", "behavior": "merge", "literals": ["JOB_REVISION=2"]}
    assert job_name(overlay(configMapGenerator=[merged])) != job_name(overlay())


@pytest.mark.parametrize(
    "file", sorted(yaml.safe_load((MANIFESTS / "base/kustomization.yaml").read_text())
                   ["configMapGenerator"][0]["files"]),
)  # fmt: skip
def test_change_of_any_file_changes_the_pods(overlay: Render, file: str) -> None:
    """A changed file has another name, so `rollout undo` finds the former one."""
    name = Path(file).name
    merged = {"name": "redis-conf", "behavior": "merge", "literals": [f"{name}=# another\n"]}
    before, after = overlay(), overlay(configMapGenerator=[merged])
    names = [only(objects, "ConfigMap", "redis-conf-")["metadata"]["name"] for objects in
             (before, after)]  # fmt: skip
    assert names[0] != names[1]
    for objects, expected in zip((before, after), names, strict=True):
        volumes = pod_of(only(objects, "StatefulSet"))["spec"]["volumes"]
        assert {"name": "redis-conf", "configMap": {"name": expected}} in volumes
