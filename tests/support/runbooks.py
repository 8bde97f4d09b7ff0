"""The blocks of the runbooks that tests follow, and how they are followed."""

import re
import subprocess
import sys
from collections.abc import Mapping

from tests.support import rig


def block(name: str, mark: str = "runs") -> str:
    """Return the commands below a mark of a runbook, for this interpreter."""
    text = (rig.ROOT / "docs/runbooks" / name).read_text()
    match = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match is not None, mark
    return match[1].replace(".venv/bin/python", sys.executable)


def follow(
    commands: str, variables: Mapping[str, str], *, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run the commands of a block from the root of the repository."""
    return subprocess.run(
        ["bash", "-euc", commands],
        env=rig.environment(variables),
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
