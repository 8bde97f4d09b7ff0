import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.sandbox import subnet
from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.errors import SandboxError
from bootstrap.sandbox.world import World

pytestmark = pytest.mark.redis

PROGRAM = """
import signal, sys, threading
from bootstrap.sandbox.binary import find_server
from bootstrap.sandbox.world import World

# What a shell starts in the background ignores SIGINT, what nohup starts ignores SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
world = World(nodes=3, server=find_server(sys.argv[1]))
# A thread that ends must not take the servers that it started with it.
starter = threading.Thread(target=world.start)
starter.start()
starter.join()
world.pods[1].command("PING")
world.pods[2].pause()
try:
    print(world.directory, *(pod.process.pid for pod in world.pods), flush=True)
    sys.stdin.readline()
except KeyboardInterrupt:
    print(world.pods[0].command("PING"), flush=True)
"""


class Owner:
    """Another process that has a world of three pods, one of them paused."""

    def __init__(self, server: ServerBinary) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, server.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        directory, *pids = self.process.stdout.readline().split()
        self.directory = Path(directory)
        # A pidfd, unlike a number, means the same process for ever.
        self.pods = [os.pidfd_open(int(pid)) for pid in pids]

    def are_pods_gone(self, *, within_s: float) -> bool:
        """Wait for each pod to end."""
        poller = select.poll()
        return all(self._is_gone(poller, pod, within_s) for pod in self.pods)

    @staticmethod
    def _is_gone(poller: select.poll, pod: int, within_s: float) -> bool:
        poller.register(pod, select.POLLIN)
        is_gone = bool(poller.poll(within_s * 1000))
        poller.unregister(pod)
        return is_gone

    def close(self) -> None:
        """End it, if it still lives."""
        self.process.kill()
        self.process.communicate()
        for pod in self.pods:
            os.close(pod)


@pytest.fixture
def owner(server: ServerBinary) -> Iterator[Owner]:
    owner = Owner(server)
    yield owner
    owner.close()


def test_pods_live_while_their_owner_does(owner: Owner) -> None:
    """Servers outlive the thread that started them."""
    assert not owner.are_pods_gone(within_s=0.3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_pods_die_with_their_owner(owner: Owner, number: signal.Signals) -> None:
    """However the owner dies, running and paused servers end at once."""
    owner.process.send_signal(number)
    owner.process.wait(10)
    assert owner.are_pods_gone(within_s=10)


def test_owner_that_ends_well_leaves_nothing(owner: Owner) -> None:
    """A world that was never closed is closed when the interpreter ends."""
    owner.process.communicate("\n")
    assert owner.are_pods_gone(within_s=10)
    assert not owner.directory.exists()


def test_interrupt_of_the_terminal_spares_the_pods(owner: Owner) -> None:
    """Ctrl-C goes to the program, which may still need its servers."""
    os.killpg(owner.process.pid, signal.SIGINT)
    output, _ = owner.process.communicate()
    assert output == "PONG\n"
    assert owner.are_pods_gone(within_s=10)


def test_left_over_block_is_taken_over_clean(owner: Owner, server: ServerBinary) -> None:
    """What a killed owner left is free again once its servers are gone, and empty."""
    leftover = owner.directory / "leftover"
    leftover.touch()
    owner.process.kill()
    owner.process.wait(10)
    assert owner.are_pods_gone(within_s=10)
    with World(nodes=3, server=server) as world:
        world.start()
        if world.directory == owner.directory:
            assert not leftover.exists()


def test_processes_do_not_share_a_block(owner: Owner, server: ServerBinary) -> None:
    """A block claimed by another process is passed over."""
    with World(nodes=1, server=server) as world:
        assert world.directory != owner.directory


def test_addresses_run_out_with_a_word() -> None:
    """A block has a limit, and says so."""
    block = subnet.claim(6379)
    try:
        taken: set[str] = set()
        while len(taken) < 250:
            taken.add(block.next_address(taken))
        with pytest.raises(SandboxError):
            block.next_address(taken)
        assert block.dns_address not in taken
    finally:
        block.release()


def test_taken_port_is_passed_over() -> None:
    """A block where something else listens on the port is not given out."""
    first = subnet.claim(6379)
    first.release()
    with socket.create_server((f"{first.prefix}.1", 6379)):
        second = subnet.claim(6379)
        second.release()
        assert second.prefix != first.prefix
