"""What a person sees at a terminal of 80 columns."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.world import World
from tests.support import rig

pytestmark = pytest.mark.redis
COLUMNS, LINES = 80, 24
# 3 s, and what a loaded machine needs.
SOON_S = 10.0


@contextmanager
def six_pods(server: ServerBinary) -> Iterator[World]:
    """Return a world of six pods that never met."""
    with World(nodes=6, server=server, config={"repl-diskless-sync-delay": "0"}) as made:
        made.start()
        yield made


@pytest.fixture
def fresh(server: ServerBinary) -> Iterator[World]:
    """Six pods that never met."""
    with six_pods(server) as made:
        yield made


@pytest.fixture(scope="module")
def world(server: ServerBinary) -> Iterator[World]:
    """Six pods that are a healthy cluster."""
    with six_pods(server) as made:
        assert rig.run(made.env()).code == 0
        yield made


class Terminal:
    """The program, started at a terminal."""

    def __init__(self, variables: Mapping[str, str], *args: str) -> None:
        ours, its = pty.openpty()
        os.set_blocking(ours, False)
        subprocess.run(["stty", "cols", str(COLUMNS), "rows", str(LINES)], stdin=its, check=True)
        environment = {**rig.environment(variables), "TERM": "xterm"}
        environment |= {k: v for k, v in variables.items() if not k.startswith("BOOTSTRAP_")}
        environment.pop("BOOTSTRAP_LOG_FORMAT")
        environment.pop("COLUMNS", None)
        self.program = subprocess.Popen(
            [sys.executable, "-m", "bootstrap", *args],
            env=environment,
            cwd=rig.ROOT,
            stdin=its,
            stdout=its,
            stderr=its,
        )
        os.close(its)
        self.ours = ours
        self.text = ""

    def read(self, until: str | None = None, timeout_s: float = 60.0) -> str:
        """Return what was written, to a word or to the end of the program."""
        ends_at = time.monotonic() + timeout_s
        while time.monotonic() < ends_at:
            select.select([self.ours], [], [], 0.1)
            try:
                self.text += os.read(self.ours, 65536).decode()
            except BlockingIOError:
                pass
            except OSError:
                break
            if until and until in self.text:
                break
        return self.text

    def close(self) -> int:
        """Return how it ended."""
        self.program.terminate()
        self.read()
        os.close(self.ours)
        return self.program.wait(timeout=60)


def printed(variables: Mapping[str, str], *args: str) -> str:
    terminal = Terminal(variables, *args)
    text = terminal.read()
    terminal.close()
    return text


def test_a_run_shows_steps_and_ends_with_the_cluster(fresh: World) -> None:
    """No log lines; the table and how to connect, and the sentence about the run last."""
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", printed(fresh.env()))
    lines = text.replace("\r", "\n").rstrip().splitlines()
    assert re.search(r" \d\.\d s  form: SetConfigEpoch 6, AssignSlots 3, Meet \d+", text)
    assert re.search(r" \d\.\d s  healthy \(ok\): nothing to do", text)
    assert all(f"redis-app-{i}" in text for i in range(6))
    assert f"connect: redis-cli -c -h {fresh.pods[0].address} -p 6379" in text
    assert any(line.startswith("healthy: exit code 0") for line in lines[-4:])
    assert "run.started" not in text
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize(
    ("variable", "is_colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
@pytest.mark.parametrize("command", ["status", "plan"])
def test_colors_are_those_that_were_asked_for(
    world: World,
    command: str,
    variable: dict[str, str],
    is_colored: bool,  # noqa: FBT001
) -> None:
    """NO_COLOR leaves at most bold type; a dumb terminal gets plain text."""
    text = printed({**world.env(), **variable}, command)
    codes = {
        number for style in re.findall(r"\x1b\[([\d;]*)m", text) for number in style.split(";")
    }
    assert "healthy (ok)" in re.sub(r"\x1b\[[\d;]*m", "", text)
    assert any(number[:1] in "349" and len(number) == 2 for number in codes) is is_colored
    if "TERM" in variable:
        assert "\x1b" not in text


def test_a_pod_that_hangs_is_shown_within_three_seconds(world: World) -> None:
    """`status --watch` has a clock and the age of what it shows."""
    terminal = Terminal(world.env(), "status", "--watch")
    try:
        assert "s ago, at" in terminal.read(until="s ago, at")
        world.pods[1].pause()
        paused_at = time.monotonic()
        terminal.text = ""
        terminal.read(until="redis-app-1: no answer for", timeout_s=20.0)
        assert "redis-app-1: no answer for" in terminal.text
        assert time.monotonic() - paused_at < SOON_S
        terminal.read(until="absent: no answer", timeout_s=20.0)
        assert "absent: no answer" in terminal.text
    finally:
        world.pods[1].resume()
        code = terminal.close()
    assert code == 143


def test_a_single_status_does_not_wait_long_for_a_pod_that_hangs(world: World) -> None:
    """The others are shown."""
    began = time.monotonic()
    printed(world.env(), "status")
    usual_s = time.monotonic() - began
    world.pods[2].pause()
    try:
        began = time.monotonic()
        text = printed(world.env(), "status")
        assert time.monotonic() - began < usual_s + 2 * SOON_S
    finally:
        world.pods[2].resume()
    assert "redis-app-2 at" in text
    assert "redis-app-0" in text
