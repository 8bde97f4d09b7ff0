from collections.abc import Callable

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod
from tests.support.world import World

WaitUntil = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.redis

SLOTS = 16384


def _text(pod: Pod, *args: str | int) -> str:
    reply = pod.command(*args)
    assert isinstance(reply, str)
    return reply


def _join(world: World) -> None:
    for pod in world.pods:
        first = SLOTS * pod.ordinal // len(world.pods)
        end = SLOTS * (pod.ordinal + 1) // len(world.pods)
        # ADDSLOTS, because ADDSLOTSRANGE came with 7.0.
        pod.command("CLUSTER", "ADDSLOTS", *range(first, end))
        pod.command("CLUSTER", "SET-CONFIG-EPOCH", pod.ordinal + 1)
    for pod in world.pods[1:]:
        world.pods[0].command("CLUSTER", "MEET", pod.address, pod.port)


def _is_healthy(pod: Pod, count: int) -> bool:
    info = _text(pod, "CLUSTER", "INFO")
    return "cluster_state:ok\r\n" in info and f"cluster_known_nodes:{count}\r\n" in info


@pytest.mark.parametrize(
    "named_server",
    ["redis-6.2", "redis-7.0", "redis-8.6", "valkey-8.1", "valkey-9.1"],
    indirect=True,
)
def test_pods_join_on_loopback(named_server: ServerBinary, wait_until: WaitUntil) -> None:
    """Servers of every version see each other under the pods' addresses, and become one cluster."""
    places = [(f"zone-{ordinal}", f"node-{ordinal}") for ordinal in range(3)]
    with World(nodes=3, server=named_server, node_timeout_ms=1000, places=places) as world:
        world.start()
        _join(world)
        wait_until(lambda: all(_is_healthy(pod, 3) for pod in world.pods))
        for pod in world.pods:
            nodes = _text(pod, "CLUSTER", "NODES")
            for other in world.pods:
                assert f" {other.address}:6379@16379" in nodes
        _check_places(world, named_server)


def _check_places(world: World, server: ServerBinary) -> None:
    pod = world.pods[1]
    if server.version >= (7, 2, 0):
        name = "cluster-announce-human-nodename"
        assert pod.command("CONFIG", "GET", name) == [name, "zone-1/node-1"]
    if server.engine == "valkey":
        assert "availability_zone:zone-1\r\n" in _text(pod, "INFO", "server")


def test_replica_follows_a_pod(server: ServerBinary, wait_until: WaitUntil) -> None:
    """A replica's link to its primary comes up between two pods."""
    config = {"repl-diskless-sync-delay": "0"}
    with World(nodes=2, server=server, node_timeout_ms=1000, config=config) as world:
        world.start()
        primary, replica = world.pods
        primary.command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        primary.command("CLUSTER", "MEET", replica.address, replica.port)
        node_id = _text(primary, "CLUSTER", "MYID")
        wait_until(lambda: node_id in _text(replica, "CLUSTER", "NODES"))
        wait_until(lambda: f"{node_id} {primary.address}" in _text(replica, "CLUSTER", "NODES"))
        wait_until(lambda: "handshake" not in _text(replica, "CLUSTER", "NODES"))
        replica.command("CLUSTER", "REPLICATE", node_id)
        wait_until(lambda: "master_link_status:up" in _text(replica, "INFO", "replication"))
        assert f"ip={replica.address}" in _text(primary, "INFO", "replication")
