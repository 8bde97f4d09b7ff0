"""Servers that are not ready, and networks that let only half of it through."""

import socket
from contextlib import ExitStack

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.errors import ReplyError
from tests.support import rig
from tests.support.rig import alone
from tests.support.world import World

pytestmark = pytest.mark.redis

# While loading, servers answer clients every so many bytes; each key takes this long.
SLOW = {"key-load-delay": "150000", "loading-process-events-interval-bytes": "1024"}
KEYS = 300


def is_loading(world: World, ordinal: int) -> bool:
    try:
        return "loading:1" in str(world.pods[ordinal].command("INFO", "persistence"))
    except OSError:
        return False


def test_a_pod_that_loads_its_data_is_waited_for(server: ServerBinary) -> None:
    """LOADING: named with exit code 5 at the deadline, otherwise the run ends healthy after it."""
    with World(nodes=3, server=server, config={"rdbcompression": "no"}) as world:
        world.start()
        assert rig.run(alone(world)).code == 0
        pod = world.pods[0]
        count = 0
        for number in range(KEYS):
            try:
                pod.command("SET", f"key:{number}", "x" * 2000)
                count += 1
            except ReplyError:
                continue
        pod.command("SAVE")
        pod.kill()
        pod.config |= SLOW
        pod.start(wait=False)
        rig.until(lambda: is_loading(world, 0))
        hurried = rig.run(alone(world, timeout="3"))
        world.dns.forget_queries()
        assert hurried.code == 5
        assert hurried.last.get("node") == "redis-app-0", hurried.stderr
        assert "LOADING" in str(hurried.last["cause"])
        with rig.started(alone(world)) as running:
            rig.until(lambda: len(world.dns.queries) >= 8)
            pod.command("CONFIG", "SET", "key-load-delay", "0")
            _, stderr = running.communicate(timeout=90)
        assert running.returncode == 0, stderr
        assert rig.faults(world, replicas=0) == []
        assert pod.command("DBSIZE") == count


def test_a_pod_that_is_busy_is_waited_for(server: ServerBinary) -> None:
    """A pod that stands still for a while is no failure."""
    with World(nodes=3, server=server) as world:
        world.start()
        world.pods[1].pause()
        with rig.started(alone(world)) as running:
            rig.until(lambda: len(world.dns.queries) >= 8)
            world.pods[1].resume()
            _, stderr = running.communicate(timeout=120)
        assert running.returncode == 0, stderr
        assert rig.faults(world, replicas=0) == []


def test_a_blocked_bus_port_is_reported(server: ServerBinary) -> None:
    """A bus port that nobody answers on: a warning after seconds, and exit code 5 names the pod."""
    with World(nodes=3, server=server) as world:
        world.pods[2].config["cluster-announce-bus-port"] = "9"
        world.start()
        result = rig.run(alone(world, timeout="8"))
    assert result.code == 5
    assert "redis-app-2" in str(result.last["cause"])
    warnings = [line for line in result.logs if line["event"] == "bus.blocked"]
    assert len(warnings) == 1
    assert "redis-app-2" in str(warnings[0]["detail"])


def test_what_fails_again_and_again_is_reported_once(server: ServerBinary) -> None:
    """Two pods at announced ports that nobody answers on fail by turns; the log names each once."""
    with World(nodes=3, server=server) as world:
        for pod, port in zip(world.pods, ("8", "9"), strict=False):
            pod.config["cluster-announce-port"] = port
        world.start()
        result = rig.run(alone(world, timeout="8"))
    assert result.code == 5
    for event, most in (("pass.failed", 2), ("plan.computed", 2)):
        assert 0 < len([line for line in result.logs if line["event"] == event]) <= most


def test_pods_that_restart_while_a_run_works(server: ServerBinary) -> None:
    """A pod that crashes in mid-run and comes back is no failure of the run."""
    with World(nodes=3, server=server) as world:
        world.start()
        with rig.started(alone(world)) as running:
            assert running.stderr is not None
            assert any('"plan.computed"' in line for line in running.stderr)
            world.pods[1].kill()
            world.pods[1].start()
            _, stderr = running.communicate(timeout=120)
        assert running.returncode == 0, stderr
        assert rig.faults(world, replicas=0) == []


def test_a_server_without_room_for_clients_says_so(server: ServerBinary) -> None:
    """The server's own sentence is reported, although it hangs up while a command is sent."""
    with World(nodes=3, server=server) as world, ExitStack() as clients:
        world.start()
        pod = world.pods[1]
        pod.command("CONFIG", "SET", "maxclients", "4")
        for _ in range(8):
            clients.enter_context(socket.create_connection((pod.address, pod.port)))
        result = rig.run(alone(world, timeout="5"))
    assert (result.code, result.last["node"]) == (5, "redis-app-1")
    assert "max number of clients" in str(result.last["cause"])
