"""Growing and shrinking under a client that never stops."""

import os
from collections.abc import Mapping

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.scenario import (
    Writer,
    attempt,
    fill,
    formed,
    lost,
    make_healthy,
    node_id,
    primaries,
    replicas,
    shrink,
)
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]
KEYS = int(os.environ.get("LIFE_KEYS", "5000"))


# Redis' own migration does not mind maxmemory.
@pytest.fixture(params=["redis-7.0", "valkey-9.1"])
def full_server(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """A server for each way that stops at a full target."""
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    return find_server(installed[request.param])


def grow(world: World, nodes: int) -> None:
    """Start more pods and make them members."""
    while len(world.pods) < nodes:
        world.add_pod()
    make_healthy(world)


def test_a_life_under_traffic(every_server: ServerBinary) -> None:
    """6, 8, 12, 8, 6 and 8 pods: no key, no acknowledged write, no read lost; no error seen."""
    with formed(every_server, keys=KEYS) as world, Writer(world) as writer:
        grow(world, 8)
        grow(world, 12)
        shrink(world, 8)
        shrink(world, 6)
        grow(world, 8)
        name = f"{every_server.engine} {'.'.join(map(str, every_server.version))}"
        print(f"{name}: {writer.acknowledged} writes, p99 {writer.p99_ms():.1f} ms")

        assert writer.errors == []
        assert writer.stale == 0
        assert writer.lost() == 0
        assert lost(world, KEYS) == 0


def test_keys_of_other_slots_do_not_go_with_a_leaving_primary(way_server: ServerBinary) -> None:
    """Keys that a person left at a pod by hand are refused, and moved once their slots are open."""
    with formed(way_server, nodes=7, replicas=0) as world:
        source, leaver = world.pods[0], world.pods[6]
        fill(world, KEYS)
        owned = sorted(rig.nodes_of(source)[node_id(source)].slots)
        filled = [n for n in owned if source.command("CLUSTER", "COUNTKEYSINSLOT", n)]
        slots = filled[:5]
        for slot in slots:
            key = str(rig.items(source.command("CLUSTER", "GETKEYSINSLOT", slot, 1))[0])
            leaver.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(leaver))
            source.command("MIGRATE", leaver.address, leaver.port, key, 0, 5000)
            for pod in (source, leaver):
                pod.command("CLUSTER", "SETSLOT", slot, "STABLE")
        refused = attempt(world, {"BOOTSTRAP_NODES": "6"}, replicas=0)
        assert refused.code == 3, refused.stderr
        assert f"redis-app-6 has {len(slots)} keys of slots that other nodes own" in refused.stdout
        assert lost(world, KEYS) == len(slots)

        for slot in slots:
            leaver.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        assert attempt(world, {"BOOTSTRAP_NODES": "6"}, replicas=0).code == 0
        assert lost(world, KEYS) == 0


def test_replicas_per_primary_up_and_down(way_server: ServerBinary) -> None:
    """Nine pods go from one replica each to two, to none and back to two without losing a key."""
    with formed(way_server, keys=KEYS) as world:
        while len(world.pods) < 9:
            world.add_pod()
        for count in (2, 0, 2):
            make_healthy(world, replicas=count)

            assert lost(world, KEYS) == 0


def test_functions_are_on_new_primaries(way_server: ServerBinary) -> None:
    """A primary that joins has the function libraries of the cluster."""
    with formed(way_server) as world:
        code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
        for pod in primaries(world):
            pod.command("FUNCTION", "LOAD", code)
        grow(world, 8)

        assert all(len(rig.items(pod.command("FUNCTION", "LIST"))) == 1 for pod in primaries(world))


def test_functions_of_an_earlier_life_are_replaced(way_server: ServerBinary) -> None:
    """A primary that comes back with old libraries has the cluster's before it owns slots."""
    with formed(way_server) as world:
        code = "#!lua name={0}\nredis.register_function('{1}', function() return {2} end)"
        for pod in primaries(world):
            pod.command("FUNCTION", "LOAD", code.format("lib", "f", 1))
        old = {"lib": code.format("lib", "f", 0), "other": code.format("other", "f", 0)}
        for text in old.values():
            world.add_pod().command("FUNCTION", "LOAD", text)
        make_healthy(world)
        while len(world.pods) < 10:
            world.add_pod().command("FUNCTION", "LOAD", old["other"])
        make_healthy(world)

        assert [pod.command("FCALL", "f", 0) for pod in primaries(world)] == [1] * 5


def test_a_leaving_primary_with_a_staying_replica_hands_over(way_server: ServerBinary) -> None:
    """Where the shards stay three, the staying replica takes over and no slot moves."""
    with formed(way_server, nodes=7, keys=KEYS) as world:
        heir = next(p for p in replicas(world) if p.ordinal != 6)
        leaver = world.pods[6]
        if rig.role_of(leaver) == "slave":
            leaver.command("CLUSTER", "FAILOVER")
            rig.until(lambda: rig.role_of(leaver) == "master")
            make_healthy(world)
        assert heir.is_running

        result = shrink(world, 6)

        assert result.last["slots_moved"] == 0
        assert lost(world, KEYS) == 0


@pytest.mark.parametrize("persistence", ["aof", "rdb"])
def test_a_pod_of_a_killed_shrink_comes_back(way_server: ServerBinary, persistence: str) -> None:
    """The run ends right after RESET, the pod too; its volume brings no old keys back later."""
    with formed(way_server, nodes=8, keys=KEYS, durable=persistence == "aof") as world:
        for pod in world.pods:
            pod.command("SAVE")
        assert rig.run_killed(world, "RESET", "--nodes", "6")
        rig.until(lambda: all(not is_writing(pod) for pod in world.pods))
        shrink(world, 6)

        while len(world.pods) < 8:
            world.add_pod()
        make_healthy(world)

        assert lost(world, KEYS) == 0


def is_writing(pod: Pod) -> bool:
    """Return whether a pod's AOF is rewritten, or will be."""
    info = rig.info_of(pod, "INFO", "persistence")
    return "1" in {info["aof_rewrite_in_progress"], info["aof_rewrite_scheduled"]}


def test_shrinking_into_too_little_memory_is_refused(way_server: ServerBinary) -> None:
    """Data that would not fit below maxmemory of those that stay is not moved."""
    with formed(way_server, nodes=8, replicas=1, keys=KEYS) as world:
        for pod in primaries(world)[:3]:
            used = int(rig.info_of(pod, "INFO", "memory")["used_memory"])
            pod.command("CONFIG", "SET", "maxmemory", used + 100_000)

        result = attempt(world, {"BOOTSTRAP_NODES": "6"})

        assert result.code == 3
        assert result.last["write_commands"] == 0
        assert rig.faults(world) == []


def test_growing_into_a_full_pod_is_refused(full_server: ServerBinary) -> None:
    """The pod whose maxmemory is full is named, what it took is counted, and no key is lost."""
    with formed(full_server, nodes=3, replicas=0) as world:
        fill(world, KEYS, prefix="k" * 2000)
        full = world.add_pod()
        used = int(rig.info_of(full, "INFO", "memory")["used_memory"])
        full.command("CONFIG", "SET", "maxmemory", used + 1_500_000)

        result = attempt(world, replicas=0)

        assert result.code == 3
        assert full.name in result.last["cause"]
        assert "maxmemory" in result.last["remedy"]
        taken = rig.nodes_of(full)[node_id(full)].slots
        assert result.last["slots_moved"] == len(taken)
        full.command("CONFIG", "SET", "maxmemory", 0)
        make_healthy(world, replicas=0)
        assert lost(world, KEYS, prefix="k" * 2000) == 0
