"""The image has the program without the sandbox: what the Dockerfile copies is enough to run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.rendering import ROOT

IMPORT_ALL = (
    "import bootstrap, importlib, pkgutil as p; [importlib.import_module(m.name) for m in "
    "p.walk_packages(bootstrap.__path__, 'bootstrap.') if '__main__' not in m.name]"
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the program as `COPY bootstrap` does."""
    folder = tmp_path_factory.mktemp("image")
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    shutil.copytree(ROOT / "bootstrap", folder / "bootstrap")
    for line in lines:
        if line.startswith("bootstrap/"):
            path = folder / line
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_sandbox_is_left_out(copied: Path) -> None:
    """The image has no module of the sandbox."""
    assert not (copied / "bootstrap/sandbox").exists()
    assert (copied / "bootstrap/cli.py").exists()


def test_every_module_imports_without_the_sandbox(copied: Path) -> None:
    """The image can import each of its modules although the sandbox is missing."""
    assert IMPORT_ALL in (ROOT / "Dockerfile").read_text()
    done = run(copied, "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr


def test_sandbox_command_says_what_to_install(copied: Path) -> None:
    """Without the sandbox, its command names the extra to install."""
    done = run(copied, "-m", "bootstrap", "sandbox", "--log-format", "json")
    assert done.returncode == 2
    last = json.loads(done.stderr.splitlines()[-1])
    assert last["cause"] == "this installation does not include the sandbox"
    assert "redis-cluster-bootstrap[sandbox]" in last["remedy"]


@pytest.mark.parametrize(
    ("working", "expected"),
    [
        (("docker", "podman"), "docker build --tag mine:1 --build-arg A=B ."),
        (("podman", "buildah"), "podman build --tag mine:1 --build-arg A=B ."),
        (("buildah",), "buildah build --tag mine:1 --build-arg A=B ."),
    ],
)
def test_image_is_built_with_the_first_tool_that_works(
    tmp_path: Path, working: tuple[str, ...], expected: str
) -> None:
    """The script takes docker, podman or buildah, whichever works first."""
    for tool in ("docker", "podman", "buildah"):
        answers = f"echo {tool} $*" if tool in working else "exit 1"
        (tmp_path / tool).write_text(f"#!/bin/sh\n{answers}\n")
        (tmp_path / tool).chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts/build-image", ".", "mine:1", "--build-arg", "A=B"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert done.stdout.splitlines()[-1] == expected


def test_base_and_packages_can_come_from_mirrors() -> None:
    """The Dockerfile takes the registry of its base and the package index as arguments."""
    text = (ROOT / "Dockerfile").read_text()
    bases = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
    assert [base.partition("/")[0] for base in bases] == ["${REGISTRY}", "scratch"]
    before, _, after = text.partition("\nFROM ")
    assert "ARG REGISTRY=docker.io/library" in before
    # pip reads the variable; an ARG is one only in the stage that declares it.
    assert "\nARG PIP_INDEX_URL\n" in after.partition("\nFROM ")[0]
