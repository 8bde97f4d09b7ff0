"""What other tools say about the files that are not Python; each where the tool is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.rendering import ROOT


def output(tool: str, *arguments: str | Path) -> str:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not here")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


def is_shell(path: Path) -> bool:
    """Return whether the first line names a shell."""
    return path.read_text().partition("\n")[0].endswith("sh")


def test_scripts_are_clean() -> None:
    """Shellcheck finds nothing in the scripts."""
    scripts = [
        *(ROOT / "manifests/base/scripts").glob("*.sh"),
        *(path for path in (ROOT / "scripts").iterdir() if is_shell(path)),
        ROOT / ".ci/run",
        ROOT / "tests/e2e/exporter/build",
        ROOT / "tests/e2e/exporter/entrypoint",
    ]
    assert output("shellcheck", "-x", "-P", "SCRIPTDIR", *scripts) == ""


def test_dockerfile_is_clean() -> None:
    """Hadolint finds nothing in the Dockerfile."""
    assert output("hadolint", ROOT / "Dockerfile") == ""


def test_workflows_are_clean() -> None:
    """Actionlint finds nothing in the workflows."""
    assert output("actionlint", *(ROOT / ".github/workflows").glob("*.yaml")) == ""


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("Servers come from one directory\n\nThe reason.\n", ""),
        (f"{'x' * 72}\n# a comment of git\n", ""),
        (f"{'x' * 73}\n", "73 characters"),
        ("It ends with a period.\n", "period"),
        ("No line between\nthem\n", "empty line"),
        ("\n", "empty"),
    ],
)
def test_commit_subjects_are_checked(tmp_path: Path, message: str, fault: str) -> None:
    """The hook says what is wrong with a commit message."""
    file = tmp_path / "message"
    file.write_text(message)
    done = subprocess.run(
        [ROOT / "scripts/check-subject", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == bool(fault)
    assert fault in done.stderr
