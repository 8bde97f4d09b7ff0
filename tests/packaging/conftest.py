"""Overlays that a test writes, rendered by every kustomize that is installed here."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.support.rendering import KUBECTL, MANIFESTS, OTHERS, Render, Rendered, render

Write = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl renders the manifests, and it is not installed")


@pytest.fixture(
    params=[*map(pytest.param, OTHERS)]
    or [pytest.param(None, marks=pytest.mark.skip(reason="KUSTOMIZE names no other kustomize"))],
    ids=lambda program: "-".join(Path(program[0]).parts[-2:]) if program else "others",
)
def other_kustomize(request: pytest.FixtureRequest) -> Sequence[str]:
    """Another kustomize than the one in kubectl, of each version that KUSTOMIZE names."""
    program: Sequence[str] = request.param
    return program


@pytest.fixture(scope="session")
def beside_manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the manifests, to write overlays beside."""
    folder = tmp_path_factory.mktemp("overlays")
    shutil.copytree(MANIFESTS, folder / "manifests")
    return folder


@pytest.fixture
def write_overlay(beside_manifests: Path, tmp_path: Path) -> Write:
    """Write the kustomization.yaml of an overlay beside `manifests`, and return its folder."""

    def write(
        *, resources: str = "../manifests/base", name: str = "mine", **fields: object
    ) -> Path:
        folder = beside_manifests / f"{tmp_path.name}-{name}"
        folder.mkdir(exist_ok=True)
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [resources],
            **fields,
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return folder

    return write


@pytest.fixture
def overlay(write_overlay: Write) -> Render:
    """Render an overlay beside `manifests`, given as the fields of its kustomization.yaml."""

    def rendered(program: Sequence[str] = KUBECTL, **fields: object) -> Rendered:
        return render(write_overlay(**fields), program)

    return rendered
