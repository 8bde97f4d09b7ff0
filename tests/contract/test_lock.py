"""One run works at a time; what its death leaves is free."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.rig import alone
from tests.support.world import World

pytestmark = pytest.mark.redis

HOLDER = "redis-cluster-bootstrap:somebody"


@pytest.fixture
def world(server: ServerBinary) -> Iterator[World]:
    """Three fresh pods."""
    with World(nodes=3, server=server) as world:
        world.start()
        yield world


def hold(world: World, resources: ExitStack) -> socket.socket:
    """Take the lock as another run of the default user does: by a connection with a name."""
    pod = world.pods[0]
    holder = resources.enter_context(socket.create_connection((pod.address, pod.port)))
    holder.sendall(f"CLIENT SETNAME {HOLDER}\r\n".encode())
    assert holder.recv(64).startswith(b"+OK")
    return holder


@pytest.mark.parametrize("count", [2, 3])
def test_runs_at_once_make_one_healthy_cluster(server: ServerBinary, count: int) -> None:
    """All exit 0, and the cluster is one."""
    config = {"repl-diskless-sync-delay": "0"}
    with World(nodes=6, server=server, config=config) as world, ExitStack() as runs:
        world.start()
        running = [runs.enter_context(rig.started(world.env())) for _ in range(count)]
        results = [run.communicate(timeout=120) for run in running]
        assert [run.returncode for run in running] == [0] * count, results
        assert rig.faults(world) == []


def test_the_second_waits_for_the_first(world: World) -> None:
    """While another connection holds the lock nothing is written; once it closes, work begins."""
    with ExitStack() as resources:
        holder = hold(world, resources)
        with rig.started(alone(world)) as running:
            assert running.stderr is not None
            waited = next(line for line in running.stderr if '"lock.waited"' in line)
            assert json.loads(waited)["holder"] == HOLDER
            assert all(len(rig.nodes_of(pod)) == 1 for pod in world.pods)
            holder.close()
            _, stderr = running.communicate(timeout=90)
    assert running.returncode == 0, stderr
    assert rig.faults(world, replicas=0) == []


def test_a_holder_that_stays_is_named(world: World) -> None:
    """At the deadline the cause says who has the lock, and nothing was changed."""
    with ExitStack() as resources:
        hold(world, resources)
        result = rig.run(alone(world, timeout="3"))
    assert (result.code, result.last["write_commands"]) == (5, 0)
    assert HOLDER in str(result.last["cause"])


def test_the_lock_of_another_acl_user_does_not_count(world: World) -> None:
    """An application may name its connections, but cannot hold a run up."""
    for pod in world.pods:
        pod.command("ACL", "SETUSER", "admin", "on", ">secret", "~*", "&*", "+@all")
    with ExitStack() as resources:
        hold(world, resources)
        user = {"username": "admin", "password": "secret"}
        result = rig.run(alone(world, timeout="20", **user))
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0) == []


def test_a_killed_holder_frees_the_lock(world: World) -> None:
    """A run that is killed in the middle leaves nothing that holds the next one up."""
    with rig.started(alone(world)) as running:
        assert running.stderr is not None
        next(line for line in running.stderr if '"plan.computed"' in line)
        running.kill()
    result = rig.run(alone(world))
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0) == []
