"""This repository as somebody who clones it gets it: the files that git knows, at one tag."""

import shutil
import subprocess
from pathlib import Path

from tests.support.rendering import ROOT


def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository, and return what it prints."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def tagged(folder: Path, tag: str = "") -> Path:
    """Copy the files of this repository, as they are now, into a new one, and return it."""
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "tests")
    git(folder, "config", "user.email", "tests@example.com")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All files")
    if tag:
        git(folder, "tag", tag)
    return folder
