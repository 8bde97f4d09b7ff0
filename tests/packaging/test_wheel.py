"""The wheel, in an environment of its own as pip and pipx make one."""

import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

from bootstrap import __version__
from tests.support.rendering import ROOT

pytest.importorskip("hatchling")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What a package index and pip read."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of an environment with the wheel; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "--quiet", "install", "--no-deps",
         "--no-index", "--disable-pip-version-check", wheel],
        check=True,
    )  # fmt: skip
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / "bin" / name, *arguments],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip

    return program


def test_wheel_has_the_command(run: Run) -> None:
    """The command of the installed wheel prints its help and its version."""
    assert "Usage: redis-cluster-bootstrap" in run("redis-cluster-bootstrap", "--help").stdout
    assert __version__ in run("redis-cluster-bootstrap", "--version").stdout


def test_wheel_is_what_runs(run: Run) -> None:
    """The program of the environment is that of the wheel, with all its modules."""
    code = (
        "import bootstrap, importlib, pkgutil as p; [importlib.import_module(m.name) for m in "
        "p.walk_packages(bootstrap.__path__, 'bootstrap.') if '__main__' not in m.name]; "
        "print(bootstrap.__file__)"
    )
    assert "/environment" in run("python", "-c", code).stdout


def test_wheel_says_what_it_is(metadata: Message) -> None:
    """The metadata have the version, the licence, the text of README.md, and addresses."""
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    names = {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])}
    assert names == {"Homepage", "Documentation", "Changelog", "Issues"}


def test_addresses_name_one_repository() -> None:
    """All addresses of the project are below the one that a release names."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())


def test_wheel_has_the_schemas(wheel: Path) -> None:
    """The JSON Schemas are in the wheel, and files of the repository's own work are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sum("/schemas/v1/" in name for name in names) == len(
        list((ROOT / "docs/schemas/v1").iterdir())
    )
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {
        "bootstrap", "redis_cluster_bootstrap",
    }  # fmt: skip
