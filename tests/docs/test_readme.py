"""What README.md says is what the program does."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from bootstrap import __version__
from bootstrap.errors import ExitCode
from bootstrap.sandbox.binary import ServerBinary
from docs import generate
from tests.support.rendering import IMAGE
from tests.support.servers import VERSIONS
from tests.support.world import World

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())


def block(mark: str) -> str:
    """Return the fenced block below a mark."""
    match = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert match is not None, mark
    return match[1]


def shape(text: str) -> list[str]:
    """Return the lines without what differs from run to run: numbers and spaces."""
    lines = (re.sub(r"\d+", "0", line).split() for line in text.splitlines())
    return [" ".join(words).replace("redis 0", "valkey 0") for words in lines if words]


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run lines of the README with this interpreter."""
    script = script.replace(".venv/bin/python", sys.executable)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BOOTSTRAP_")}
    return subprocess.run(
        ["bash", "-euc", script],
        check=True,
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_is_short() -> None:
    """README.md stays short enough to be read as a whole."""
    assert len(README.splitlines()) < 200


def test_commands_settings_and_exit_codes_are_those_of_the_code() -> None:
    """`python -m docs.generate` writes them."""
    assert generate.generated(README) == README


def test_the_job_fails_at_once_on_the_codes_that_say_so() -> None:
    """The exit codes that README.md calls final are those of the Job's failure policy."""
    job = yaml.safe_load((ROOT / "manifests/base/redis-bootstrap-job.yaml").read_text())
    rules = job["spec"]["podFailurePolicy"]["rules"]
    codes = next(r["onExitCodes"]["values"] for r in rules if r["action"] == "FailJob")
    assert codes == [int(c) for c in ExitCode if generate.EXIT_CODES[c][1] == "fails at once"]


def test_help_names_every_exit_code() -> None:
    """The help of `run` lists each exit code of the program."""
    shown = shell(".venv/bin/python -m bootstrap --help").stdout
    epilog = re.sub(r"\s+", " ", shown).partition("Exit codes:")[2]
    assert [int(code) for code in re.findall(r"\d+", epilog)] == [int(code) for code in ExitCode]


def test_paths_in_commands_exist() -> None:
    """Every path in a command of README.md exists in the repository."""
    paths = re.findall(r"(?:-k|--config) (?!'https:)(\S+)", README)
    assert len(paths) >= 3
    assert [path for path in paths if not (ROOT / path.rstrip("`")).exists()] == []


def test_image_has_the_version_of_the_program() -> None:
    """README.md names the image as the manifests do, with the version of the package."""
    images = set(re.findall(r"\S*redis-cluster-bootstrap:[\d.]+\d", README))
    assert images == {f"{IMAGE}:{__version__}"}


def test_tested_versions_are_those_of_the_tests() -> None:
    """README.md claims the server versions that the tests run on."""
    claimed = re.search(r"^Tested with Redis (.*) and Valkey (.*?), on", README, re.MULTILINE)
    assert claimed is not None
    names = [f"redis-{version}" for version in claimed[1].split(", ")]
    names += [f"valkey-{version}" for version in claimed[2].split(", ")]
    assert tuple(names) == VERSIONS
    assert tuple(WORKFLOW["jobs"]["server"]["strategy"]["matrix"]["server"]) == VERSIONS


def test_tested_pythons_are_those_of_the_package() -> None:
    """README.md claims the versions of Python that the package declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = WORKFLOW["jobs"]["python"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={pythons[0]}"
    classifier = "Programming Language :: Python :: "
    named = [c.removeprefix(classifier) for c in project["classifiers"] if "3." in c]
    assert named == pythons
    assert f"Python {pythons[0]} to {pythons[-1]}" in README


def test_changelog_has_the_version_of_the_program() -> None:
    """The CHANGELOG has a section for the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.*?)\]", changelog, re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]


@pytest.mark.redis
@pytest.mark.usefixtures("server")
def test_demo_prints_what_is_shown() -> None:
    """The demo prints the table that README.md shows."""
    dry = subprocess.run(
        ["make", "-n", "--no-print-directory", "demo", "ARGS=--exit"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    printed = shell(dry.stdout.splitlines()[-1]).stdout
    assert shape(printed) == shape(block("output: make demo ARGS=--exit")), printed


@pytest.mark.redis
def test_commands_for_named_servers_run(server: ServerBinary) -> None:
    """The commands that README.md gives for servers by name work as they stand there."""
    with World(nodes=6, server=server) as world:
        world.start()
        hosts = ",".join(f"{pod.address}:{pod.port}" for pod in world.pods)
        printed = shell(block("runs"), HOSTS=hosts).stdout
    start = printed.index("\n{") + 1
    status, _ = json.JSONDecoder().raw_decode(printed[start:])
    assert status["healthy"]
    assert "next: form" in printed[:start]
