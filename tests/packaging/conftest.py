"""Overlays of one's own, and a word where nothing can be rendered."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.rendering import MANIFESTS, Render, Rendered, render


@pytest.fixture(scope="session", autouse=True)
def _kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl renders the manifests, and it is not here")


@pytest.fixture
def overlay(tmp_path: Path) -> Render:
    """Render an overlay of one's own, given as the lines of its kustomization.yaml."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")

    def rendered(
        *, resources: str = "../manifests/base", transformers: bool = True, **fields: object
    ) -> Rendered:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        content: dict[str, object] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [resources],
            **fields,
        }
        if transformers:
            content["transformers"] = ["../manifests/transformers"]
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return render(folder)

    return rendered
