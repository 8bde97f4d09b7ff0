"""The reconciler as a process, seen over HTTP as a kubelet and Prometheus see it."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from tests.support import rig
from tests.support.world import World

POLL_S = 0.1


@dataclass(frozen=True)
class Reconciling:
    """A reconciler that runs.

    Attributes:
        process: Its process.
        log: Its stderr.
        port: Where it serves.
    """

    process: Popen[str]
    log: Path
    port: int

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body; 0 where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_until(self, *, ready: bool, timeout_s: float = 60.0) -> float:
        """Wait until it is ready, or is not, and return for how many seconds."""
        began = time.monotonic()
        while (status := self.get("/readyz"))[0] != (200 if ready else 503):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - began < timeout_s, (status, self.log.read_text())
            time.sleep(POLL_S)
        return time.monotonic() - began

    def metric(self, name: str) -> float:
        """Return the value of a metric without labels, or with these."""
        lines = self.get("/metrics")[1].splitlines()
        line = next(line for line in lines if line.startswith(f"redis_cluster_bootstrap_{name} "))
        return float(line.rpartition(" ")[2])

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the log events of this name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]


def free_port() -> int:
    """Return a port of 127.0.0.1 where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def reconciling(
    world: World, tmp_path: Path, *, name: str = "reconcile", replicas: int = 1, **more: str
) -> Iterator[Reconciling]:
    """Start a reconciler for a world, with more settings; it is gone afterwards."""
    port = free_port()
    log = tmp_path / f"{name}.log"
    variables = {
        **world.env(),
        "BOOTSTRAP_REPLICAS": str(replicas),
        "BOOTSTRAP_HTTP_LISTEN": f"127.0.0.1:{port}",
        "BOOTSTRAP_TIMEOUT": "80",
        **{f"BOOTSTRAP_{name.upper()}": value for name, value in more.items()},
    }
    with log.open("w") as stderr, rig.started(variables, "reconcile", stderr=stderr) as process:
        yield Reconciling(process, log, port)
