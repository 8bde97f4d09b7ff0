"""The world seen from outside: starts the program as people do, and judges by its own eyes.

Nothing here imports what decides (`bootstrap.core`) or does (`bootstrap.net`): the health check
reads the servers' own words with its own few lines, so that a fault in the program cannot hide
itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bootstrap.sandbox.client import Reply
from bootstrap.sandbox.pod import Pod
from bootstrap.sandbox.world import World

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"
SLOTS = 16384


@dataclass(frozen=True)
class Result:
    """How the program ended."""

    code: int
    stdout: str
    stderr: str
    message: str

    @property
    def logs(self) -> list[dict[str, Any]]:
        """Return the log lines that are JSON."""
        lines = (line for line in self.stderr.splitlines() if line.startswith("{"))
        return [json.loads(line) for line in lines]

    @property
    def last(self) -> dict[str, Any]:
        """Return the last log line."""
        return self.logs[-1]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return a clean environment with these BOOTSTRAP_* variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BOOTSTRAP_")}
    return {**kept, "PYTHONPATH": str(ROOT), "BOOTSTRAP_LOG_FORMAT": "json", **variables}


@contextmanager
def started(
    variables: Mapping[str, str],
    *args: str,
    program: Sequence[str] = ("-m", "bootstrap"),
    stderr: int | IO[str] = subprocess.PIPE,
    stdin: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start the program and make sure it is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, *program, *args],
        env=environment(variables),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def alone(world: World, **settings: str) -> dict[str, str]:
    """Return the variables for a cluster without replicas, and further settings."""
    changed = {f"BOOTSTRAP_{name.upper()}": value for name, value in settings.items()}
    return {**world.env(), "BOOTSTRAP_REPLICAS": "0", **changed}


def run(
    variables: Mapping[str, str],
    *args: str,
    tmp_path: Path | None = None,
    timeout_s: float = 90.0,
    program: Sequence[str] = ("-m", "bootstrap"),
) -> Result:
    """Run the program to its end."""
    log = (tmp_path or Path("/nonexistent")) / "termination-log"
    extra = {"BOOTSTRAP_TERMINATION_LOG": str(log)} if tmp_path else {}
    with started({**extra, **variables}, *args, program=program) as process:
        stdout, stderr = process.communicate(timeout=timeout_s)
    message = log.read_text() if log.exists() else ""
    return Result(code=process.returncode, stdout=stdout, stderr=stderr, message=message)


def run_killed(world: World, after: int | str, *args: str) -> bool:
    """Run the program and kill it -9 right after its write command `after`: a number or a word.

    Returns False when it ended by itself before it had sent that.
    """
    result = run_struck(world, after, "kill", *args)
    assert result.code in (0, -signal.SIGKILL), result.stderr
    return result.code != 0


def run_struck(world: World, after: int | str, how: str, *args: str) -> Result:
    """Run the program, and strike as `programs/killpoint.py` describes."""
    variables = {**world.env(), "KILL_AFTER": str(after), "KILL_HOW": how}
    return run(variables, *args, program=(str(PROGRAMS / "killpoint.py"),))


@dataclass(frozen=True)
class Line:
    """One line of CLUSTER NODES."""

    node_id: str
    address: str
    flags: frozenset[str]
    primary: str
    epoch: int
    slots: frozenset[int]
    has_open: bool


def nodes_of(pod: Pod) -> dict[str, Line]:
    """Return what a pod says of every node."""
    lines = {}
    for text in str(pod.command("CLUSTER", "NODES")).splitlines():
        words = text.split()
        slots: set[int] = set()
        for word in words[8:]:
            if not word.startswith("["):
                first, _, last = word.partition("-")
                slots.update(range(int(first), int(last or first) + 1))
        lines[words[0]] = Line(
            node_id=words[0],
            address=words[1].partition("@")[0],
            flags=frozenset(words[2].split(",")) - {"myself"},
            primary=words[3],
            epoch=int(words[6]),
            slots=frozenset(slots),
            has_open=any(word.startswith("[") for word in words[8:]),
        )
    return lines


def items(reply: Reply) -> list[Reply]:
    """Return the elements of a reply that is an array."""
    assert isinstance(reply, list), reply
    return reply


def role_of(pod: Pod) -> str:
    """Return the role that a pod reports, in the server's words."""
    return str(items(pod.command("ROLE"))[0])


def count_keys(pod: Pod) -> int:
    """Return the number of keys of a pod."""
    return int(str(pod.command("DBSIZE")))


def info_of(pod: Pod, *section: str) -> dict[str, str]:
    """Return INFO or CLUSTER INFO as fields."""
    text = str(pod.command(*section))
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def faults(world: World, *, replicas: int = 1, pods: Sequence[Pod] | None = None) -> list[str]:
    """Return everything by which the cluster is not healthy, judged on every pod's own view."""
    pods = world.pods if pods is None else pods
    views = {pod.name: nodes_of(pod) for pod in pods}
    ids = {pod.name: str(pod.command("CLUSTER", "MYID")) for pod in pods}
    own = {ids[pod.name]: views[pod.name][ids[pod.name]] for pod in pods}
    found = []
    for pod in pods:
        found += _view_faults(pod, views[pod.name], own, {ids[p.name]: p for p in pods})
        if info_of(pod, "CLUSTER", "INFO").get("cluster_state") != "ok":
            found.append(f"{pod.name}: state is not ok")
        if info_of(pod, "INFO", "replication").get("master_link_status", "up") != "up":
            found.append(f"{pod.name}: link is down")
    return found + _shape_faults(own, replicas)


def _view_faults(
    pod: Pod, view: dict[str, Line], own: dict[str, Line], pods: dict[str, Pod]
) -> list[str]:
    found = []
    if view.keys() != own.keys():
        found.append(f"{pod.name}: knows {len(view)} nodes, {len(own)} are there")
    for node_id, line in view.items():
        if node_id not in own:
            continue
        truth = own[node_id]
        if line.flags & {"fail", "fail?", "handshake", "noaddr"}:
            found.append(f"{pod.name}: {sorted(line.flags)}")
        if (line.primary, line.slots) != (truth.primary, truth.slots):
            found.append(f"{pod.name}: has an old view of {pods[node_id].name}")
        if line.address.rpartition(":")[0] != pods[node_id].address:
            found.append(f"{pod.name}: wrong address {line.address} of {pods[node_id].name}")
        if line.has_open:
            found.append(f"{pod.name}: open slots")
    return found


def _shape_faults(own: dict[str, Line], replicas: int) -> list[str]:
    found = []
    primaries = {i: line for i, line in own.items() if "master" in line.flags}
    wanted = len(own) // (replicas + 1)
    if len(primaries) != wanted:
        found.append(f"{len(primaries)} primaries, {wanted} wanted")
    owned = [slot for line in primaries.values() for slot in line.slots]
    if sorted(owned) != list(range(SLOTS)):
        found.append(f"{len(owned)} slots owned, {len(set(owned))} different ones")
    sizes = [len(line.slots) for line in primaries.values()]
    if sizes and max(sizes) - min(sizes) > 1:
        found.append(f"uneven: {sorted(sizes)}")
    epochs = [line.epoch for line in primaries.values()]
    if len(set(epochs)) != len(epochs):
        found.append(f"epochs collide: {sorted(epochs)}")
    for node_id in primaries:
        count = sum(line.primary == node_id for line in own.values())
        if count < replicas:
            found.append(f"{node_id[:8]}: {count} replicas")
    return found


def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for an event in the world, looking every 20 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the event did not come"
        time.sleep(0.02)
