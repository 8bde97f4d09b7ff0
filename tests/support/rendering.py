"""The manifests as kustomize renders them."""

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
ENTRY_POINTS = [".", "overlays/kind", "overlays/production"]
COMPONENTS = sorted(folder.name for folder in (MANIFESTS / "components").iterdir())

KUBECTL = ("kubectl", "kustomize")


def _image() -> tuple[str, str]:
    text = (MANIFESTS / "base/kustomization.yaml").read_text()
    entry = next(
        one for one in yaml.safe_load(text)["images"] if one["name"] == "redis-cluster-bootstrap"
    )
    return entry.get("newName", entry["name"]), entry["newTag"]


# How an overlay names the image of the program; a release puts a registry in front of it.
IMAGE, IMAGE_TAG = _image()


def _other(program: str) -> tuple[str, str]:
    return program, "kustomize" if Path(program).name == "kubectl" else "build"


# Programs to render with beside the kubectl of PATH: "/opt/5.0.0/kustomize /opt/1.36/kubectl".
OTHERS = [_other(program) for program in os.environ.get("KUSTOMIZE", "").split()]

Object = dict[str, Any]  # a Kubernetes object as YAML gives it
Rendered = list[Object]
Render = Callable[..., Rendered]


def load_all(text: str) -> Rendered:
    """Return the objects of a YAML stream; libyaml reads it ten times as fast as PyYAML does."""
    return list(yaml.load_all(text, yaml.CSafeLoader))


def try_to_render(
    folder: Path, program: Sequence[str] = KUBECTL
) -> subprocess.CompletedProcess[str]:
    """Run kustomize, and return how it ended."""
    return subprocess.run([*program, folder], capture_output=True, text=True, check=False)


def render(folder: Path, program: Sequence[str] = KUBECTL) -> Rendered:
    """Return the objects that `kubectl apply -k folder` would apply."""
    done = try_to_render(folder, program)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return load_all(done.stdout)


def only(objects: Iterable[Object], kind: str, name: str = "") -> Object:
    """Return the one object of this kind whose name begins like this."""
    found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].startswith(name)]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


def pod_of(workload: Object) -> Object:
    """Return the pod template of a workload."""
    template: Object = workload["spec"]["template"]
    return template


def settings_of(objects: Rendered) -> dict[str, str]:
    """Return the settings of the Job and the reconciler."""
    found = [o["data"] for o in objects if o["kind"] == "ConfigMap" and "JOB_IMAGE" in o["data"]]
    (settings,) = found
    return dict(settings)
