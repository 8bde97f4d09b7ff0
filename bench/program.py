"""Runs of the program as a process, and what each reported about itself."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bench.healthy import watched
from bench.servers import Server
from bootstrap.sandbox.world import World
from tests.support import rig

MEASURED = ("-m", "bench.measured")
PATIENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One timed command.

    Attributes:
        healthy_s: From the start of the command until the cluster was healthy, where watched.
        ended_s: From its start to its end.
        last: Fields of the program's last log line; empty for other tools.
        peak_mb: Its peak memory.
    """

    healthy_s: float
    ended_s: float
    last: dict[str, float]
    peak_mb: float = 0.0


def ours(world: World) -> Outcome:
    """Run the program until the cluster is healthy.

    Raises:
        RuntimeError: It did not become healthy.
    """
    with watched(world) as observation:
        began = time.monotonic()
        outcome = unwatched(world)
        if late := rig.faults(world):
            print("the program ended, and the check still says:", late[:3], file=sys.stderr)
        healthy_at = observation.wait(PATIENCE_S)
    if healthy_at is None:
        message = "the program ended with 0, and the cluster is not healthy"
        raise RuntimeError(message)
    # It may have been healthy before the program started.
    return replace(outcome, healthy_s=max(0.0, healthy_at - began))


def unwatched(world: World) -> Outcome:
    """Run the program to its end, with no other client asking the servers.

    Raises:
        RuntimeError: It did not end with 0.
    """
    with tempfile.TemporaryDirectory() as directory:
        peak = Path(directory) / "peak"
        variables = {**world.env(), "PEAK_MEMORY_FILE": str(peak), "BOOTSTRAP_TIMEOUT": "280"}
        began = time.monotonic()
        result = rig.run(variables, "run", program=MEASURED, timeout_s=PATIENCE_S)
        ended = time.monotonic()
        if result.code != 0:
            raise RuntimeError(result.stderr)
        return Outcome(
            healthy_s=float("nan"),
            ended_s=ended - began,
            last={k: v for k, v in result.last.items() if isinstance(v, (int, float))},
            peak_mb=int(peak.read_text()) / 1024,
        )


def theirs(world: World, server: Server) -> Outcome:
    """Let the servers' own tool create the cluster.

    Raises:
        RuntimeError: It did not become healthy.
    """
    addresses = [f"{pod.address}:{pod.port}" for pod in world.pods]
    command = [str(server.cli), "--cluster", "create", *addresses, "--cluster-replicas", "1"]
    with watched(world) as observation:
        began = time.monotonic()
        subprocess.run(
            [*command, "--cluster-yes"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE_S,
        )
        ended = time.monotonic()
        healthy_at = observation.wait(PATIENCE_S)
    if healthy_at is None:
        message = f"{server.tool} left the cluster not healthy"
        raise RuntimeError(message)
    return Outcome(healthy_s=healthy_at - began, ended_s=ended - began, last={})


def ended_in(*args: str) -> float:
    """Return the seconds that the interpreter takes with some arguments."""
    began = time.monotonic()
    subprocess.run(
        [sys.executable, *args],
        check=True,
        cwd=rig.ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "100"},
    )
    return time.monotonic() - began


def made_up(nodes: int, state: str) -> dict[str, float]:
    """Run `bench.views` as a process of its own, for its memory, and return its figures."""
    args = [sys.executable, "-m", "bench.views", str(nodes), state]
    done = subprocess.run(args, check=False, cwd=rig.ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode == -signal.SIGKILL:
        message = f"no memory for {nodes} views"
        raise RuntimeError(message)
    done.check_returncode()
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
