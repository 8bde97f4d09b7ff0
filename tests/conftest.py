"""Servers for tests that need one: the embedded one, and every other that is installed here."""

import fcntl
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.errors import SandboxError

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = (
    "redis-6.2",
    "redis-7.0",
    "redis-8.0",
    "redis-8.2",
    "redis-8.6",
    "valkey-8.1",
    "valkey-9.1",
)
EMBEDDED = "embedded"
_GET_TIMEOUT_S = 900


@pytest.fixture(scope="session")
def server() -> ServerBinary:
    """The server that the sandbox command takes by default."""
    try:
        return find_server()
    except SandboxError as error:
        pytest.skip(f"{error.problem}: {error.remedy}")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Paths of the servers that `../shared/servers/get` knows, by name; asked once a test run."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    listing = shared / "servers"
    with (shared / "servers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not listing.exists():
            listing.write_text(_ask())
    lines = (line.split() for line in listing.read_text().splitlines())
    return {words[0]: words[2] for words in lines}


def _ask() -> str:
    get = Path(os.environ.get("SHARED", ROOT.parent / "shared")) / "servers" / "get"
    if not os.access(get, os.X_OK):
        return ""
    return subprocess.run(
        [get, *VERSIONS], capture_output=True, text=True, timeout=_GET_TIMEOUT_S, check=False
    ).stdout


@pytest.fixture(scope="session", params=[*VERSIONS, EMBEDDED])
def every_server(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """Each of the installed servers; the embedded one where there is no other."""
    name = request.param
    if name == EMBEDDED:
        if installed:
            pytest.skip("the embedded server is one of the installed versions")
        return request.getfixturevalue("server")
    if name not in installed:
        pytest.skip(f"{name} is not installed: run ../shared/servers/get")
    return find_server(installed[name])
