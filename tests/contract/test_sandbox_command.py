"""The sandbox command: servers on loopback, shown, and gone afterwards."""

import os
import re
import select
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import rig

pytestmark = pytest.mark.redis


def is_listening(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def servers_at(addresses: list[str]) -> list[int]:
    """Return a pidfd of each server; its address may be that of another test's, once it is gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            title = path.read_text()
            if any(f" {address}:6379" in title for address in addresses):
                found.append(os.pidfd_open(int(path.parent.name)))
    return found


@pytest.mark.usefixtures("server")
def test_exit_shows_the_status_and_ends() -> None:
    """`sandbox --exit` prints the cluster's status and exits 0, with no server left."""
    result = rig.run({}, "sandbox", "--exit", timeout_s=180)
    assert result.code == 0, result.stderr
    addresses = re.findall(r"(127(?:\.\d+){3}):(\d+)", result.stdout)
    assert len(addresses) == 6
    assert all(f"redis-app-{ordinal}" in result.stdout for ordinal in range(6))
    assert not any(is_listening(address, int(port)) for address, port in addresses)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_servers(number: signal.Signals) -> None:
    """The sandbox runs until Ctrl-C, and leaves no server behind."""
    with rig.started({}, "sandbox", "--nodes", "3", "--replicas", "0") as running:
        lines = []
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        addresses = re.findall(r"(127(?:\.\d+){3}):6379", "".join(lines))
        assert len(addresses) == 3, lines
        assert all(is_listening(address, 6379) for address in addresses)
        servers = servers_at(addresses)
        assert len(servers) == 3
        running.send_signal(number)
        running.communicate(timeout=60)
    assert running.returncode == 0
    for server in servers:
        assert select.select([server], [], [], 0)[0], "a server is left"
        os.close(server)


@pytest.mark.usefixtures("server")
def test_ctrl_c_while_it_starts() -> None:
    """Stopped in the middle it ends as a stopped run does."""
    with rig.started({}, "sandbox") as running:
        assert running.stderr is not None
        assert any('"run.started"' in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 143, stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "args", [("--nodes", "2"), ("--nodes", "six"), ("--server", "/nonexistent/redis-server")]
)
def test_faults_exit_2(args: tuple[str, ...]) -> None:
    """A sandbox that cannot be is a fault of the settings."""
    try:
        result = rig.run({}, "sandbox", *args, timeout_s=60)
    except subprocess.TimeoutExpired:
        pytest.fail("it did not end")
    assert result.code == 2
    assert "Traceback" not in result.stderr
