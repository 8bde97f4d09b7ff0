"""Applications that must not start before the cluster is healthy."""

import json
from collections.abc import Callable

import yaml

from tests.support.story import Object, Story, image


def application(story: Story, name: str) -> Object:
    """Return a Deployment that waits for six healthy members first."""
    pod = story.pod(name, ["/app/bin/python", "-c", "import time; time.sleep(3600)"])["spec"]
    wait = {
        **pod["containers"][0],
        "name": "wait-for-redis",
        "command": ["/app/bin/redis-cluster-bootstrap", "wait"],
        "env": [
            {"name": "BOOTSTRAP_NODES", "value": "6"},
            {
                "name": "BOOTSTRAP_NAMESPACE",
                "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
            },
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name, "redis-client": "true"}},
                "spec": {**pod, "restartPolicy": "Always", "initContainers": [wait]},
            },
        },
    }


def test_application_waits_for_the_cluster(new_story: Callable[..., Story]) -> None:
    """An application that starts with the cluster waits for it, and then reads and writes."""
    story = new_story("applications")
    story.k("apply", "-f", "-", stdin=yaml.safe_dump(application(story, "before")))
    waiting = "--for=jsonpath={.status.initContainerStatuses[0].started}=true"
    story.k("wait", "pod", "-l", "app=before", "--for=create", "--timeout=30s")
    story.k("wait", "pod", "-l", "app=before", waiting, "--timeout=60s")

    story.apply()
    story.k("apply", "-f", "-", stdin=yaml.safe_dump(application(story, "with")))
    for name in ("before", "with"):
        story.k("wait", f"deployment/{name}", "--for=condition=Available", "--timeout=180s")
    assert story.missing() == ""

    story.k("apply", "-f", "-", stdin=yaml.safe_dump(application(story, "after")))
    story.k("wait", "deployment/after", "--for=condition=Available", "--timeout=60s")
    pod = json.loads(story.k("get", "pods", "-l", "app=after", "-o", "json"))["items"][0]
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert image() in pod["spec"]["initContainers"][0]["image"]
