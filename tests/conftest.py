"""Servers for tests that need one: the embedded one, and every other that is installed here."""

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.errors import SandboxError
from tests.support import servers
from tests.support.servers import VERSIONS

EMBEDDED = "embedded"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no worker is left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def server() -> ServerBinary:
    """The server that the sandbox command takes by default."""
    try:
        return find_server()
    except SandboxError as error:
        pytest.skip(f"{error.problem}: {error.remedy}")


@pytest.fixture(scope="session")
def installed() -> Mapping[str, str]:
    """Paths of the servers of other versions that are on this machine, by name."""
    return servers.installed()


@pytest.fixture(scope="session", params=[*VERSIONS, EMBEDDED])
def every_server(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """Each of the installed servers; the embedded one where there is no other."""
    name = request.param
    if name == EMBEDDED:
        if installed:
            pytest.skip("the embedded server is one of the installed versions")
        embedded: ServerBinary = request.getfixturevalue("server")
        return embedded
    if name not in installed:
        pytest.skip(f"{name} is not installed: run scripts/get-servers")
    return find_server(installed[name])


@pytest.fixture
def only_sandbox() -> Iterator[None]:
    """No other test has a sandbox that takes orders: one from another terminal finds the newest."""
    path = Path(tempfile.gettempdir()) / f"only-sandbox-{os.getuid()}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
