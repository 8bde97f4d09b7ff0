"""Orders to the sandbox: at a prompt, in a script, and from another terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.errors import SandboxError
from bootstrap.sandbox.orders import Orders, names
from tests.support import rig
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("server", "only_sandbox")]

SMALL = ("sandbox", "--nodes", "3", "--replicas", "0")


class Terminal:
    """A sandbox at a terminal of its own."""

    def __init__(self, *args: str) -> None:
        self.text = ""
        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bootstrap", *args],
            env={**rig.environment({}), "TERM": "dumb"},
            cwd=rig.ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        """Do what the terminal does at Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def interrupt_until_the_end(self) -> int:
        """Press Ctrl-C every second until the program ends, and return its exit code.

        Python's `input` loses a signal that comes after readline wrote the prompt and before it
        waits for a key; a person then presses Ctrl-C again.
        """
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(ProcessLookupError):
                self.interrupt()
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(1)
        raise AssertionError(self.text)

    def read_until(self, words: str, *, seconds: float = 60.0) -> str:
        """Return what was printed up to these words."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self._fd], [], [], 0.1)[0]:
                self.text += os.read(self._fd, 4096).decode()
        before, _, self.text = self.text.partition(words)
        return before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)


@contextmanager
def terminal(*args: str) -> Iterator[Terminal]:
    opened = Terminal(*args)
    try:
        opened.read_until("sandbox> ")
        yield opened
    finally:
        opened.close()


def printed(output: str) -> dict[str, str]:
    """Return what is printed below each order of a script."""
    parts = ("\n" + output).split("\nsandbox> ")[1:]
    return {order: text for order, _, text in (part.partition("\n") for part in parts)}


def test_faulty_orders_are_one_line_each_and_the_script_continues(tmp_path: Path) -> None:
    """The exit code is 2; the order after a faulty one is carried out."""
    script = tmp_path / "script"
    faulty = ("kil 0", "kill", "kill 7", "kill redis-app", "add", "add -1", "add two", "remove 1",
              "resume 1 now", "traffic maybe", "start 9", 'load "1', "load 0", "exit now",
              "help me", "add 101")  # fmt: skip
    script.write_text("\n".join(["# a comment", "", *faulty, "load 30"]) + "\n")
    result = rig.run({}, *SMALL, "--script", str(script))
    assert result.code == 2, result.stderr
    assert "Traceback" not in result.stderr
    texts = printed(result.stdout)
    assert texts.pop("load 30") == "30 keys loaded\n"
    assert texts.pop("# a comment") == ""
    assert texts.keys() == set(faulty)
    for order, text in texts.items():
        assert re.fullmatch(r"error: [^\n]+\n?", text), order
    assert "did you mean kill?" in texts["kil 0"]


def test_orders_in_a_pipe_heal_what_they_broke() -> None:
    """What comes through a pipe is a script; whatever is broken, `run` makes it healthy."""
    orders = "kill 0;run;pause 1;run;wipe 2;run;partition 4;heal;run;move 3;run;exit;load 1"
    with rig.started({}, "sandbox", stdin=subprocess.PIPE) as running:
        stdout, stderr = running.communicate(orders.replace(";", "\n"), timeout=240)
    assert running.returncode == 0, stderr
    assert "load 1" not in stdout
    runs = stdout.split("sandbox> run\n")[1:]
    assert [text.count("healthy: exit code 0") for text in runs] == [1] * 5, stdout
    assert "started: redis-app-0" in runs[0]
    assert "started: redis-app-1" in runs[1]


def test_orders_at_a_prompt() -> None:
    """Completion, an order, Ctrl-C at a run that waits, Ctrl-C at the prompt."""
    with terminal(*SMALL) as shown:
        shown.type("he\tlp\n")
        shown.read_until("kill POD...")
        shown.read_until("sandbox> ")
        shown.type("kill 1\n")
        shown.read_until("killed: redis-app-1")
        shown.read_until("sandbox> ")
        shown.type("wait\n")
        shown.read_until("run.started")
        shown.interrupt()
        shown.read_until("stopped: exit code 143")
        shown.read_until("sandbox> ")
        shown.type("run\n")
        shown.read_until("healthy: exit code 0")
        shown.read_until("sandbox> ")
        assert shown.interrupt_until_the_end() == 0


def test_end_of_input_and_exit_end_the_sandbox() -> None:
    """Ctrl-D at the prompt is an `exit`."""
    for words in ("\x04", "exit\n"):
        with terminal(*SMALL) as shown:
            shown.type(words)
            assert shown.process.wait(30) == 0


def test_orders_from_another_terminal() -> None:
    """The command that is printed works from any directory; so do all orders and `exit`."""
    with rig.started({}, *SMALL) as running:
        assert running.stdout is not None
        shown = ""
        while "Ctrl-C" not in shown:
            shown += running.stdout.readline()
        hints = shown[shown.index("Connect:") :]
        assert all(len(line) <= 80 or "/" in line for line in hints.splitlines()), shown
        results = [
            rig.run({"BOOTSTRAP_NODES": "99"}, "sandbox", *words)
            for words in (
                ["kill", "1"],
                ["status"],
                ["run", "--timeout", "30"],
                ["kill", "9"],
                ["env"],
            )
        ]
        assert [result.code for result in results] == [0, 5, 0, 2, 0], results
        assert results[0].stdout == "killed: redis-app-1; replicas take over after 5 s\n"
        assert results[3].stderr == "error: there is no pod '9'; they are 0 to 2, or `all`\n"
        exported = dict(re.findall(r"export (\w+)=(.*)", results[4].stdout))
        assert rig.run(exported, "status").code == 0
        assert rig.run({}, "sandbox", "exit").code == 0
        running.communicate(timeout=30)
    assert running.returncode == 0
    alone = rig.run({}, "sandbox", "status")
    assert (alone.code, alone.stdout) == (2, "")
    assert alone.stderr.startswith("error: no sandbox runs here; ")


@pytest.fixture
def orders(server: ServerBinary) -> Iterator[Orders]:
    with World(nodes=3, server=server) as world:
        world.start()
        yield Orders(world, replicas=0)


def test_help_has_every_order_on_a_line_that_fits(orders: Orders) -> None:
    """No line of the help is wider than a terminal, and no order is missing."""
    lines = orders.do(["help"]).splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(len(line) <= 80 for line in lines)


def test_lost_and_failed_writes_are_counted(orders: Orders) -> None:
    """An application that finds no cluster: its writes fail, and nobody can say what is lost."""
    assert orders.do(["traffic"]) == "traffic: off"
    assert orders.do(["traffic", "on"]) == "traffic: on"
    rig.until(lambda: ", 0 failed" not in orders.do(["traffic"]))
    summary = orders.do(["traffic", "off"])
    assert re.fullmatch(
        r"traffic: 0 writes, \d+ failed, 0 lost, longest pause [1-9][\d.]+ s", summary
    ), summary
    with pytest.raises(SandboxError):
        orders.do(["load", "1"])


def test_surplus_pods_stay_until_they_are_empty(orders: Orders) -> None:
    """What `remove` takes away ends as a pod does whose preStop hook waits for a run."""
    orders.do(["add", "1"])
    world = orders._world
    world.pods[3].command("CLUSTER", "MEET", world.pods[0].address, 6379)
    rig.until(lambda: len(rig.nodes_of(world.pods[3])) == 2)
    orders.do(["remove", "1"])
    assert orders.variables()["BOOTSTRAP_NODES"] == "3"
    assert orders.do(["release"]) == ""
    world.pods[3].command("CLUSTER", "RESET")
    assert orders.do(["release"]) == "ended: redis-app-3"
    assert len(world.pods) == 3
