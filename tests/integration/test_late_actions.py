"""What was planned is not carried out where others have changed the cluster since."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping

import pytest

from bootstrap.core.actions import (
    Action,
    ClaimSlots,
    CloseSlots,
    Failover,
    FailoverMode,
    GatherKeys,
    MoveSlots,
)
from bootstrap.core.findings import FindingCode
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, NodeId
from bootstrap.errors import StaleViewError
from bootstrap.net.executor import Executor
from bootstrap.net.pool import ConnectionPool
from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support import rig, scenario
from tests.support.migration_rig import Rig, fill, keys_of, read, running

pytestmark = pytest.mark.redis

WHY = FindingCode.SLOT_OPEN
SLOT = 5
SLOTS = SlotSet.of([SLOT])
# Moves first when a third of the slots becomes a quarter.
MOVED = 5461
HALTS = {"redis-7.0": "action", "valkey-9.1": "answer"}


def named_server(name: str, installed: Mapping[str, str]) -> ServerBinary:
    if name not in installed:
        pytest.skip(f"{name} is not installed: run scripts/get-servers")
    return find_server(installed[name])


@pytest.fixture
def cluster(way_server: ServerBinary) -> Iterator[Rig]:
    """Three primaries, the last of which owns nothing."""
    with running(way_server) as cluster:
        yield cluster


async def _apply(cluster: Rig, view: ClusterView, action: Action) -> None:
    pool = ConnectionPool(cluster.access, cluster)
    executor = Executor(pool=pool, stop=asyncio.Event(), on_progress=lambda _: None)
    try:
        await pool.update([node.endpoint for node in view.nodes])
        await executor.apply(view, [action])
    finally:
        await pool.close()


def apply_late(cluster: Rig, view: ClusterView, action: Action) -> None:
    """Carry out what was planned from an earlier view; the loop would observe again."""
    with pytest.raises(StaleViewError):
        asyncio.run(_apply(cluster, view, action))


def test_a_late_claim_does_not_take_slots_from_a_new_owner(cluster: Rig) -> None:
    """Another node was given the slot, and clients have written there."""
    ids = [NodeId(each) for each in cluster.ids()]
    for pod in cluster.pods:
        pod.command("CLUSTER", "DELSLOTS", SLOT)
    view = cluster.observe()
    cluster.pods[2].command("CLUSTER", "ADDSLOTS", SLOT)
    cluster.pods[2].command("CLUSTER", "BUMPEPOCH")
    cluster.owners_when_agreed()
    held = fill(cluster, [SLOT], each=5)
    apply_late(cluster, view, ClaimSlots(node=ids[0], slots=SLOTS, reason=WHY))
    assert SLOT in cluster.owners_when_agreed()[2]
    assert read(cluster, held) == held


def test_slots_that_another_run_moves_elsewhere_are_not_closed(cluster: Rig) -> None:
    """The slot was open towards another node when the plan was made."""
    ids = [NodeId(each) for each in cluster.ids()]
    cluster.open_both(SLOT, 0, 2)
    view = cluster.observe()
    cluster.pods[2].command("CLUSTER", "SETSLOT", SLOT, "STABLE")
    cluster.open_both(SLOT, 0, 1)
    apply_late(cluster, view, CloseSlots(node=ids[0], slots=SLOTS, reason=WHY))
    assert {n.node_id: n.migrating for n in cluster.observe().nodes}[ids[0]] == {SLOT: ids[1]}


def test_keys_are_not_gathered_at_a_former_owner(cluster: Rig) -> None:
    """No client would ask for the keys there."""
    ids = [NodeId(each) for each in cluster.ids()]
    cluster.open_both(SLOT, 0, 2)
    key = keys_of(SLOT, 1)[0]
    cluster.put(2, key, "value")
    view = cluster.observe()
    cluster.pods[0].command("CLUSTER", "SETSLOT", SLOT, "STABLE")
    cluster.move((0, 1, SLOTS))
    apply_late(cluster, view, GatherKeys(source=ids[2], target=ids[0], slots=SLOTS, reason=WHY))
    assert [pod.command("DBSIZE") for pod in cluster.pods] == [0, 0, 1]


def test_a_move_does_not_begin_in_the_middle_of_another_one(cluster: Rig) -> None:
    """Keys that went to the other target would be out of reach."""
    ids = [NodeId(each) for each in cluster.ids()]
    view = cluster.observe()
    held = fill(cluster, [SLOT], each=4)
    cluster.open_both(SLOT, 0, 1)
    for key in list(held)[:2]:
        cluster.migrate(key, 0, 1)
    apply_late(cluster, view, MoveSlots(source=ids[0], target=ids[2], slots=SLOTS, reason=WHY))
    cluster.move((0, 1, SLOTS))
    cluster.owners_when_agreed()
    assert read(cluster, held) == held


def test_a_replica_does_not_replace_a_primary_that_came_back(
    installed: Mapping[str, str],
) -> None:
    """What clients have written to the primary since would be lost."""
    with scenario.formed(named_server("redis-7.0", installed)) as world:
        cluster, replica = Rig(world), scenario.replicas(world)[0]
        own_id = NodeId(scenario.node_id(replica))
        gone = rig.nodes_of(replica)[own_id].primary
        primary = next(pod for pod in world.pods if scenario.node_id(pod) == gone)
        replica.command("CONFIG", "SET", "cluster-replica-no-failover", "yes")
        primary.kill()
        rig.until(lambda: "fail" in rig.nodes_of(replica)[gone].flags)
        view = cluster.observe()
        primary.start()
        rig.until(lambda: "fail" not in rig.nodes_of(replica)[gone].flags)
        for mode in (FailoverMode.FORCE, FailoverMode.TAKEOVER):
            apply_late(cluster, view, Failover(node=own_id, mode=mode, reason=WHY))
        assert rig.role_of(replica) != "master"
        assert rig.role_of(primary) == "master"


@pytest.mark.slow
@pytest.mark.parametrize("name", HALTS)
def test_a_halted_run_does_not_claim_slots_that_others_have_moved(
    name: str, installed: Mapping[str, str]
) -> None:
    """Another run healed the cluster and moved the slot, and clients wrote newer values."""
    with scenario.formed(named_server(name, installed), nodes=3, replicas=0) as world:
        keys = keys_of(MOVED, 20)
        for key in keys:
            scenario.client(world).set(key, "old")
        for pod in world.pods:
            pod.command("CLUSTER", "DELSLOTS", MOVED)
        variables = {
            **rig.alone(world, timeout="240"),
            "HALT_BEFORE": "ClaimSlots",
            "HALT_AT": HALTS[name],
        }
        program = (str(rig.PROGRAMS / "halted.py"),)
        with rig.started(variables, program=program) as halted:
            os.waitid(os.P_PID, halted.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert halted.poll() is None, halted.communicate()
            scenario.make_healthy(world, replicas=0)  # once the halted run has lost its lock
            added = world.add_pod()
            scenario.make_healthy(world, replicas=0)
            assert scenario.owner_of(world, MOVED) is added
            client = scenario.client(world)
            for key in keys:
                client.set(key, "new")
            halted.send_signal(signal.SIGCONT)
            _, stderr = halted.communicate(timeout=60)
        assert halted.returncode == 0, stderr
        assert "knows a new owner of slots" in stderr
        client = scenario.client(world)
        assert [client.get(key) for key in keys] == ["new"] * len(keys)
