"""Clusters in a known state, people's data in them, and a client that never stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.world import World

NODE_TIMEOUT_MS = 2000
PROMPT = {"repl-diskless-sync-delay": "0"}
DURABLE = {**PROMPT, "appendonly": "yes", "appendfsync": "always"}


@contextmanager
def formed(
    server: ServerBinary,
    *,
    nodes: int = 6,
    replicas: int = 1,
    keys: int = 0,
    durable: bool = False,
    node_timeout_ms: int = NODE_TIMEOUT_MS,
) -> Iterator[World]:
    """Return a world whose pods are one healthy cluster, made by the program."""
    config = DURABLE if durable else PROMPT
    with World(nodes=nodes, server=server, node_timeout_ms=node_timeout_ms, config=config) as world:
        world.start()
        make_healthy(world, replicas=replicas)
        if keys:
            fill(world, keys)
        yield world


def make_healthy(
    world: World, variables: Mapping[str, str] | None = None, *, replicas: int = 1
) -> rig.Result:
    """Run the program, and judge by the rig's own eyes that the cluster is healthy."""
    result = attempt(world, variables, replicas=replicas)
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=replicas) == []
    return result


def attempt(
    world: World, variables: Mapping[str, str] | None = None, *args: str, replicas: int = 1
) -> rig.Result:
    """Run the program to its end, whatever it is."""
    settings = {"BOOTSTRAP_REPLICAS": str(replicas), "BOOTSTRAP_TIMEOUT": "240"}
    return rig.run({**world.env(), **settings, **(variables or {})}, *args, timeout_s=260)


def shrink(world: World, nodes: int) -> rig.Result:
    """Make the highest ordinals leave while their pods still run, then take the pods away."""
    result = attempt(world, {"BOOTSTRAP_NODES": str(nodes)})
    assert result.code == 0, result.stderr
    for pod in world.pods[nodes:]:
        assert len(rig.nodes_of(pod)) == 1
        assert pod.command("DBSIZE") == 0
    while len(world.pods) > nodes:
        world.pods[-1].kill()
        world.remove_pod(world.pods[-1].ordinal)
    assert rig.faults(world) == []
    return result


def client(world: World) -> RedisCluster:
    """Return a cluster client that starts from any pod."""
    nodes = [ClusterNode(pod.address, pod.port) for pod in world.pods]
    return RedisCluster(startup_nodes=nodes, socket_timeout=5, decode_responses=True)


def fill(world: World, keys: int, *, prefix: str = "key") -> None:
    """Write numbered keys whose value is their number."""
    cluster = client(world)
    for first in range(0, keys, 1000):
        pipeline = cluster.pipeline()
        for number in range(first, min(keys, first + 1000)):
            pipeline.set(f"{prefix}:{number}", number)
        pipeline.execute()
    cluster.close()


def lost(world: World, keys: int, *, prefix: str = "key") -> int:
    """Return how many of the numbered keys do not read back."""
    cluster = client(world)
    missing = 0
    for first in range(0, keys, 1000):
        numbers = range(first, min(keys, first + 1000))
        pipeline = cluster.pipeline()
        for number in numbers:
            pipeline.get(f"{prefix}:{number}")
        values = pipeline.execute()
        missing += sum(v != str(n) for v, n in zip(values, numbers, strict=True))
    cluster.close()
    return missing


def primaries(world: World) -> list[Pod]:
    """Return the pods that say they are primaries."""
    return [pod for pod in world.pods if rig.role_of(pod) == "master"]


def replicas(world: World) -> list[Pod]:
    """Return the pods that say they are replicas."""
    return [pod for pod in world.pods if rig.role_of(pod) != "master"]


def owner_of(world: World, slot: int) -> Pod:
    """Return the pod that says it owns the slot."""
    return next(p for p in primaries(world) if slot in rig.nodes_of(p)[node_id(p)].slots)


def node_id(pod: Pod) -> str:
    """Return the pod's node id."""
    return str(pod.command("CLUSTER", "MYID"))


class Writer:
    """Writes and reads back without a pause; remembers what was acknowledged.

    Attributes:
        errors: What the client library did not hide.
        stale: Reads that did not give the value acknowledged before.
        latencies_s: Seconds of each write with its read.
    """

    def __init__(self, world: World) -> None:
        self._client = client(world)
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.acknowledged = 0
        self.errors: list[str] = []
        self.stale = 0
        self.latencies_s: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        rig.until(lambda: self.acknowledged > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._client.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            number = self.acknowledged
            began = time.monotonic()
            try:
                self._set(f"live:{number}", str(number))
                self.acknowledged += 1
                self.stale += self._client.get(f"live:{number}") != str(number)
            except (RedisError, OSError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            self.latencies_s.append(time.monotonic() - began)

    def _set(self, key: str, value: str) -> None:
        """Write; redis-py 8.1 stumbles over an ASK to a node without slots, as it lists none.

        Other clients dial the address that the redirection names.
        """
        while True:
            try:
                self._client.set(key, value)
            except AttributeError:
                self._client.nodes_manager.initialize()
            else:
                return

    def lost(self) -> int:
        """Return how many acknowledged writes do not read back."""
        return lost(self._world, self.acknowledged, prefix="live")

    def p99_ms(self) -> float:
        """Return the 99th percentile of the latencies in milliseconds."""
        ranked = sorted(self.latencies_s)
        return 1000 * ranked[int(len(ranked) * 0.99)]
