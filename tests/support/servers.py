"""The real servers that tests and benchmarks run on: where they are, and which there are.

`scripts/get-servers` fetches them into the folder that the variable TEST_SERVERS names.
"""

import os
from collections.abc import Mapping
from pathlib import Path

VERSIONS = (
    "redis-6.2",
    "redis-7.0",
    "redis-8.0",
    "redis-8.2",
    "redis-8.6",
    "valkey-8.1",
    "valkey-9.1",
)


def folder() -> Path:
    """Return the folder that has NAME/server, and NAME/cli where there is one, of each server."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TEST_SERVERS") or Path(cache) / "redis-servers").absolute()


def installed() -> Mapping[str, str]:
    """Return the paths of the servers that are there, by name."""
    paths = {name: folder() / name / "server" for name in VERSIONS}
    return {name: str(path) for name, path in paths.items() if os.access(path, os.X_OK)}
