"""A seeded walk over everything that can happen to a cluster; at its end all must be well.

SOAK_STEPS and SOAK_SEED set length and seed; a failing walk prints its seed and its steps.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.scenario import (
    DURABLE,
    NODE_TIMEOUT_MS,
    client,
    lost,
    make_healthy,
    primaries,
)
from tests.support.traffic import Traffic
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]
STEPS = int(os.environ.get("SOAK_STEPS") or 40)
SEED = int(os.environ.get("SOAK_SEED") or 1)
SIZES = (6, 7, 8, 10)
# By the client, after each time that the cluster has become healthy.
WRITES = 10_000 if "SOAK_STEPS" in os.environ else 1_000


class Walk:
    """A world and what was done to it, while a client writes all the time.

    Bursts happen only while the cluster is healthy, and each is on the replicas before the next
    step, so every acknowledged write has two copies and no single loss may cost one.
    """

    def __init__(self, world: World, traffic: Traffic, seed: int) -> None:
        self.world = world
        self.traffic = traffic
        self.random = random.Random(seed)
        self.written = 0
        self.steps: list[str] = []
        self.wanted = len(world.pods)
        self.is_healthy = False

    def step(self) -> None:
        """Do one thing that fits the state."""
        kinds: list[tuple[int, Callable[[], None]]] = [
            (4, self.run),
            (2, self.run_killed),
            (1, self.run_twice),
            (2, self.kill),
            (3, self.start),
            (2, self.readdress),
        ]
        if self.is_healthy:
            kinds += [(4, self.write), (2, self.lose_volume), (2, self.resize)]
        weights = [weight for weight, _ in kinds]
        chosen = self.random.choices(kinds, weights)[0][1]
        self.steps.append(chosen.__name__)
        chosen()

    def stopped(self) -> list[Pod]:
        """Return the pods without a process."""
        return [pod for pod in self.world.pods if not pod.is_running]

    def variables(self) -> dict[str, str]:
        """Return the settings of a run of the wanted size."""
        return {**self.world.env(), "BOOTSTRAP_NODES": str(self.wanted)}

    def run(self) -> None:
        """Run to the end; with a pod down it may only give up in time."""
        down = self.stopped()
        timeout = "4" if down else "90"
        result = rig.run({**self.variables(), "BOOTSTRAP_TIMEOUT": timeout}, timeout_s=120)
        assert result.code == (5 if down else 0), result.stderr
        if not down:
            self.after_healthy()

    def after_healthy(self) -> None:
        """Take leavers away and check with our own eyes."""
        while len(self.world.pods) > self.wanted:
            leaver = self.world.pods[-1]
            leaver.kill()
            self.world.remove_pod(leaver.ordinal)
        self.is_healthy = True
        assert rig.faults(self.world) == []
        enough = self.traffic.acknowledged + WRITES
        rig.until(lambda: self.traffic.acknowledged >= enough)

    def run_killed(self) -> None:
        """Kill a run at a random write command."""
        if self.stopped():
            return
        after = self.random.choice((1, 2, 3, 5, 8, 20, 50, 200))
        if rig.run_killed(self.world, after, "--nodes", str(self.wanted)):
            self.is_healthy = False
        else:
            self.after_healthy()

    def run_twice(self) -> None:
        """Start two runs at the same moment."""
        if self.stopped():
            return
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "bootstrap", "--timeout", "90"],
                env=rig.environment(self.variables()),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=rig.ROOT,
            )
            for _ in range(2)
        ]
        for process in both:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        self.after_healthy()

    def kill(self) -> None:
        """Kill a pod, if no other is down."""
        if not self.stopped():
            self.random.choice(self.world.pods).kill()
            self.is_healthy = False

    def start(self) -> None:
        """Start what is down, at times on another address."""
        for pod in self.stopped():
            if self.random.random() < 0.5:
                pod.move()
            pod.start()

    def readdress(self) -> None:
        """Bring one pod or all of them back on new addresses."""
        running = [pod for pod in self.world.pods if pod.is_running]
        pods = running if self.random.random() < 0.5 else running[:1]
        for pod in pods:
            pod.kill()
        for pod in pods:
            pod.move()
            pod.start()
        self.is_healthy = False

    def lose_volume(self) -> None:
        """Bring a pod back empty, on another address as its replacement would be."""
        pod = self.random.choice(self.world.pods)
        pod.kill()
        pod.wipe()
        pod.move()
        pod.start()
        self.is_healthy = False

    def resize(self) -> None:
        """Want another number of pods."""
        self.wanted = self.random.choice(SIZES)
        while len(self.world.pods) < self.wanted:
            self.world.add_pod()
        self.is_healthy = False

    def write(self) -> None:
        """Write some keys and wait until the replicas have them."""
        cluster = client(self.world)
        for number in range(self.written, self.written + 50):
            cluster.set(f"key:{number}", number)
        self.written += 50
        cluster.close()
        for pod in primaries(self.world):
            pod.command("WAIT", 1, 5000)

    def finish(self) -> None:
        """Bring everything up and run a last time."""
        for pod in self.stopped():
            pod.start()
        if len(self.world.pods) > self.wanted:
            self.run()
        make_healthy(self.world)
        assert lost(self.world, self.written) == 0


def test_random_walk(way_server: ServerBinary) -> None:
    """After any walk a last run makes the cluster healthy, with every acknowledged write."""
    with World(
        nodes=6, server=way_server, node_timeout_ms=NODE_TIMEOUT_MS, config=DURABLE
    ) as world:
        world.start()
        traffic = Traffic(world, seed=SEED)
        walk = Walk(world, traffic, SEED)
        try:
            with traffic:
                for _ in range(STEPS):
                    walk.step()
            walk.finish()
            assert traffic.lost() == 0
        except BaseException:
            print(f"seed {SEED}, steps: {' '.join(walk.steps)}")
            raise
        written = walk.written + traffic.acknowledged
        print(f"seed {SEED}: {len(walk.steps)} steps, {written} acknowledged writes, 0 lost")
