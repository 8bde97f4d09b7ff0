"""redis.conf and the scripts of the ConfigMap, on every server that is installed here."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.rendering import MANIFESTS

pytestmark = pytest.mark.redis
NAMES = (
    "redis-6.2", "redis-7.0", "redis-8.0", "redis-8.2", "redis-8.6", "valkey-8.1", "valkey-9.1",
)  # fmt: skip
POD = "redis-app-0.redis-service.shop.svc.cluster.local"
HUMAN = ("cluster-announce-human-nodename", "zone-a/node-1")
ZONE = ("availability-zone", "zone-a")
KNOWN = {
    "redis-6.2": [],
    "redis-7.0": [("cluster-announce-hostname", POD)],
    "redis-8.0": [("cluster-announce-hostname", POD), HUMAN],
    "redis-8.2": [("cluster-announce-hostname", POD), HUMAN],
    "redis-8.6": [("cluster-announce-hostname", POD), HUMAN],
    "valkey-8.1": [("cluster-announce-hostname", POD), HUMAN, ZONE],
    "valkey-9.1": [("cluster-announce-hostname", POD), HUMAN, ZONE],
}


def free_port() -> int:
    """Return a port whose bus port (10000 more) is free as well."""
    while True:
        with socket.socket() as client, socket.socket() as bus:
            client.bind(("127.0.0.1", 0))
            port = client.getsockname()[1]
            if port < 55000:
                bus.bind(("127.0.0.1", port + 10000))
                return int(port)


class Pod:
    """A folder that looks to the scripts as a container does."""

    def __init__(self, folder: Path, name: str, server: str) -> None:
        self.folder, self.conf, self.port = folder, folder / "conf", free_port()
        kind = name.partition("-")[0]
        home = Path(server).parent
        # A server that came without a command line is asked with another one's.
        clis = (home / "cli", *sorted(home.parent.glob(f"{kind}-*/cli")))
        cli = next((cli for cli in clis if cli.exists()), None)
        if cli is None:
            pytest.skip(f"{name} came without a command line")
        programs = {f"{kind}-server": server, f"{kind}-cli": cli, "hostname": f"echo {POD} #"}
        (folder / "bin").mkdir(parents=True)
        for program, real in programs.items():
            shim = folder / "bin" / program
            line = real if str(real).startswith("echo") else f'exec {real} "$@"'
            shim.write_text(f"#!/bin/sh\n{line}\n")
            shim.chmod(0o755)
        self.conf.mkdir()
        shutil.copy(MANIFESTS / "base/redis.conf", self.conf)
        for script in (MANIFESTS / "base/scripts").glob("*.sh"):
            shutil.copy(script, self.conf)
        (self.conf / "z-test.conf").write_text(f"port {self.port}\n")
        (folder / "data").mkdir()
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "POD_NAME": "redis-app-0",
            "POD_IP": "127.0.0.1",
            "NODE_NAME": "node-1",
            "ZONE": "zone-a",
            "MEMORY_LIMIT": str(100 << 20),
            "REDIS_PORT": str(self.port),
            "REDIS_CREDENTIALS": str(folder / "auth"),
            "PRESTOP_HOLD_SECONDS": "5",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server as the container does, and wait until it is ready."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", self.conf / "start.sh"],
                cwd=self.folder / "data", env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while self.script("probe.sh", "ready").returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts."""
        return subprocess.run(
            ["sh", self.conf / name, *arguments],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def ask(self, *command: str) -> str:
        """Ask the server as the scripts do."""
        inside = f'. {self.conf}/lib.sh; here={self.conf}; here_ask "$@"'
        return subprocess.run(
            ["sh", "-c", inside, f"{self.conf}/x", *command],
            env=self.environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


@pytest.fixture(params=NAMES)
def pod(
    request: pytest.FixtureRequest, installed: Mapping[str, str], tmp_path: Path
) -> Iterator[Callable[[], Pod]]:
    name: str = request.param
    if name not in installed:
        pytest.skip(f"{name} is not here")
    made = Pod(tmp_path / "pod", name, installed[name])
    made.environment["NAME"] = name
    yield lambda: made
    if made.process:
        made.process.kill()
        made.process.wait()


def test_server_starts_with_what_it_knows(pod: Callable[[], Pod]) -> None:
    one = pod()
    one.start()
    for option, value in KNOWN[one.environment["NAME"]]:
        assert one.ask("config", "get", option).split() == [option, value]
    assert one.ask("config", "get", "maxmemory").split()[1] == str((100 << 20) * 3 // 5)
    assert "cluster_enabled:1" in one.ask("info", "cluster")
    assert one.process is not None
    shell = Path(f"/proc/{one.process.pid}/cmdline").read_bytes()
    assert b"start.sh" not in shell  # the server took the shell's place, and gets its signals


def test_pod_without_slots_goes_at_once(pod: Callable[[], Pod]) -> None:
    one = pod()
    one.start()
    begun = time.monotonic()
    done = one.script("prestop.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - begun < 2
    assert one.ask("config", "get", "replica-priority").split()[1] == "0"


def test_pod_with_slots_is_held(pod: Callable[[], Pod]) -> None:
    one = pod()
    one.start()
    assert one.ask("cluster", "addslots", "1", "2", "3").strip() == "OK"
    begun = time.monotonic()
    done = one.script("prestop.sh")
    assert time.monotonic() - begun > 4
    assert "with the slots it has" in done.stdout


def test_either_of_two_passwords_will_do(pod: Callable[[], Pod]) -> None:
    """While passwords change, the file has the new and the old one, a server maybe only one."""
    one = pod()
    (one.folder / "auth").mkdir()
    (one.folder / "auth/bootstrap-password").write_text("new\nold")
    users = one.folder / "users.acl"
    users.write_text("user default off\nuser bootstrap on >old ~* -@all +ping +cluster\n")
    (one.conf / "auth.conf").write_text(f"aclfile {users}\n")
    one.start()
    assert "myself" in one.ask("cluster", "nodes")


def test_unanswering_server_is_not_ready(pod: Callable[[], Pod]) -> None:
    one = pod()
    for wanted in ("ready", "alive"):
        done = one.script("probe.sh", wanted)
        assert done.returncode == 1
        assert "refused" in done.stdout
