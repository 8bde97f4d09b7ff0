"""SIGTERM and SIGINT at any moment end a run with exit code 143, and the next run continues."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.rig import alone
from tests.support.world import World

pytestmark = pytest.mark.redis

STOPPED = (str(rig.PROGRAMS / "stopped_outside.py"),)


@pytest.fixture
def world(server: ServerBinary) -> Iterator[World]:
    """Three fresh pods."""
    with World(nodes=3, server=server) as world:
        world.start()
        yield world


def read_until(running: subprocess.Popen[str], event: str) -> None:
    assert running.stderr is not None
    assert any(f'"event": "{event}"' in line for line in running.stderr), event


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("event", ["run.started", "view.observed", "plan.computed"])
def test_stopped_while_it_works(number: signal.Signals, event: str, world: World) -> None:
    """The last line says stopped, and another run ends healthy."""
    with rig.started(alone(world)) as running:
        read_until(running, event)
        running.send_signal(number)
        _, stderr = running.communicate(timeout=60)
    last = json.loads(stderr.splitlines()[-1])
    assert running.returncode == 143, stderr
    assert (last["outcome"], last["exit_code"]) == ("stopped", 143)
    assert "Traceback" not in stderr
    result = rig.run(alone(world))
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_it_waits_for_pods(
    number: signal.Signals, world: World, tmp_path: Path
) -> None:
    """Waiting for a missing pod ends at once and leaves the termination message."""
    log = tmp_path / "termination-log"
    variables = {**alone(world), "BOOTSTRAP_NODES": "4", "BOOTSTRAP_TERMINATION_LOG": str(log)}
    with rig.started(variables) as running:
        read_until(running, "view.observed")
        running.send_signal(number)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 143, stderr
    assert json.loads(log.read_text())["outcome"] == "stopped"


@pytest.mark.parametrize("command", ["run", "wait", "plan", "status"])
def test_stopped_before_the_first_connection(command: str, world: World) -> None:
    """A command also ends at once while name servers do not answer."""
    world.dns.drop()
    with rig.started(alone(world), command) as running:
        rig.until(lambda: bool(world.dns.queries))
        running.send_signal(signal.SIGTERM)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 143, stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("command", ["plan", "status"])
def test_stopped_while_a_pod_is_silent(command: str, world: World) -> None:
    """A pod that never answers does not delay the end."""
    world.pods[1].pause()
    with rig.started(alone(world), command) as running:
        rig.until(lambda: len(world.dns.queries) >= 8)
        running.send_signal(signal.SIGTERM)
        _, stderr = running.communicate(timeout=60)
    world.pods[1].resume()
    assert running.returncode == 143, stderr


def test_watch_is_stopped_while_a_pod_is_silent(world: World) -> None:
    """`status --watch` cancels the observation in progress and ends at once."""
    world.pods[1].pause()
    with rig.started(alone(world), "status", "--watch") as running:
        rig.until(lambda: len(world.dns.queries) >= 8)
        running.send_signal(signal.SIGTERM)
        _, stderr = running.communicate(timeout=4)
    world.pods[1].resume()
    assert running.returncode == 143, stderr


@pytest.mark.parametrize("command", ["run", "wait", "plan", "status"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_stopped_where_no_loop_runs(
    command: str, moment: str, world: World, tmp_path: Path
) -> None:
    """Before the loop it ends with 143, after it with its own code; the last line is complete."""
    timeout = "3" if command == "wait" else "60"
    variables = {**alone(world), "STOP": moment, "BOOTSTRAP_TIMEOUT": timeout}
    done = {"run": 0, "wait": 5, "plan": 0, "status": 5}
    result = rig.run(variables, command, tmp_path=tmp_path, program=STOPPED)
    code = 143 if moment == "before" else done[command]
    assert result.code == code, result.stderr
    assert "Traceback" not in result.stderr
    if command in {"run", "wait"}:
        assert json.loads(result.message)["exit_code"] == code
        assert (result.last["exit_code"], result.stdout.count("\n")) == (code, 1)


def handles(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has set a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def unreachable() -> dict[str, str]:
    """Return the variables of a cluster whose ports are closed, for which a run waits."""
    endpoints = ",".join(f"127.0.0.1:{port}" for port in (1, 2, 3))
    return {"BOOTSTRAP_ENDPOINTS": endpoints, "BOOTSTRAP_REPLICAS": "0", "BOOTSTRAP_TIMEOUT": "60"}


def test_handlers_are_set_before_anything_is_imported() -> None:
    """What sets the handlers needs no other module than `signal`."""
    words = "import sys, bootstrap.process.stop_signal; print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", words], cwd=rig.ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    loaded = [name for name in printed if name.startswith("bootstrap.process.")]
    assert loaded == ["bootstrap.process.stop_signal"]
    assert {"asyncio", "click", "dataclasses", "structlog", "bootstrap.cli"}.isdisjoint(printed)


@pytest.mark.parametrize("command", ["run", "wait", "plan", "status", "reconcile"])
@pytest.mark.parametrize("step", range(5))
def test_stopped_while_it_starts(command: str, step: int) -> None:
    """A signal that comes during imports is not lost: the last line says stopped."""
    variables = {**unreachable(), "BOOTSTRAP_HTTP_LISTEN": "127.0.0.1:19102"}
    with rig.started(variables, command) as running:
        rig.until(lambda: handles(running.pid, signal.SIGTERM))
        if step:
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(timeout=0.03 * step)
        running.terminate()
        _, stderr = running.communicate(timeout=20)
    assert running.returncode == 143, stderr
    assert "Traceback" not in stderr
    if command in {"run", "wait"}:
        assert json.loads(stderr.splitlines()[-1])["outcome"] == "stopped"


def test_stopped_while_it_starts_as_the_first_process() -> None:
    """In a container the program is process 1, for which signals have no default action."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare program")
    isolated = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no process namespaces")
    with subprocess.Popen(
        [*isolated, sys.executable, "-m", "bootstrap", "run"],
        env=rig.environment(unreachable()),
        cwd=rig.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        rig.until(lambda: bool(children.read_text().split()))
        first = int(children.read_text().split()[0])
        rig.until(lambda: handles(first, signal.SIGTERM))
        os.kill(first, signal.SIGTERM)
        _, stderr = running.communicate(timeout=20)
    assert running.returncode == 143, stderr
    assert json.loads(stderr.splitlines()[-1])["outcome"] == "stopped"


@pytest.mark.parametrize("step", range(9))
def test_stopped_at_any_moment(step: int, world: World) -> None:
    """Whenever a run was stopped, the next run ends healthy.

    Before the program has set its handlers, SIGTERM ends it like any process.
    """
    with rig.started(alone(world)) as running:
        try:
            running.wait(timeout=0.02 * 1.5**step)
        except subprocess.TimeoutExpired:
            running.terminate()
        _, stderr = running.communicate(timeout=60)
    assert running.returncode in {143, -signal.SIGTERM, 0}, stderr
    assert "Traceback" not in stderr
    result = rig.run(alone(world))
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0) == []
