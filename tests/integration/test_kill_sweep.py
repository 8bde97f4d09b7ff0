"""A run is struck right after its k-th command; the next one makes the cluster healthy.

It is killed -9 after a write command, sent SIGTERM after any command, or loses the reply to any
command with its connection. Every k is a world of its own. By default k takes Fibonacci numbers
(powers of three where reading commands count too) until a run ends unharmed, on the servers where a
case differs most; SWEEP=full takes every k (each of the first hundred where keys move one by one,
wider steps after that) on every server.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice

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
ENDINGS = {"kill": (0, -signal.SIGKILL), "term": (0, 143), "cut": (0,)}
# Of a stop, on a busy machine.
LONGEST_S = 10.0
# A sweep is cut into tests that run at the same time: each takes every third k.
PARTS = 3


def points(how: str) -> Iterator[int]:
    """Yield after how many commands to strike."""
    if FULL:
        yield from range(1, 100)
        point = 100
        while True:
            yield point
            point += max(1, point // 7)
    if how != "kill":
        for power in count():
            yield 3**power
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
    ("fresh", "kill"): WAYS,
    ("growing", "kill"): ("redis-7.0", "redis-8.6"),
    ("shrinking", "kill"): ("valkey-9.1",),
    ("readdressed", "kill"): ("redis-7.0",),
    ("replaced", "kill"): ("redis-8.6",),
    ("growing", "term"): ("redis-7.0",),
    ("shrinking", "term"): ("redis-8.6",),
    ("growing", "cut"): ("valkey-9.1",),
    ("shrinking", "cut"): ("redis-7.0",),
}
CASES = [
    (scene, how, way)
    for how in ("kill", "term", "cut")
    for scene in SCENES
    for way in (WAYS if FULL else USUAL.get((scene, how), ()))
]


@pytest.mark.parametrize(
    ("scene", "how", "way_server"),
    CASES,
    ids=["-".join(case) for case in CASES],
    indirect=["way_server"],
)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_next_run_goes_on(scene: str, how: str, way_server: ServerBinary, part: int) -> None:
    """Whatever command was the last one, the next run ends healthy and no key is lost.

    After SIGTERM no slot is open, and a run that lost a connection goes on itself.
    """
    strikes, longest_s = 0, 0.0
    args = ("--nodes", "6") if scene == "shrinking" else ()
    for after in islice(points(how), part, None, PARTS):
        with SCENES[scene](way_server) as world:
            result = rig.run_struck(world, after, how, *args)
            assert result.code in ENDINGS[how], result.stderr
            lasted = re.search(r"went on for ([\d.]+) s", result.stderr)
            if how == "term" and lasted:
                longest_s = max(longest_s, float(lasted[1]))
                assert not any(
                    line.has_open for p in world.pods for line in rig.nodes_of(p).values()
                )
            if how == "cut" and scene != "shrinking":
                assert rig.faults(world) == []
            finish(world, scene)
            assert scene == "fresh" or lost(world, KEYS) == 0
        if not lasted and result.code == 0:
            break
        strikes += 1
    print(f"{scene}, {how}: {strikes} strikes, the last run had up to {after} commands", end="")
    print(f"; SIGTERM took {longest_s:.1f} s at most" if how == "term" else "")

    assert strikes > 0
    assert longest_s < LONGEST_S


def finish(world: World, scene: str) -> None:
    """Run again until it is healthy; take pods away that left."""
    if scene != "shrinking":
        make_healthy(world)
        return
    result = rig.run({**world.env(), "BOOTSTRAP_NODES": "6"}, timeout_s=120)
    assert result.code == 0, result.stderr
    for pod in world.pods[6:]:
        pod.kill()
    for ordinal in (7, 6):
        world.remove_pod(ordinal)
    assert rig.faults(world) == []
