"""Credentials go to the pods that DNS names, and to nobody else."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.errors import ReplyError
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.peers import Recorder, Talk, forwarder, listening
from tests.support.rig import alone
from tests.support.world import World

pytestmark = pytest.mark.redis

PASSWORD = "s3cret-of-the-pods"
# Servers send theirs to each other, wherever a member was last: that is not the program's.
SERVERS_OWN = "s3cret-between-servers"
ANNOUNCED_PORT = 7777
# After so long the program takes no reply for a new one.
HALTED_S = 1.1
# The command of each server with which a move has begun.
MOVES = {"redis-7.0": "MIGRATE", "redis-8.6": "IMPORT", "valkey-9.1": "MIGRATESLOTS"}
FIRST, SOURCE, TARGET = 0, 1, 3


@pytest.fixture
def world(every_server: ServerBinary) -> Iterator[World]:
    """Three pods with a password, which are not started."""
    with World(nodes=3, server=every_server, password=PASSWORD) as world:
        yield world


@pytest.fixture
def rogue(world: World, every_server: ServerBinary) -> Iterator[Pod]:
    """A server that is none of the pods and announces a port that it does not have."""
    config = {"cluster-announce-port": str(ANNOUNCED_PORT)}
    with World(nodes=1, server=every_server, config=config) as other:
        other.start()
        yield other.pods[0]


def knows(pod: Pod, node_id: str) -> bool:
    line = rig.nodes_of(pod).get(node_id)
    return line is not None and not line.flags & {"handshake", "fail", "fail?"}


def test_a_member_that_joined_over_the_bus_receives_no_password(world: World, rogue: Pod) -> None:
    """The bus asks nobody who they are; the run reports address and id and stops at once."""
    world.start()
    assert rig.run(alone(world)).code == 0
    recorder = Recorder()
    with listening(rogue.address, ANNOUNCED_PORT, recorder.talk):
        rogue.command("CLUSTER", "MEET", world.pods[0].address, world.pods[0].port)
        node_id = str(rogue.command("CLUSTER", "MYID"))
        rig.until(lambda: all(knows(pod, node_id) for pod in world.pods))
        results = [rig.run(alone(world, timeout="20"), c) for c in ("run", "plan", "status")]
    assert [result.code for result in results] == [3, 3, 3]
    cause = str(results[0].last["cause"])
    assert f"{rogue.address}:{ANNOUNCED_PORT}" in cause
    assert node_id[:8] in cause
    assert results[0].last["write_commands"] == 0
    assert recorder.connections > 0
    assert b"AUTH" not in recorder.received.upper()
    assert PASSWORD.encode() not in recorder.received


@pytest.mark.parametrize(
    "talk", [None, Recorder(answer=b"-LOADING dataset\r\n").talk], ids=["closed", "loading"]
)
def test_a_member_whose_client_port_is_of_no_use_is_reported(
    world: World, rogue: Pod, talk: Talk | None
) -> None:
    """A member that keeps its bus links is no dead pod, and nothing waits for it for long."""
    world.start()
    assert rig.run(alone(world)).code == 0
    for pod in world.pods:
        pod.command("CONFIG", "SET", "cluster-node-timeout", "2000")
    with listening(rogue.address, ANNOUNCED_PORT, talk) if talk else nullcontext():
        rogue.command("CLUSTER", "MEET", world.pods[0].address, world.pods[0].port)
        node_id = str(rogue.command("CLUSTER", "MYID"))
        rig.until(lambda: all(knows(pod, node_id) for pod in world.pods))
        result = rig.run(alone(world, timeout="60"))
    assert result.code == 3, result.stderr
    cause = str(result.last["cause"])
    assert f"{rogue.address}:{ANNOUNCED_PORT}" in cause
    assert node_id[:8] in cause
    assert result.last["write_commands"] == 0
    assert float(str(result.last["duration_s"])) < 30


def test_an_announced_port_that_leads_to_the_pod(world: World) -> None:
    """The pod behind a forwarded port is recognised without credentials, and the cluster forms."""
    pod = world.pods[2]
    pod.config["cluster-announce-port"] = str(ANNOUNCED_PORT)
    world.start()
    with listening(pod.address, ANNOUNCED_PORT, forwarder(pod.address, pod.port)):
        result = rig.run(alone(world, timeout="30"))
    assert result.code == 0, result.stderr


def test_an_announced_port_that_leads_elsewhere(world: World) -> None:
    """Another server that wants a password too is not the pod: refused before the first MEET."""
    pod, other = world.pods[2], world.pods[1]
    pod.config["cluster-announce-port"] = str(ANNOUNCED_PORT)
    world.start()
    with listening(pod.address, ANNOUNCED_PORT, forwarder(other.address, other.port)):
        result = rig.run(alone(world, timeout="30"))
    assert result.code == 3, result.stderr
    assert "redis-app-2" in str(result.last["cause"])
    assert result.last["write_commands"] == 0
    assert {len(rig.nodes_of(each)) for each in world.pods} == {1}


def test_an_announced_port_of_somebody_else_receives_no_password(world: World) -> None:
    """A process at the announced address that wants a password gets none."""
    pod = world.pods[2]
    pod.config["cluster-announce-port"] = str(ANNOUNCED_PORT)
    world.start()
    recorder = Recorder()
    with listening(pod.address, ANNOUNCED_PORT, recorder.talk):
        result = rig.run(alone(world, timeout="30"))
    assert result.code == 3, result.stderr
    assert recorder.connections > 0
    assert b"AUTH" not in recorder.received.upper()
    assert PASSWORD.encode() not in recorder.received


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (3, {"nodes": "4"}),  # takes slots
        (0, {"nodes": "4"}),  # gives slots away
        (0, {"nodes": "6", "replicas": "1"}),  # is copied
    ],
)
def test_nothing_goes_to_the_announced_address_of_somebody_else(
    world: World, number: int, wanted: dict[str, str]
) -> None:
    """Before servers connect to a member, it is asked who answers where it announces itself."""
    world.start()
    assert rig.run(alone(world)).code == 0
    write(world, keys=60)
    while len(world.pods) < int(wanted["nodes"]):
        world.add_pod()
    if "replicas" not in wanted:
        assert rig.run(alone(world, rebalance="false")).code == 0
    recorder = Recorder(answer=b"+OK\r\n" * 3)
    liar, address = world.pods[number], world.next_address()
    with listening(address, liar.port, recorder.talk):
        liar.command("CONFIG", "SET", "cluster-announce-ip", address)
        result = rig.run(alone(world, timeout="30", **wanted))
    assert result.code == 3, result.stderr
    assert liar.name in str(result.last["cause"])
    assert address in str(result.last["cause"])
    assert PASSWORD.encode() not in recorder.received
    assert b"RESTORE" not in recorder.received
    primaries = [pod for pod in world.pods if rig.role_of(pod) == "master"]
    assert sum(map(rig.count_keys, primaries)) == 60  # a replica may have its copy by then


def write(world: World, *, keys: int) -> None:
    """Write keys, each at the pod that takes it."""
    for key in range(keys):
        for pod in world.pods:
            with suppress(ReplyError):
                pod.command("SET", f"key:{key}", "value")


@pytest.fixture
def growing(mover: str, installed: Mapping[str, str]) -> Iterator[World]:
    """A cluster of three pods with keys, and a fourth pod that is to take a part of them."""
    if mover not in installed:
        pytest.skip(f"{mover} is not installed: run scripts/get-servers")
    server = find_server(installed[mover])
    users = {
        "user": f"default on >{PASSWORD} >{SERVERS_OWN} ~* &* +@all",
        "masterauth": SERVERS_OWN,
        # There are no replicas: what a pod has acknowledged must outlive it.
        "appendfsync": "always",
    }
    with World(nodes=3, server=server, password=PASSWORD, appendonly=True, config=users) as world:
        world.start()
        assert rig.run(alone(world)).code == 0
        write(world, keys=600)
        world.add_pod()
        yield world


@contextmanager
def stopped_in_a_move(world: World, word: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program, and halt it right after it has sent a command with this word."""
    variables = {
        **alone(world, timeout="120"),
        "KILL_AFTER": word,
        "KILL_HOW": "stop",
        "KEEP_ALIVE_S": "0.2",
    }
    program = (str(rig.PROGRAMS / "killpoint.py"),)
    with rig.started(variables, program=program) as running:
        os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert running.poll() is None, running.communicate()
        yield running


@pytest.mark.parametrize("mover", MOVES)
@pytest.mark.parametrize("number", [SOURCE, TARGET], ids=["source", "target"])
def test_the_former_address_of_a_pod_receives_no_password_in_a_move(
    growing: World, mover: str, number: int
) -> None:
    """The pod dies, and another process has its address; the move ends at the pod's next one."""
    pod, recorder = growing.pods[number], Recorder()
    with stopped_in_a_move(growing, MOVES[mover]) as running:
        # What the servers have been sent already is carried out first: decision 19.
        for each in growing.pods * 2:
            each.command("PING")
        time.sleep(HALTED_S)
        pod.kill()
        with listening(pod.address, pod.port, recorder.talk):
            pod.move()
            running.send_signal(signal.SIGCONT)
            read_until(running, "pass.failed")
            pod.start()
            _, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    assert PASSWORD.encode() not in recorder.received
    assert sum(map(rig.count_keys, growing.pods)) == 600


@pytest.mark.parametrize("mover", ["redis-8.6"])
def test_the_former_address_of_the_lock_receives_no_password(growing: World, mover: str) -> None:
    """The lock's pod dies while a target that does not answer keeps a plan under way."""
    first, target, recorder = growing.pods[FIRST], growing.pods[TARGET], Recorder()
    with stopped_in_a_move(growing, MOVES[mover]) as running:
        target.pause()
        first.kill()
        with listening(first.address, first.port, recorder.talk):
            first.move()
            running.send_signal(signal.SIGCONT)
            read_until(running, "pass.failed")
            target.resume()
            first.start()
            _, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    assert PASSWORD.encode() not in recorder.received


def read_until(running: subprocess.Popen[str], event: str) -> None:
    assert running.stderr is not None
    assert any(f'"event": "{event}"' in line for line in running.stderr), event
