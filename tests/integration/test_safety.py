"""What must not be started: data for servers that cannot take it, and members that do not fit."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis, ResponseError

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.scenario import (
    DURABLE,
    PROMPT,
    attempt,
    client,
    fill,
    formed,
    lost,
    make_healthy,
    node_id,
    primaries,
    replicas,
)
from tests.support.world import World

pytestmark = pytest.mark.redis
KEYS = 600
Named = Callable[[str], ServerBinary]


@pytest.fixture
def named(installed: Mapping[str, str]) -> Named:
    """Return a server by its name."""

    def find(name: str) -> ServerBinary:
        if name not in installed:
            pytest.skip(f"{name} is not installed: run scripts/get-servers")
        return find_server(installed[name])

    return find


def use_image(world: World, server: ServerBinary) -> None:
    """Make pods that start from now on run another server, as a new image of the StatefulSet."""
    world.server = server


def shard_mate(world: World, pod: Pod) -> Pod:
    """Return a replica of the pod."""
    return next(p for p in world.pods if rig.nodes_of(p)[node_id(p)].primary == node_id(pod))


def fail_to_save(pod: Pod) -> None:
    """Make the pod's last RDB save fail: the file cannot be replaced, as on a full volume."""
    (pod.directory / "dump.rdb").mkdir()
    pod.command("CONFIG", "SET", "save", "3600 1")
    pod.command("BGSAVE")
    rig.until(lambda: persistence(pod)["rdb_last_bgsave_status"] == "err")


def make_savable(pod: Pod) -> None:
    """Remove the cause, and save."""
    (pod.directory / "dump.rdb").rmdir()
    pod.command("BGSAVE")
    rig.until(lambda: persistence(pod)["rdb_last_bgsave_status"] == "ok")


def persistence(pod: Pod) -> dict[str, str]:
    return rig.info_of(pod, "INFO", "persistence")


def test_slots_do_not_move_to_a_pod_whose_last_save_failed(way_server: ServerBinary) -> None:
    """Nothing is changed; once the pod can save, the same command grows the cluster."""
    with formed(way_server, nodes=3, replicas=0, keys=KEYS) as world:
        full = world.add_pod()
        fail_to_save(full)

        result = attempt(world, replicas=0)

        assert result.code == 3
        assert result.last["node"] == full.name
        assert "rdb_last_bgsave_status:err" in str(result.last["cause"])
        assert "BGSAVE" in str(result.last["remedy"])
        assert result.last["write_commands"] == 0
        assert full.is_running
        make_savable(full)
        make_healthy(world, replicas=0)
        assert lost(world, KEYS) == 0


def test_slots_do_not_move_to_a_primary_whose_replica_cannot_save(
    way_server: ServerBinary,
) -> None:
    """The replica gets every key that its primary gets, and nobody has joined yet."""
    with formed(way_server, nodes=6, replicas=1, keys=KEYS) as world:
        world.add_pod()
        full = world.add_pod()
        fail_to_save(full)

        result = attempt(world)

        assert result.code == 3
        assert f"{full.name} replicates {world.pods[6].name}" in str(result.last["cause"])
        assert result.last["write_commands"] == 0
        make_savable(full)
        make_healthy(world)
        assert lost(world, KEYS) == 0


def test_a_replica_that_cannot_save_gets_no_full_copy(way_server: ServerBinary) -> None:
    """An empty pod in place of a lost one; the others keep what they have."""
    with formed(way_server, nodes=6, replicas=1, keys=KEYS) as world:
        gone = replicas(world)[0]
        gone.kill()
        gone.wipe()
        gone.start()
        fail_to_save(gone)

        result = attempt(world)

        assert result.code == 3
        assert f"{gone.name} is to copy the data of " in str(result.last["cause"])
        make_savable(gone)
        make_healthy(world)
        assert lost(world, KEYS) == 0


def test_a_pod_that_would_evict_is_refused(way_server: ServerBinary) -> None:
    """No key is evicted, and the policy is named."""
    with formed(way_server, nodes=3, replicas=0) as world:
        cluster = client(world)
        for number in range(200):
            cluster.set(f"key:{number}", "x" * 50_000)
        small = world.add_pod()
        small.command("CONFIG", "SET", "maxmemory", "3mb")
        small.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

        result = attempt(world, replicas=0)

        assert result.code == 3
        assert result.last["node"] == small.name
        assert "would evict keys (allkeys-lru)" in str(result.last["cause"])
        assert result.last["write_commands"] == 0
        small.command("CONFIG", "SET", "maxmemory", "100mb")
        make_healthy(world, replicas=0)
        assert sum(rig.count_keys(pod) for pod in world.pods) == 200


def test_a_primary_that_wants_more_replicas_takes_no_slots(way_server: ServerBinary) -> None:
    """Such a primary would refuse all writes to the slots that it takes."""
    with formed(way_server, nodes=3, replicas=0, keys=KEYS) as world:
        new = world.add_pod()
        new.command("CONFIG", "SET", "min-replicas-to-write", "1")

        result = attempt(world, replicas=0)

        assert result.code == 3
        assert "min-replicas-to-write" in str(result.last["cause"])
        assert result.last["write_commands"] == 0


def test_a_copy_that_a_primary_may_drop_is_said_before(every_server: ServerBinary) -> None:
    """`plan` and the log of `run` name primary and limit; without writes the copy ends."""
    with formed(every_server, nodes=3, replicas=0) as world:
        for pod in world.pods:
            pod.command("CONFIG", "SET", "client-output-buffer-limit", "replica 2mb 1mb 5")
            pod.command("CONFIG", "SET", "repl-backlog-size", "1mb")  # no limit is below it
        cluster = client(world)
        for number in range(300):
            cluster.set(f"key:{number}", "x" * 100_000)
        for _ in range(3):
            world.add_pod()

        planned = attempt(world, None, "plan")
        result = attempt(world)

        assert re.search(r"redis-app-\d.*client-output-buffer-limit replica", planned.stdout)
        assert result.code == 0, result.stderr
        assert any(line.get("code") == "replica_buffer_small" for line in result.logs)


@pytest.mark.parametrize(
    ("members", "newcomer"),
    [("redis-8.6", "valkey-9.1"), ("valkey-9.1", "redis-8.0"), ("redis-8.2", "valkey-8.1")],
)
def test_engines_that_cannot_share_the_bus(members: str, newcomer: str, named: Named) -> None:
    """The new pod is named before it meets anybody, and the members stay as they are."""
    other = named(newcomer)
    with formed(named(members), nodes=3, replicas=0, keys=KEYS) as world:
        use_image(world, other)
        new = world.add_pod()

        result = attempt(world, replicas=0)

        assert result.code == 3
        assert result.last["node"] == new.name
        assert "valkey" in str(result.last["cause"])
        assert "redis 8" in str(result.last["cause"])
        assert result.last["write_commands"] == 0
        new.kill()
        world.remove_pod(new.ordinal)
        assert rig.faults(world, replicas=0) == []


@pytest.mark.parametrize("newer", ["redis-8.6", "valkey-8.1", "valkey-9.1"])
def test_members_are_replaced_by_a_newer_engine_one_by_one(newer: str, named: Named) -> None:
    """Redis 7.0 has no shard ids, and the newer members' grouping of it is no disagreement."""
    with formed(named("redis-7.0"), nodes=6, replicas=1, keys=KEYS, durable=True) as world:
        use_image(world, named(newer))
        for number, pod in enumerate(reversed(world.pods)):
            pod.terminate()
            pod.start()
            if number in (0, 3):
                result = attempt(world)
                assert result.code == 0, result.stderr
                assert int(str(result.last["actions"])) < 60
        make_healthy(world)
        assert lost(world, KEYS) == 0


@pytest.mark.parametrize("keys", [0, KEYS])
@pytest.mark.parametrize(
    ("older_name", "newer_name"),
    [("redis-6.2", "redis-7.0"), ("redis-7.0", "redis-8.0"), ("redis-8.2", "redis-8.6"),
     ("redis-7.0", "valkey-9.1")],
)  # fmt: skip
def test_a_replica_that_cannot_read_the_copy_of_its_primary(
    older_name: str, newer_name: str, keys: int, named: Named
) -> None:
    """Both versions are named before anything is changed, also where no node has keys."""
    older = named(older_name)
    with formed(named(newer_name), nodes=6, replicas=1, keys=keys) as world:
        pod = replicas(world)[0]
        pod.kill()
        pod.wipe()
        use_image(world, older)
        pod.start()

        result = attempt(world)

        assert result.code == 3
        assert f"{pod.name} runs redis {older.version[0]}.{older.version[1]}" in str(
            result.last["cause"]
        )
        assert "it cannot read its copy" in str(result.last["cause"])
        assert (result.last["actions"], result.last["write_commands"]) == (0, 0)


def test_a_replica_that_missed_the_last_epoch_takes_over(every_server: ServerBinary) -> None:
    """The replica gets no votes, and its primary is lost with its volume, so it takes over."""
    with formed(every_server, keys=KEYS, durable=True) as world:
        primary = primaries(world)[0]
        lost_id, mate = node_id(primary), shard_mate(world, primary)
        mate.terminate()
        primary.command("CLUSTER", "BUMPEPOCH")
        epoch = rig.nodes_of(primary)[lost_id].epoch
        others = [pod for pod in world.pods if pod not in (primary, mate)]
        rig.until(lambda: all(rig.nodes_of(p)[lost_id].epoch == epoch for p in others))
        primary.kill()
        primary.wipe()
        primary.move()
        mate.start()
        primary.start()

        make_healthy(world)

        assert lost(world, KEYS) == 0


def test_pods_beyond_the_wanted_number_are_reported(server: ServerBinary) -> None:
    """The cluster is healthy, and the log says what does not fit."""
    with formed(server, nodes=3, replicas=0) as world:
        world.add_pod()

        result = attempt(world, {"BOOTSTRAP_NODES": "3"}, replicas=0)

        assert result.code == 0
        assert any(line.get("code") == "pods_surplus" for line in result.logs)
        assert result.logs[-1]["verdict"]["state"] == "converging"
        assert "redis-app-3" in result.logs[-1]["verdict"]["reason"]
        status = attempt(world, {"BOOTSTRAP_NODES": "3"}, "status", "--output", "json", replicas=0)
        assert (status.code, json.loads(status.stdout)["healthy"]) == (5, False)


def copy_volumes(source: World, target: World) -> None:
    """Make the second cluster's volumes copies of the first one's, as restored from snapshots."""
    for pod, other in zip(source.pods, target.pods, strict=True):
        shutil.rmtree(other.directory)
        shutil.copytree(pod.directory, other.directory)


def tables(world: World) -> list[dict[str, str]]:
    """Return every pod's addresses of the members, by id."""
    return [{i: line.address for i, line in rig.nodes_of(p).items()} for p in world.pods]


@pytest.mark.parametrize("password", [None, "s3cret-s3cret"])
def test_copied_volumes_beside_their_source(every_server: ServerBinary, password: str) -> None:
    """Neither run changes anything, whichever of the clusters it is for."""
    with (
        World(nodes=3, server=every_server, config=DURABLE, password=password) as first,
        World(
            nodes=3,
            server=every_server,
            config=DURABLE,
            password=password,
            statefulset="redis-copy",
        ) as copy,
    ):
        first.start()
        make_healthy(first, replicas=0)
        copy_volumes(first, copy)
        copy.start()

        results = [attempt(world, replicas=0) for world in (copy, first)]

        for world, result in zip((copy, first), results, strict=True):
            assert result.code == 3, result.stderr
            assert result.last["node"] == world.pods[0].name
            assert "which is not one of the configured pods" in str(result.last["cause"])
            assert "nodes.conf" in str(result.last["remedy"])
            assert result.last["write_commands"] == 0


def test_a_copy_with_new_ids_is_a_cluster_of_its_own(way_server: ServerBinary) -> None:
    """A snapshot that is restored as docs/runbooks/repair.md says does not join its source."""
    runbook = (rig.ROOT / "docs/runbooks/repair.md").read_text()
    expression = next(line for line in runbook.splitlines() if "0000000c" in line).split("'")[1]
    with (
        World(nodes=6, server=way_server, node_timeout_ms=2000, config=DURABLE) as first,
        World(
            nodes=6,
            server=way_server,
            node_timeout_ms=2000,
            config=DURABLE,
            statefulset="redis-copy",
        ) as copy,
    ):
        first.start()
        make_healthy(first)
        fill(first, KEYS)
        copy_volumes(first, copy)
        for pod in copy.pods:
            path = pod.directory / "nodes.conf"
            subprocess.run(["sed", "-E", "-i", expression, path], check=True)
        copy.start()

        make_healthy(copy)

        assert lost(copy, KEYS) == 0
        assert rig.faults(first) == []
        fill(copy, KEYS, prefix="later")
        assert sum(rig.count_keys(pod) for pod in primaries(first)) == KEYS


def test_a_lost_nodes_conf_is_written_again(way_server: ServerBinary, tmp_path: Path) -> None:
    """After the steps of docs/runbooks/repair.md the pod has its data and is the same member."""
    runbook = (rig.ROOT / "docs/runbooks/repair.md").read_text()
    expression = next(line for line in runbook.splitlines() if "LOST[" in line).split("sed -E '")[1]
    expression = expression.split("'")[0]
    with formed(way_server, nodes=3, replicas=0, keys=KEYS, durable=True) as world:
        pod, other = world.pods[1], world.pods[2]
        member = node_id(pod)
        pod.terminate()
        rig.until(lambda: "fail" in rig.nodes_of(other)[member].flags)
        (pod.directory / "nodes.conf").unlink()
        pod.start()
        refused = attempt(world, replicas=0)
        assert refused.code == 3
        assert member[:8] in str(refused.last["cause"])
        assert "nodes.conf" in str(refused.last["remedy"])
        seen = tmp_path / "nodes"
        seen.write_text(str(other.command("CLUSTER", "NODES")))
        epoch = rig.info_of(other, "CLUSTER", "INFO")["cluster_current_epoch"].strip()
        command = ["sed", "-E", expression.replace("LOST", member[:8]), str(seen)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        pod.terminate()
        last = f"vars currentEpoch {epoch} lastVoteEpoch 0\n"
        (pod.directory / "nodes.conf").write_text(lines + last)
        pod.start()

        make_healthy(world, replicas=0)

        assert node_id(pod) == member
        assert lost(world, KEYS) == 0


@pytest.mark.parametrize(("nodes", "replicas"), [(4, 0), (6, 1)])
def test_a_server_without_the_database_of_a_key(named: Named, nodes: int, replicas: int) -> None:
    """The server would exit as a replica, and a move to it would stop half-way."""
    config = {**PROMPT, "cluster-databases": "4"}
    with World(nodes=3, server=named("valkey-9.1"), config=config) as world:
        world.start()
        make_healthy(world, replicas=0)
        for pod in world.pods:
            with Redis(host=pod.address, port=pod.port, db=3) as client:
                for number in range(KEYS):
                    with suppress(ResponseError):  # MOVED: another pod owns its slot
                        client.set(f"key:{number}", number)
        while len(world.pods) < nodes:
            pod = world.add_pod()
            pod.kill()
            pod.config["cluster-databases"] = "1"
            pod.wipe()
            pod.start()
        result = attempt(world, replicas=replicas)
        assert result.code == 3, result.stderr
        assert "has keys in database 3, and redis-app-3" in str(result.last["cause"])
        assert (result.last["actions"], result.last["write_commands"]) == (0, 0)
        assert all(pod.is_running for pod in world.pods)
