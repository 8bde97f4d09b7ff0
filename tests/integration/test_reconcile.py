"""The reconciler on real servers: it heals what breaks and leaves alone what others change."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.dns_proxy import Cache, answering
from tests.support.migration_rig import wait_until
from tests.support.reconciling import Reconciling, reconciling
from tests.support.scenario import fill, formed, lost, node_id, primaries, shrink
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]
KEYS = 2000
# What a run may take after the last pod answers, on a busy machine.
HEALS_S = 60.0


@contextmanager
def cluster(server: ServerBinary, tmp_path: Path) -> Iterator[tuple[World, Reconciling]]:
    """Return a healthy cluster with keys, and its reconciler, which is ready."""
    with (
        formed(server, keys=KEYS, durable=True, node_timeout_ms=5000) as world,
        reconciling(world, tmp_path) as reconciler,
    ):
        reconciler.wait_until(ready=True)
        yield world, reconciler


def is_untouched(reconciler: Reconciling) -> bool:
    """Return whether no run was started."""
    return not reconciler.events("run.started")


def test_fresh_pods_become_a_cluster(way_server: ServerBinary, tmp_path: Path) -> None:
    """The metrics say what the cluster is, and SIGTERM ends it with 143."""
    with World(nodes=6, server=way_server) as world:
        world.start()
        with reconciling(world, tmp_path) as reconciler:
            reconciler.wait_until(ready=True, timeout_s=HEALS_S)
            assert rig.faults(world) == []
            assert reconciler.get("/healthz") == (200, "ok\n")
            assert reconciler.metric("healthy") == 1
            assert reconciler.metric("pods_answering") == 6
            assert reconciler.metric("slots_owned") == rig.SLOTS
            reconciler.process.send_signal(signal.SIGTERM)
            assert reconciler.process.wait(timeout=20) == 143


def test_an_outage_of_all_pods_heals_by_itself(way_server: ServerBinary, tmp_path: Path) -> None:
    """All pods come back on new addresses: roles stay, and nothing is lost."""
    with cluster(way_server, tmp_path) as (world, reconciler):
        roles = [rig.role_of(pod) for pod in world.pods]
        for pod in world.pods:
            pod.kill()
        reconciler.wait_until(ready=False)
        for pod in world.pods:
            pod.move()
            pod.start()
        seconds = reconciler.wait_until(ready=True, timeout_s=HEALS_S)
        assert rig.faults(world) == []
        assert [rig.role_of(pod) for pod in world.pods] == roles
        assert lost(world, KEYS) == 0
        print(f"ready {seconds:.1f} s after the last pod answered")


@pytest.mark.parametrize("leaves_dns", ["before", "after", ""])
def test_a_cache_does_not_delay_the_end_of_an_outage(
    server: ServerBinary, tmp_path: Path, *, leaves_dns: str
) -> None:
    """Name servers keep former addresses, and their absence, for half a minute; it is quicker."""
    with (
        formed(server, keys=KEYS, durable=True, node_timeout_ms=5000) as world,
        answering(world, Cache(30.0)) as proxy,
        reconciling(world, tmp_path, nameservers=proxy.nameserver) as reconciler,
    ):
        reconciler.wait_until(ready=True)
        for pod in world.pods:
            pod.publish(leaves_dns != "before")
        if leaves_dns == "before":
            asked = len(proxy.queries)
            rig.until(lambda: len(proxy.queries) > asked + 2 * len(world.pods), seconds=60)
        for pod in world.pods:
            pod.kill()
            pod.publish(not leaves_dns)
        reconciler.wait_until(ready=False)
        for pod in world.pods:
            pod.move()
            pod.start()
            pod.publish(True)
        seconds = reconciler.wait_until(ready=True, timeout_s=HEALS_S)
        print(f"ready {seconds:.1f} s after the last pod was started")
        assert seconds < 20
        assert rig.faults(world) == []
        assert lost(world, KEYS) == 0


def test_more_pods_are_reported_until_the_settings_follow(
    server: ServerBinary, tmp_path: Path
) -> None:
    """A reconciler with other settings grows the cluster, the next one shrinks it again."""
    with formed(server, keys=KEYS, durable=True, node_timeout_ms=5000) as world:
        with reconciling(world, tmp_path) as reconciler:
            reconciler.wait_until(ready=True, timeout_s=HEALS_S)
            names = [world.add_pod().name, world.add_pod().name]
            reconciler.wait_until(ready=False)
            assert all(name.split(".")[0] in reconciler.get("/readyz")[1] for name in names)
        with reconciling(world, tmp_path) as reconciler:
            reconciler.wait_until(ready=True, timeout_s=HEALS_S)
            assert len(primaries(world)) == 4
        shrink(world, 6)
        assert lost(world, KEYS) == 0


def _cli(server: ServerBinary, *args: str) -> subprocess.Popen[bytes]:
    """Start the cluster command of the servers' own client."""
    if server.cli is None:
        pytest.skip(f"{server.path} comes without a client")
    return subprocess.Popen(
        [server.cli, "--cluster", *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("is_killed", [False, True], ids=["ends", "is-killed"])
def test_slots_that_a_person_moves_are_left_alone(
    way_server: ServerBinary, tmp_path: Path, *, is_killed: bool
) -> None:
    """Once the tool has ended, or was killed in the middle, the rest is put in order."""
    with cluster(way_server, tmp_path) as (world, reconciler):
        source, target = (node_id(pod) for pod in primaries(world)[:2])
        at = f"{world.pods[0].address}:{world.pods[0].port}"
        moves = ("--cluster-from", source, "--cluster-to", target, "--cluster-slots", "3000")
        moving = _cli(way_server, "reshard", at, *moves, "--cluster-yes")
        try:
            reconciler.wait_until(ready=False)
            if is_killed:
                moving.kill()
            else:
                moving.wait(timeout=120)
                assert is_untouched(reconciler)
        finally:
            moving.kill()
            moving.wait()
        reconciler.wait_until(ready=True, timeout_s=120)
        assert rig.faults(world) == []
        assert lost(world, KEYS) == 0


def test_two_reconcilers_are_as_safe_as_two_runs(server: ServerBinary, tmp_path: Path) -> None:
    """One works, the other waits; both say the same in the end."""
    with World(nodes=6, server=server) as world:
        world.start()
        with (
            reconciling(world, tmp_path, name="one") as one,
            reconciling(world, tmp_path, name="other") as other,
        ):
            one.wait_until(ready=True, timeout_s=HEALS_S)
            other.wait_until(ready=True, timeout_s=HEALS_S)
            fill(world, KEYS)
            assert rig.faults(world) == []
            assert lost(world, KEYS) == 0


def test_a_refusal_stays_readable(server: ServerBinary, tmp_path: Path) -> None:
    """The reconciler stays alive but is not ready, and its log and probe have the reason."""
    with World(nodes=3, server=server) as world:
        world.start()
        world.pods[0].command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: "state:ok" in str(world.pods[0].command("CLUSTER", "INFO")))
        world.pods[0].command("SET", "a", "1")
        with reconciling(world, tmp_path, replicas=0) as reconciler:
            reconciler.wait_until(ready=False)
            wait_until(lambda: "has 1 key:" in reconciler.get("/readyz")[1])
            assert is_untouched(reconciler)
            assert reconciler.events("health.changed")[-1]["state"] == "refused"
            assert reconciler.process.poll() is None
