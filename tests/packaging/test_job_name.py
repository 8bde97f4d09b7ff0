"""A Job cannot be changed, so what changes its settings must change its name."""

import pytest

from tests.support.rendering import MANIFESTS, Render, Rendered, only, pod_of, render


def settings(objects: Rendered) -> dict[str, str]:
    return only(objects, "ConfigMap", "redis-bootstrap-")["data"]


def job_name(objects: Rendered) -> str:
    return only(objects, "Job")["metadata"]["name"]


def test_job_is_named_after_its_settings() -> None:
    objects = render(MANIFESTS)
    name = job_name(objects)
    assert name.startswith("redis-bootstrap-")
    assert name == only(objects, "ConfigMap", "redis-bootstrap-")["metadata"]["name"]
    for kind in ("Job", "CronJob"):
        container = pod_of(only(objects, kind))["spec"]["containers"][0]
        assert container["envFrom"] == [{"configMapRef": {"name": name}}]


def test_job_runs_for_the_size_and_names_of_the_statefulset() -> None:
    objects = render(MANIFESTS)
    told = settings(objects)
    statefulset = only(objects, "StatefulSet")
    assert told["BOOTSTRAP_NODES"] == str(statefulset["spec"]["replicas"]) == "6"
    assert told["BOOTSTRAP_STATEFULSET"] == statefulset["metadata"]["name"] == "redis-app"
    assert told["BOOTSTRAP_SERVICE"] == statefulset["spec"]["serviceName"] == "redis-service"


def test_same_input_gives_the_same_name() -> None:
    assert job_name(render(MANIFESTS)) == job_name(render(MANIFESTS))


def test_cronjob_keeps_its_name() -> None:
    assert only(render(MANIFESTS), "CronJob")["metadata"]["name"] == "redis-bootstrap"


def test_replicas_of_an_overlay_reach_the_job(overlay: Render) -> None:
    objects = overlay(replicas=[{"name": "redis-app", "count": 10}])
    assert settings(objects)["BOOTSTRAP_NODES"] == "10"
    assert job_name(objects) != job_name(overlay())


def test_image_of_an_overlay_reaches_the_job(overlay: Render) -> None:
    where = "registry.example.com/team/redis-cluster-bootstrap"
    objects = overlay(images=[{"name": "redis-cluster-bootstrap", "newName": where}])
    image = pod_of(only(objects, "Job"))["spec"]["containers"][0]["image"]
    assert image.startswith(where + ":")
    assert settings(objects)["JOB_IMAGE"] == image
    assert pod_of(only(objects, "CronJob"))["spec"]["containers"][0]["image"] == image
    assert job_name(objects) != job_name(overlay())


@pytest.mark.parametrize("resources", ["../manifests", "../manifests/base"])
def test_overlay_may_stand_on_the_base_or_on_the_whole(overlay: Render, resources: str) -> None:
    objects = overlay(resources=resources, replicas=[{"name": "redis-app", "count": 8}])
    assert settings(objects)["BOOTSTRAP_NODES"] == "8"


def test_image_of_the_servers_does_not_run_the_job_again(overlay: Render) -> None:
    assert job_name(overlay(images=[{"name": "redis", "newTag": "8.0"}])) == job_name(overlay())


def test_revision_runs_the_job_again(overlay: Render) -> None:
    merged = {"name": "redis-bootstrap", "behavior": "merge", "literals": ["JOB_REVISION=2"]}
    objects = overlay(configMapGenerator=[merged])
    assert settings(objects)["JOB_REVISION"] == "2"
    assert job_name(objects) != job_name(overlay())


def test_prefix_is_followed(overlay: Render) -> None:
    objects = overlay(namePrefix="eu-")
    told = settings_of(objects, "eu-redis-bootstrap-")
    assert (
        told["BOOTSTRAP_STATEFULSET"]
        == only(objects, "StatefulSet")["metadata"]["name"]
        == "eu-redis-app"
    )
    assert (
        told["BOOTSTRAP_SERVICE"]
        == only(objects, "StatefulSet")["spec"]["serviceName"]
        == "eu-redis-service"
    )
    assert job_name(objects).startswith("eu-redis-bootstrap-")


def settings_of(objects: Rendered, name: str) -> dict[str, str]:
    return only(objects, "ConfigMap", name)["data"]


def test_overlay_without_the_transformers_is_told_so(overlay: Render) -> None:
    assert (
        settings(overlay(transformers=False))["BOOTSTRAP_NODES"]
        == "the-kustomization-lacks-the-transformers"
    )


def test_change_of_redis_conf_changes_the_pods(overlay: Render) -> None:
    file = {"name": "redis-conf", "behavior": "merge", "literals": ["redis.conf=port 6379\n"]}
    file["options"] = {"disableNameSuffixHash": True}
    annotation = pod_of(only(overlay(configMapGenerator=[file]), "StatefulSet"))["metadata"][
        "annotations"
    ]
    assert annotation["redis.conf"] == "port 6379\n"
    assert (
        only(overlay(configMapGenerator=[file]), "ConfigMap", "redis-conf")["metadata"]["name"]
        == "redis-conf"
    )
