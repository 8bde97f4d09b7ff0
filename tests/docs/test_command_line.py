"""What docs/command-line.md says about completion is what the program does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[2] / "docs/command-line.md").read_text()
PROGRAM = Path(sys.executable).parent / "redis-cluster-bootstrap"
SHELLS = re.findall(r"^\| (\w+) \| `.*?(_\w+)=(\w+) redis-cluster-bootstrap", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("shell", "variable", "value"), SHELLS)
def test_completion_is_printed_for_each_shell(shell: str, variable: str, value: str) -> None:
    """The program prints the completion script of every shell that is documented."""
    assert value == f"{shell}_source"
    done = subprocess.run(
        [PROGRAM], env={**os.environ, variable: value}, capture_output=True, text=True, check=False
    )
    assert f"{shell}_complete" in done.stdout, done.stderr


def test_three_shells_are_documented() -> None:
    """The shells with completion are bash, zsh and fish."""
    assert [shell for shell, _, _ in SHELLS] == ["bash", "zsh", "fish"]
