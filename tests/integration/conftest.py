"""The servers on which the hard cases are tried."""

from collections.abc import Mapping

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server

WAYS = ("redis-7.0", "redis-8.6", "valkey-9.1")


@pytest.fixture(params=WAYS)
def way_server(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """One server for each way to move slots: MIGRATE, Redis' own and Valkey's own.

    The embedded server stands for Valkey where no other is installed.
    """
    if request.param in installed:
        return find_server(installed[request.param])
    if request.param == "valkey-9.1":
        server: ServerBinary = request.getfixturevalue("server")
        return server
    pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
