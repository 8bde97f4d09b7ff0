"""The run is killed -9 right after its k-th write command; the next one makes the cluster healthy.

Every k is a world of its own. By default k takes Fibonacci numbers until a run ends unharmed, on
the servers where a case differs most; SWEEP=full takes every k (each of the first hundred where
keys move one by one, wider steps after that) on every server.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.integration.conftest import WAYS
from tests.support import rig
from tests.support.scenario import (
    NODE_TIMEOUT_MS,
    PROMPT,
    formed,
    lost,
    make_healthy,
    primaries,
)
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]
FULL = os.environ.get("SWEEP") == "full"
KEYS = 400


def points() -> Iterator[int]:
    """Yield after how many write commands to kill."""
    if FULL:
        yield from range(1, 100)
        point = 100
        while True:
            yield point
            point += max(1, point // 7)
    one, other = 1, 2
    while True:
        yield one
        one, other = other, one + other


@contextmanager
def fresh(server: ServerBinary) -> Iterator[World]:
    """Six pods that never met."""
    with World(nodes=6, server=server, node_timeout_ms=NODE_TIMEOUT_MS, config=PROMPT) as world:
        world.start()
        yield world


@contextmanager
def growing(server: ServerBinary) -> Iterator[World]:
    """A cluster of six with keys, and two more pods."""
    with formed(server, keys=KEYS) as world:
        world.add_pod()
        world.add_pod()
        yield world


@contextmanager
def shrinking(server: ServerBinary) -> Iterator[World]:
    """A cluster of eight with keys, of which six are wanted."""
    with formed(server, nodes=8, keys=KEYS) as world:
        yield world


@contextmanager
def readdressed(server: ServerBinary) -> Iterator[World]:
    """A cluster all of whose pods came back on new addresses."""
    with formed(server, keys=KEYS, durable=True) as world:
        for pod in world.pods:
            pod.kill()
        for pod in world.pods:
            pod.move()
            pod.start()
        yield world


@contextmanager
def replaced(server: ServerBinary) -> Iterator[World]:
    """A cluster one of whose primaries came back without its volume."""
    with formed(server, keys=KEYS, durable=True) as world:
        pod = primaries(world)[0]
        pod.kill()
        pod.wipe()
        pod.move()
        pod.start()
        yield world


Scene = Callable[[ServerBinary], "Iterator[World]"]
SCENES = {f.__name__: f for f in (fresh, growing, shrinking, readdressed, replaced)}
USUAL = {
    "fresh": WAYS,
    "growing": ("redis-7.0", "redis-8.6"),
    "shrinking": ("valkey-9.1",),
    "readdressed": ("redis-7.0",),
    "replaced": ("redis-8.6",),
}
CASES = [(scene, way) for scene in SCENES for way in (WAYS if FULL else USUAL[scene])]


@pytest.mark.parametrize(
    ("scene", "way_server"), CASES, ids=[f"{s}-{w}" for s, w in CASES], indirect=["way_server"]
)
def test_the_next_run_goes_on(scene: str, way_server: ServerBinary) -> None:
    """Whatever command was the last one, the next run ends healthy and no key is lost."""
    kills = 0
    for after in points():
        with SCENES[scene](way_server) as world:
            if scene == "shrinking":
                killed = run_killed_shrinking(world, after)
                finish_shrinking(world)
            else:
                killed = rig.run_killed(world, after)
                make_healthy(world)
            assert scene == "fresh" or lost(world, KEYS) == 0
        if not killed:
            break
        kills += 1
    print(f"{scene}: {kills} kills, the last run had up to {after} write commands")

    assert kills > 0


def run_killed_shrinking(world: World, after: int) -> bool:
    """Kill a run that wants six of the eight pods."""
    return rig.run_killed(world, after, "--nodes", "6")


def finish_shrinking(world: World) -> None:
    """Run again and take the leaving pods away."""
    result = rig.run({**world.env(), "BOOTSTRAP_NODES": "6"}, timeout_s=120)
    assert result.code == 0, result.stderr
    for pod in world.pods[6:]:
        pod.kill()
    for ordinal in (7, 6):
        world.remove_pod(ordinal)
    assert rig.faults(world) == []
