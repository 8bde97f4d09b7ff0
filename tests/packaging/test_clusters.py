"""Several clusters, and a plain Redis, in one namespace: nothing of one selects another's pods."""

import base64
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.rendering import ROOT, Object, Render, Rendered, only, pod_of

Write = Callable[..., Path]
WORKLOADS = {"StatefulSet", "Deployment", "Job"}
TOGETHER = ["auth", "metrics", "network-policy", "tls"]
COMPONENTS = [["external-nodeport"], ["host-network"], ["nodeport"], ["single"], TOGETHER]
NAMES: list[Object] = [
    {"namePrefix": "eu-"},
    {"nameSuffix": "-eu"},
    {
        "namePrefix": "eu-",
        "labels": [{"pairs": {"app.kubernetes.io/instance": "eu"}, "includeSelectors": True}],
    },
]


def selectors(value: object, path: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every label selector in an object, and where it stands."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "matchLabels" or (key == "selector" and path == "Service.spec"):
                if "matchLabels" not in one:
                    yield path, one
            else:
                yield from selectors(one, f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from selectors(one, path)


def all_selectors(objects: Rendered) -> list[tuple[str, dict[str, str]]]:
    found = [pair for one in objects for pair in selectors(one, one["kind"])]
    return [(where, labels) for where, labels in found if "namespaceSelector" not in where]


def pod_labels(objects: Rendered) -> dict[str, dict[str, str]]:
    pods = {}
    for one in objects:
        if one["kind"] in WORKLOADS:
            name = one["metadata"]["name"]
            index = {"apps.kubernetes.io/pod-index": "0"} if one["kind"] == "StatefulSet" else {}
            pods[f"{one['kind']}/{name}"] = {**pod_of(one)["metadata"]["labels"], **index}
    return pods


@pytest.mark.parametrize("components", COMPONENTS, ids="-".join)
@pytest.mark.parametrize("naming", NAMES, ids="-".join)
def test_clusters_do_not_select_each_others_pods(
    overlay: Render, naming: Object, components: list[str]
) -> None:
    """In one namespace, each selector matches the pods of its own cluster only."""
    fields: Object = {
        "resources": "../manifests",
        "components": [f"../manifests/components/{name}" for name in components],
    }
    one, other = overlay(**fields), overlay(**fields, **naming)
    names = [{(o["kind"], o["metadata"]["name"]) for o in objects} for objects in (one, other)]
    assert not names[0] & names[1]
    for mine, theirs in ((one, other), (other, one)):
        assert all_selectors(mine)
        for where, selector in all_selectors(mine):
            for pod, labels in pod_labels(theirs).items():
                assert not selector.items() <= labels.items(), f"{where} selects {pod}"


@pytest.mark.parametrize("naming", NAMES, ids="-".join)
def test_selectors_find_the_pods_of_their_own_cluster(overlay: Render, naming: Object) -> None:
    """No selector is left that finds nothing."""
    fields: Object = {
        "resources": "../manifests",
        "components": [f"../manifests/components/{name}" for name in TOGETHER],
    }
    objects = overlay(**fields, **naming)
    pods = [*pod_labels(objects).values(), {"app": "single-redis"}]
    for where, selector in all_selectors(objects):
        if selector.get("app") == "single-redis":  # the policy of a component that is not used
            continue
        assert any(selector.items() <= labels.items() for labels in pods), f"{where} {selector}"


def test_prefix_is_followed_everywhere(overlay: Render) -> None:
    """Names, labels, Secrets, the Service that pods ask DNS for: nothing of the first is left."""
    objects = overlay(
        resources="../manifests",
        namePrefix="eu-",
        components=[f"../manifests/components/{name}" for name in TOGETHER],
    )
    statefulset = only(objects, "StatefulSet")
    pod = pod_of(statefulset)["spec"]
    sources = [
        source["secret"]["name"]
        for one in objects
        if one["kind"] in WORKLOADS
        for volume in pod_of(one)["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]
    assert set(sources) == {"eu-redis-auth", "eu-redis-tls"}
    env = {e["name"]: e for c in pod["containers"] for e in c["env"]}
    assert env["SERVICE"]["value"] == statefulset["spec"]["serviceName"] == "eu-redis-service"
    assert env["REDIS_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "eu-redis-auth"
    for one in objects:
        assert one["metadata"]["name"].startswith("eu-")
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "eu-redis-cluster"


@pytest.mark.parametrize("naming", [{}, *NAMES], ids="-".join)
def test_services_of_external_members_select_one_pod_each(overlay: Render, naming: Object) -> None:
    """The ports of each pod follow its ordinal, however the cluster is called."""
    objects = overlay(components=["../manifests/components/external-nodeport"], **naming)
    labels = pod_of(only(objects, "StatefulSet"))["metadata"]["labels"]
    found = {}
    for service in (o for o in objects if o["kind"] == "Service"):
        selector = dict(service["spec"]["selector"])
        if ordinal := selector.pop("apps.kubernetes.io/pod-index", ""):
            assert selector.items() <= labels.items()
            found[ordinal] = {port["nodePort"] for port in service["spec"]["ports"]}
    assert found == {str(n): {30100 + n, 30200 + n} for n in range(6)}


def test_clients_need_one_label_only(overlay: Render) -> None:
    """Labels that an overlay adds to selectors are not asked of applications."""
    objects = overlay(
        components=["../manifests/components/network-policy"],
        labels=[{"pairs": {"app.kubernetes.io/instance": "eu"}, "includeSelectors": True}],
    )
    policy = only(objects, "NetworkPolicy", "redis-app")
    clients = [
        peer["podSelector"]
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        if "matchExpressions" in peer.get("podSelector", {})
    ]
    expression = {"key": "redis-client", "operator": "In", "values": ["true"]}
    assert clients == [{"matchExpressions": [expression]}]


def test_pods_of_the_recipe_are_still_selected(overlay: Render) -> None:
    """Pods of the recipe have two labels and no named port, and clients must still reach them."""
    recipe = {"app": "redis", "appCluster": "redis-cluster"}
    for service in (o for o in overlay() if o["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= recipe.items()


@pytest.mark.parametrize("naming", [{}, *NAMES[:2]], ids="-".join)
def test_scripts_make_the_secrets_that_the_pods_mount(overlay: Render, naming: Object) -> None:
    """The scripts for Secrets have an option for each way to name a second cluster."""
    objects = overlay(
        components=[f"../manifests/components/{n}" for n in ("auth", "tls")], **naming
    )
    mounted = {
        source["secret"]["name"]
        for volume in pod_of(only(objects, "StatefulSet"))["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    }
    label = only(objects, "StatefulSet")["metadata"]["labels"]["app.kubernetes.io/instance"]
    options = [word for key, value in naming.items() for word in (f"--{key[4:].lower()}", value)]
    secrets = [
        yaml.safe_load(subprocess.check_output([ROOT / "scripts" / script, *options], text=True))
        for script in ("auth-secret", "tls-secret")
    ]
    assert {secret["metadata"]["name"] for secret in secrets} == mounted
    assert {secret["metadata"]["labels"]["app.kubernetes.io/instance"] for secret in secrets} == {
        label
    }
    certificate = base64.b64decode(secrets[1]["data"]["tls.crt"]).decode()
    names = subprocess.check_output(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=certificate, text=True
    )
    assert f"DNS:*.{only(objects, 'StatefulSet')['spec']['serviceName']}.default.svc," in names
