"""Who is a member, and where: pods that leave in any order, unseen members, false addresses."""

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.scenario import (
    NODE_TIMEOUT_MS,
    PROMPT,
    attempt,
    formed,
    lost,
    make_healthy,
)
from tests.support.world import World

pytestmark = pytest.mark.redis
KEYS = 500
SHORT = {"BOOTSTRAP_TIMEOUT": "6"}
SIX = {"BOOTSTRAP_NODES": "6"}


def sizes(world: World) -> set[int]:
    """Return how many nodes each pod knows."""
    return {len(rig.nodes_of(pod)) for pod in world.pods}


@pytest.mark.parametrize("has_srv", [True, False])
def test_a_lower_ordinal_left_first(way_server: ServerBinary, has_srv: bool) -> None:  # noqa: FBT001 - a case
    """Seven of eight pods are there and six are wanted: the eighth is drained all the same."""
    with formed(way_server, nodes=8, keys=KEYS) as world:
        world.remove_pod(6)
        if not has_srv:
            world.dns.fail("NOTIMP", kind="SRV")
        result = attempt(world, SIX)
        assert result.code == 0, result.stderr
        leaving = world.pods[6]
        assert leaving.command("DBSIZE") == 0
        world.remove_pod(7)
        assert rig.faults(world) == []
        assert lost(world, KEYS) == 0


def test_a_member_that_wants_a_password_is_not_gone(server: ServerBinary) -> None:
    """A process without a DNS name to which members are connected is refused, not forgotten."""
    with formed(server, nodes=8) as world:
        hidden = world.pods[7]
        world.remove_pod(6)
        hidden.publish(False)
        node_id = str(hidden.command("CLUSTER", "MYID"))
        hidden.command("CONFIG", "SET", "requirepass", "secret")
        result = attempt(world, {**SIX, **SHORT})
        assert result.code == 3, result.stderr
        assert str(hidden.address) in str(result.last["cause"])
        assert node_id[:8] in str(result.last["cause"])
        assert {len(rig.nodes_of(pod)) for pod in world.pods[:6]} == {8}


def test_a_live_owner_without_a_name_is_never_taken_for_lost(server: ServerBinary) -> None:
    """One leaving primary is dead, another serves but has no name: refused, also with consent."""
    with formed(server, nodes=5, replicas=0, keys=KEYS) as world:
        serving = world.pods[4]
        held = serving.command("DBSIZE")
        world.pods[3].kill()
        serving.publish(False)
        consent = {"BOOTSTRAP_NODES": "3", "BOOTSTRAP_ALLOW_DATA_LOSS": "true"}
        result = attempt(world, consent, replicas=0)
        assert result.code == 3, result.stderr
        assert result.last["actions"] == 0
        assert serving.command("DBSIZE") == held


def test_an_announced_address_of_another_cluster(server: ServerBinary) -> None:
    """Nothing is sent to anybody; pod and address are named."""
    with (
        formed(server, nodes=3, replicas=0, keys=KEYS) as other,
        World(nodes=3, server=server, node_timeout_ms=NODE_TIMEOUT_MS, config=PROMPT) as world,
    ):
        world.pods[2].config["cluster-announce-ip"] = other.pods[0].address
        world.start()
        result = attempt(world, replicas=0)
        assert result.code == 3, result.stderr
        assert result.last["write_commands"] == 0
        assert "redis-app-2" in str(result.last["cause"])
        assert other.pods[0].address in str(result.last["cause"])
        assert sizes(other) == {3}
        assert sizes(world) == {1}
        assert lost(other, KEYS) == 0


def test_two_pods_that_announce_one_address(server: ServerBinary) -> None:
    """The refusal names both pods."""
    with World(nodes=3, server=server, node_timeout_ms=NODE_TIMEOUT_MS, config=PROMPT) as world:
        world.pods[2].config["cluster-announce-ip"] = world.pods[1].address
        world.start()
        result = attempt(world, replicas=0)
        assert result.code == 3, result.stderr
        cause = str(result.last["cause"])
        assert "redis-app-1" in cause
        assert "redis-app-2" in cause
        assert sizes(world) == {1}


def test_an_announced_address_that_is_a_host_name(server: ServerBinary) -> None:
    """Most servers take any text (not Redis 8.6); the refusal names the pod and what to set."""
    with World(nodes=3, server=server, config=PROMPT) as world:
        world.pods[2].config["cluster-announce-ip"] = world.pods[2].name
        world.start()
        result = attempt(world, replicas=0)
        assert result.code == 3, result.stderr
        cause = str(result.last["cause"])
        assert "cluster-announce-ip of redis-app-2" in cause
        assert "cluster-announce-hostname" in str(result.last["remedy"])
        assert sizes(world) == {1}


def test_the_pod_with_the_lock_comes_back_elsewhere(server: ServerBinary) -> None:
    """The run takes its lock at the new address and goes on."""
    with formed(server, nodes=3, replicas=0, durable=True, node_timeout_ms=8000) as world:
        world.add_pod()
        env = {**world.env(), "BOOTSTRAP_REPLICAS": "0", "BOOTSTRAP_TIMEOUT": "60"}
        with rig.started(env) as running:
            assert running.stderr is not None
            for line in running.stderr:
                if "plan.computed" in line:
                    break
            world.pods[0].kill()
            world.pods[0].move()
            world.pods[0].start()
            _, stderr = running.communicate(timeout=90)
        assert running.returncode == 0, stderr
        make_healthy(world, replicas=0)
