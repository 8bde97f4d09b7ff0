"""From nothing to a proven cluster."""

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.scenario import (
    NODE_TIMEOUT_MS,
    PROMPT,
    attempt,
    formed,
    make_healthy,
    node_id,
)
from tests.support.world import World

pytestmark = pytest.mark.redis


def test_fresh_pods_become_healthy_and_a_second_run_writes_nothing(
    every_server: ServerBinary,
) -> None:
    """Six pods become a cluster on every server; doing it again sends no write command."""
    with formed(every_server) as world:
        again = make_healthy(world)

        assert again.last["write_commands"] == 0
        assert again.last["actions"] == 0


def test_the_first_ordinals_are_primaries(server: ServerBinary) -> None:
    """Without known places pods 0 to 2 are primaries and pod i replicates i mod 3, as the seed."""
    with formed(server) as world:
        ids = [node_id(pod) for pod in world.pods]
        owners = [rig.nodes_of(pod)[ids[i]].primary for i, pod in enumerate(world.pods)]

        assert owners == ["-", "-", "-", ids[0], ids[1], ids[2]]


def test_no_shard_shares_a_zone(way_server: ServerBinary) -> None:
    """Where the servers tell their zone no shard has two members in one, and no zone a majority."""
    if way_server.version < (7, 2, 0):
        pytest.skip("this server cannot tell its place")
    zones = ["a", "a", "b", "b", "c", "c"]
    places = [(zone, f"node-{index}") for index, zone in enumerate(zones)]
    with World(
        nodes=6,
        server=way_server,
        node_timeout_ms=NODE_TIMEOUT_MS,
        config=PROMPT,
        places=places,
    ) as world:
        world.start()
        make_healthy(world)
        ids = {node_id(pod): zones[pod.ordinal] for pod in world.pods}
        lines = rig.nodes_of(world.pods[0])
        shards = [{ids[i], ids[k.primary]} for i, k in lines.items() if k.primary != "-"]

        assert all(len(zones_of_shard) == 2 for zones_of_shard in shards)
        assert {ids[i] for i, line in lines.items() if line.primary == "-"} == {"a", "b", "c"}


def test_replicas_whose_pods_moved_are_kept_apart(way_server: ServerBinary) -> None:
    """Pods that come back in other zones make replicas change places, never primaries."""
    if way_server.version < (7, 2, 0):
        pytest.skip("this server cannot tell its place")
    with formed(way_server) as world:
        roles = [rig.role_of(pod) for pod in world.pods]
        option = "availability-zone"
        if way_server.engine == "redis":
            option = "cluster-announce-human-nodename"
        for pod in world.pods:
            pod.command("CONFIG", "SET", option, f"zone-{pod.ordinal % 3}/")
        status = attempt(world, {}, "status")

        first, again = make_healthy(world), make_healthy(world)

        assert status.code == 0
        assert first.last["actions"] > 0
        assert again.last["write_commands"] == 0
        assert roles == [rig.role_of(pod) for pod in world.pods]
        owners = [rig.nodes_of(pod)[node_id(pod)].primary for pod in world.pods[3:]]
        assert not {(i, node_id(world.pods[i])) for i in range(3)} & set(enumerate(owners))


@pytest.mark.parametrize("nodes", [7, 9])
def test_pods_left_over_become_replicas(server: ServerBinary, nodes: int) -> None:
    """Seven pods with one replica each are three shards, one of them with two replicas."""
    replicas = 1 if nodes == 7 else 2
    with formed(server, nodes=nodes, replicas=replicas) as world:
        assert rig.faults(world, replicas=replicas) == []


def test_what_a_toolbox_left_half_made_is_finished(way_server: ServerBinary) -> None:
    """Primaries that own other ranges than we would give, met by a star, get replicas and ends."""
    with World(nodes=6, server=way_server, node_timeout_ms=NODE_TIMEOUT_MS, config=PROMPT) as world:
        world.start()
        for pod, (first, last) in zip(
            world.pods[3:6], [(0, 4999), (5000, 9999), (10000, 12000)], strict=True
        ):
            pod.command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
            pod.command("CLUSTER", "MEET", world.pods[0].address, world.pods[0].port)

        make_healthy(world)

        assert all(rig.nodes_of(p)[node_id(p)].primary == "-" for p in world.pods[3:6])


def test_thirty_nodes(way_server: ServerBinary) -> None:
    """Thirty pods become healthy with every view in agreement."""
    with formed(way_server, nodes=30, node_timeout_ms=15000) as world:
        assert make_healthy(world).last["write_commands"] == 0
