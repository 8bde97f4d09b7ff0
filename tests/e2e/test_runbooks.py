"""The runbooks that take a cluster over from others, followed to the letter under a client.

The commands and the overlay are those of the documents, in their order; each test continues where
the one before ended.
"""

import json
import os
import re
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.story import ROOT, Object, Story, kubectl

OTHERS = Path(__file__).parent / "others"
PASSWORD = "hunter2-of-the-shop"
KEYS = 3000
Begin = Callable[..., Story]


@dataclass
class Reader:
    """A person who follows a runbook, with the namespace as kubectl's current one."""

    story: Story
    document: str
    environment: dict[str, str] = field(default_factory=dict)
    blocks: Iterator[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        text = (ROOT / "docs/runbooks" / self.document).read_text()
        marked = r"^ *<!-- (runs|mine/kustomization.yaml) -->\n( *```\w+\n.*?) *```$"
        self.blocks = iter(
            [
                (m[1], textwrap.dedent(m[2]).partition("\n")[2])
                for m in re.finditer(marked, text, re.DOTALL | re.MULTILINE)
            ]
        )
        self.folder = self.story.folder
        (self.folder / "mine").mkdir()
        (self.folder / "scripts").symlink_to(ROOT / "scripts")
        config = self.folder / "kubeconfig"
        config.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
        self.environment |= {**os.environ, "KUBECONFIG": str(config)}
        self.run(f"kubectl config set-context --current --namespace={self.story.namespace}")

    def run(self, commands: str) -> str:
        """Run commands in the folder that has the manifests."""
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def follow(self) -> str:
        """Do what the document says up to the end of its next commands."""
        kind, block = next(self.blocks)
        if kind != "runs":
            (self.folder / "mine/kustomization.yaml").write_text(block)
            kind, block = next(self.blocks)
        assert kind == "runs"
        return self.run(block)
