"""The manifests as kustomize renders them."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
ENTRY_POINTS = [".", "overlays/kind", "overlays/production"]
COMPONENTS = sorted(folder.name for folder in (MANIFESTS / "components").iterdir())

Object = dict[str, Any]  # a Kubernetes object as YAML gives it
Rendered = list[Object]
Render = Callable[..., Rendered]


def render(folder: Path) -> Rendered:
    """Return the objects that `kubectl apply -k folder` would apply."""
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(objects: Iterable[Object], kind: str, name: str = "") -> Object:
    """Return the one object of this kind whose name begins like this."""
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].startswith(name)]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


def pod_of(workload: Object) -> Object:
    """Return the pod template of a workload."""
    spec = workload["spec"]
    return spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
