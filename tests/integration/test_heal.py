"""Every damage that the program is to fix, by name; and those it must refuse."""

import itertools
import shutil
from functools import partial

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.errors import ReplyError
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.scenario import (
    NODE_TIMEOUT_MS,
    PROMPT,
    attempt,
    client,
    fill,
    formed,
    lost,
    make_healthy,
    node_id,
    owner_of,
    primaries,
    replicas,
)
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]
KEYS = 600


def roles(world: World) -> list[str]:
    """Return each pod's role, by ordinal."""
    return [rig.role_of(pod) for pod in world.pods]


def sees_failure(world: World) -> bool:
    """Return whether every pod flags another as failing."""
    lines = [line for pod in world.pods for line in [rig.nodes_of(pod).values()]]
    return all(any("fail" in " ".join(line.flags) for line in view) for view in lines)


def shard_mate(world: World, pod: Pod) -> Pod:
    """Return a replica of the pod."""
    return next(p for p in world.pods if rig.nodes_of(p)[node_id(p)].primary == node_id(pod))


def is_accepted(pod: Pod, *command: str | int) -> bool:
    """Return whether the pod answers a command without an error, and not with 0."""
    try:
        return pod.command(*command) != 0
    except ReplyError:
        return False


def shows_open(pod: Pod) -> bool:
    """Return whether the pod shows a slot in transit."""
    return "[" in str(pod.command("CLUSTER", "NODES"))


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after all were declared failed"])
def test_all_pods_on_new_addresses(way_server: ServerBinary, *, late: bool) -> None:
    """Everybody comes back elsewhere: no role changes, own addresses are right, no hold stays."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        before = roles(world)
        for pod in world.pods:
            pod.kill()
        for pod in world.pods:
            pod.move()
            pod.start()
        if late:
            rig.until(lambda: sees_failure(world))

        make_healthy(world)

        assert roles(world) == before
        assert lost(world, KEYS) == 0
        held = [
            rig.items(pod.command("CONFIG", "GET", "cluster-replica-no-failover"))[1]
            for pod in world.pods
        ]
        assert held == ["no"] * 6


def test_some_pods_on_new_addresses(way_server: ServerBinary) -> None:
    """A primary and a replica of another shard come back elsewhere."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        for pod in (world.pods[0], world.pods[4]):
            pod.kill()
            pod.move()
            pod.start()

        make_healthy(world)

        assert lost(world, KEYS) == 0


def test_two_pods_that_swapped_addresses(way_server: ServerBinary) -> None:
    """Two primaries come back, each where the other was; they are known by their ids."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        one, other = world.pods[0], world.pods[1]
        first, second = one.address, other.address
        one.kill()
        other.kill()
        one.move()
        other.move(first)
        one.move(second)
        one.start()
        other.start()

        make_healthy(world)

        assert lost(world, KEYS) == 0


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_an_empty_pod_in_place_of_a_lost_one(way_server: ServerBinary, role: str) -> None:
    """A pod without its volume becomes a replica where one is missing; its old id is forgotten."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        pod = (primaries if role == "primary" else replicas)(world)[0]
        old = node_id(pod)
        pod.kill()
        pod.wipe()
        pod.move()
        pod.start()

        make_healthy(world)

        assert rig.role_of(pod) == "slave"
        assert all(old not in rig.nodes_of(p) for p in world.pods)
        assert lost(world, KEYS) == 0


def test_an_empty_pod_at_the_address_of_the_lost_one(way_server: ServerBinary) -> None:
    """Redis' replica copies its emptiness before it is elected: that loss needs consent."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        pod, replica = world.pods[0], shard_mate(world, world.pods[0])
        pod.kill()
        pod.wipe()
        pod.start()
        rig.until(lambda: rig.role_of(replica) == "master" or not replica.command("DBSIZE"))
        is_emptied = replica.command("DBSIZE") == 0
        if is_emptied:
            refused = attempt(world)
            assert refused.code == 3
            assert refused.last["write_commands"] == 0

        make_healthy(world, {"BOOTSTRAP_ALLOW_DATA_LOSS": str(is_emptied)})

        assert (lost(world, KEYS) > 0) == is_emptied


def test_most_primaries_lost_with_their_volumes(way_server: ServerBinary) -> None:
    """Without a quorum nobody can vote; the replicas take over and nothing is lost."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        for pod in primaries(world)[:2]:
            pod.kill()
            pod.wipe()
            pod.move()
            pod.start()

        make_healthy(world)

        assert lost(world, KEYS) == 0


def test_a_primary_lost_with_its_only_copy_needs_consent(way_server: ServerBinary) -> None:
    """Slots whose keys nobody has are given away only with BOOTSTRAP_ALLOW_DATA_LOSS."""
    with formed(way_server, nodes=3, replicas=0, keys=KEYS, durable=True) as world:
        pod = world.pods[0]
        pod.kill()
        pod.wipe()
        pod.move()
        pod.start()

        refused = attempt(world, replicas=0)
        assert refused.code == 3
        assert refused.last["write_commands"] == 0

        make_healthy(world, {"BOOTSTRAP_ALLOW_DATA_LOSS": "true"}, replicas=0)
        assert 0 < lost(world, KEYS) < KEYS


CASES = {
    "only source migrating": "M",
    "only target importing": "I",
    "both, key moved": "MIk",
    "both, key moved, source told": "MIks",
    "both, key moved, target told": "MIkt",
}


@pytest.mark.parametrize("steps", CASES.values(), ids=CASES.keys())
def test_half_migrated_slot(way_server: ServerBinary, steps: str) -> None:
    """Every stop of a slot's move is finished or reverted, and the key is there afterwards."""
    with formed(way_server) as world:
        source = owner_of(world, 609)
        target = next(p for p in primaries(world) if p is not source)
        source_id, target_id = node_id(source), node_id(target)
        source.command("SET", "aga", "xyz")
        if "M" in steps:
            source.command("CLUSTER", "SETSLOT", 609, "MIGRATING", target_id)
        if "I" in steps:
            target.command("CLUSTER", "SETSLOT", 609, "IMPORTING", source_id)
        if "k" in steps:
            source.command("MIGRATE", target.address, target.port, "", 0, 5000, "KEYS", "aga")
        if "s" in steps:
            source.command("CLUSTER", "SETSLOT", 609, "NODE", target_id)
        if "t" in steps:
            target.command("CLUSTER", "SETSLOT", 609, "NODE", target_id)

        make_healthy(world)

        assert client(world).get("aga") == "xyz"


def test_many_slots_left_open(way_server: ServerBinary) -> None:
    """Two hundred slots left migrating and importing at once are settled with all their keys."""
    with formed(way_server, keys=3000) as world:
        source, target = primaries(world)[:2]
        first = min(rig.nodes_of(source)[node_id(source)].slots)
        for slot in range(first, first + 200):
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
            target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))

        make_healthy(world)

        assert lost(world, 3000) == 0


def test_what_was_moved_to_a_lost_pod_comes_back_from_its_replica(way_server: ServerBinary) -> None:
    """The pod owned nothing yet, so nobody elects its replica; that has the only copy."""
    with formed(way_server, keys=KEYS) as world:
        source, joiner, replica = primaries(world)[0], world.add_pod(), world.add_pod()
        for pod in (joiner, replica):
            pod.command("CLUSTER", "MEET", source.address, source.port)
        rig.until(lambda: all(len(rig.nodes_of(p)) == 8 for p in world.pods))
        rig.until(lambda: is_accepted(replica, "CLUSTER", "REPLICATE", node_id(joiner)))
        rig.until(lambda: rig.info_of(replica, "INFO", "replication")["master_link_status"] == "up")
        rig.until(lambda: rig.info_of(joiner, "CLUSTER", "INFO")["cluster_state"] == "ok")
        moved = 0
        for slot in sorted(rig.nodes_of(source)[node_id(source)].slots)[:60]:
            joiner.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(joiner))
            for key in rig.items(source.command("CLUSTER", "GETKEYSINSLOT", slot, 10)):
                source.command("MIGRATE", joiner.address, joiner.port, str(key), 0, 5000)
                moved += 1
        rig.until(lambda: f"keys={moved}," in str(replica.command("INFO", "keyspace")))
        joiner.kill()
        joiner.wipe()
        joiner.move()
        joiner.start()

        make_healthy(world)

        assert moved
        assert lost(world, KEYS) == 0


def test_the_source_of_half_moved_slots_is_lost(way_server: ServerBinary) -> None:
    """What importing nodes hold goes to the elected replica, of which they do not hear."""
    with formed(way_server, keys=KEYS, durable=True) as world:
        source, target = primaries(world)[:2]
        replica = shard_mate(world, source)
        slots = sorted(rig.nodes_of(source)[node_id(source)].slots)
        for slot in slots[:60]:
            target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
            source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
            for key in rig.items(source.command("CLUSTER", "GETKEYSINSLOT", slot, 10)):
                source.command("MIGRATE", target.address, target.port, str(key), 0, 5000)
        rig.until(lambda: replica.command("DBSIZE") == source.command("DBSIZE"))
        source.kill()
        source.wipe()
        source.move()
        source.start()

        make_healthy(world)

        assert lost(world, KEYS) == 0


def test_a_slot_that_only_a_replica_still_shows_open(way_server: ServerBinary) -> None:
    """Valkey's replicas keep open slots too; one was down when its primary closed the slot."""
    with formed(way_server, keys=KEYS) as world:
        source, target = primaries(world)[:2]
        replica = shard_mate(world, source)
        slot = min(rig.nodes_of(source)[node_id(source)].slots)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
        rig.until(lambda: way_server.engine == "redis" or shows_open(replica))
        replica.kill()
        for pod in (source, target):
            rig.until(partial(is_accepted, pod, "CLUSTER", "SETSLOT", slot, "STABLE"))
        replica.start()

        make_healthy(world)

        assert not any(shows_open(pod) for pod in world.pods)
        assert lost(world, KEYS) == 0


def test_slots_nobody_owns_go_back_to_who_holds_their_keys(way_server: ServerBinary) -> None:
    """A primary that gave slots with keys away gets them back."""
    with formed(way_server, keys=KEYS) as world:
        owner = owner_of(world, 100)
        for pod in primaries(world):
            pod.command("CLUSTER", "DELSLOTS", *range(100, 160))
        assert 100 not in rig.nodes_of(owner)[node_id(owner)].slots

        make_healthy(world)

        assert lost(world, KEYS) == 0


def test_slots_owned_twice(way_server: ServerBinary) -> None:
    """A slot that two primaries say they own ends with one owner, and its key is there.

    The rival has the lower epoch: servers delete the keys of the other one by themselves.
    """
    with formed(way_server) as world:
        rival, owner = world.pods[0], owner_of(world, 12182)
        owner.command("SET", "foo", "xyz")
        rival.command("CLUSTER", "DELSLOTS", 12182)
        rival.command("CLUSTER", "ADDSLOTS", 12182)

        make_healthy(world)

        assert client(world).get("foo") == "xyz"


def test_an_old_primary_behind_a_cut_bus_does_not_win(way_server: ServerBinary) -> None:
    """Clients work at the replica that was elected, so what the old primary has is outdated."""
    if way_server.engine != "valkey":
        pytest.skip("only Valkey can be told to drop every packet of the bus")
    config = {**PROMPT, "enable-debug-command": "yes"}
    with World(nodes=6, server=way_server, node_timeout_ms=NODE_TIMEOUT_MS, config=config) as world:
        world.start()
        make_healthy(world)
        fill(world, KEYS)
        old, heir = world.pods[0], shard_mate(world, world.pods[0])
        old.command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -2)
        heir.command("CLUSTER", "FAILOVER", "FORCE")
        rig.until(lambda: bool(rig.nodes_of(heir)[node_id(heir)].slots))
        held = [f"key:{n}" for n in range(KEYS) if is_accepted(heir, "EXISTS", f"key:{n}")]
        for key in held[1:]:
            heir.command("DEL", key)
        heir.command("SET", held[0], "newer")

        result = attempt(world, {"BOOTSTRAP_TIMEOUT": "8"})
        old.command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1)
        make_healthy(world)

        assert result.code == 5
        assert [heir.command("EXISTS", key) for key in held] == [1] + [0] * (len(held) - 1)
        assert heir.command("GET", held[0]) == "newer"


def test_a_member_that_another_forgot(way_server: ServerBinary) -> None:
    """One-sided knowledge, also while the ban of the FORGET lasts and spreads."""
    with formed(way_server) as world:
        world.pods[0].command("CLUSTER", "FORGET", node_id(world.pods[5]))

        make_healthy(world)


def test_a_handshake_that_never_ends(way_server: ServerBinary) -> None:
    """A MEET to where nobody answers does not keep the cluster from being healthy for long."""
    with formed(way_server) as world:
        world.pods[0].command("CLUSTER", "MEET", "127.255.255.1", 6379)

        make_healthy(world)


def test_uneven_replicas_are_levelled(way_server: ServerBinary) -> None:
    """A shard with two replicas gives one to the shard with none."""
    with formed(way_server) as world:
        wanderer, other = replicas(world)[:2]
        target = rig.nodes_of(other)[node_id(other)].primary
        wanderer.command("CLUSTER", "REPLICATE", target)
        rig.until(lambda: rig.nodes_of(wanderer)[node_id(wanderer)].primary == target)

        make_healthy(world)


def test_roles_after_a_failover_are_left(way_server: ServerBinary) -> None:
    """A second run after a failover writes nothing, since any member of a shard may be primary."""
    with formed(way_server) as world:
        heir = replicas(world)[0]
        heir.command("CLUSTER", "FAILOVER")
        rig.until(lambda: rig.role_of(heir) == "master")
        make_healthy(world)

        assert make_healthy(world).last["write_commands"] == 0
        assert rig.role_of(heir) == "master"


def test_two_pods_with_one_id_are_refused(way_server: ServerBinary) -> None:
    """A copied volume is named with both pods, and nothing is changed."""
    with World(nodes=6, server=way_server, node_timeout_ms=NODE_TIMEOUT_MS, config=PROMPT) as world:
        world.start()
        copy = world.pods[4]
        copy.kill()
        shutil.copy(world.pods[1].directory / "nodes.conf", copy.directory / "nodes.conf")
        copy.start()

        result = attempt(world)

        assert result.code == 3
        assert "redis-app-1" in str(result.last["cause"])
        assert "redis-app-4" in str(result.last["cause"])
        assert all(len(rig.nodes_of(pod)) == 1 for pod in world.pods)


def test_an_address_that_is_now_another_clusters_pod(way_server: ServerBinary) -> None:
    """A name that leads to a pod of another cluster is refused, and neither cluster changes."""
    with formed(way_server, keys=KEYS) as world, formed(way_server, keys=KEYS) as other:
        stranger = other.pods[0]
        before = [sorted(rig.nodes_of(pod)) for pod in itertools.chain(world.pods, other.pods)]
        world.pods[5].kill()
        world.dns.publish(world.pods[5].name, stranger.address)

        result = attempt(world)

        after = [sorted(rig.nodes_of(p)) for p in (*world.pods[:5], *other.pods)]
        assert result.code == 3
        assert result.last["write_commands"] == 0
        assert after == before[:5] + before[6:]


def test_colliding_epochs_are_separated(way_server: ServerBinary) -> None:
    """Two primaries that came together with one config epoch end with different ones."""
    with World(nodes=6, server=way_server, node_timeout_ms=NODE_TIMEOUT_MS, config=PROMPT) as world:
        world.start()
        for pod, (first, last) in zip(
            world.pods, [(0, 5460), (5461, 10922), (10923, 16383)], strict=False
        ):
            pod.command("CLUSTER", "SET-CONFIG-EPOCH", 7)
            pod.command("CLUSTER", "ADDSLOTS", *range(first, last + 1))

        make_healthy(world)


def test_a_slot_given_by_hand_on_two_of_three_primaries(way_server: ServerBinary) -> None:
    """SETSLOT NODE without a move gives no new epoch, so the third believes the old owner."""
    with formed(way_server, nodes=3, replicas=0, keys=KEYS) as world:
        heir, _, giver = world.pods
        slots = sorted(rig.nodes_of(giver)[node_id(giver)].slots)
        slot = next(s for s in slots if not giver.command("CLUSTER", "COUNTKEYSINSLOT", s))
        for pod in (giver, heir):
            pod.command("CLUSTER", "SETSLOT", slot, "NODE", node_id(heir))

        make_healthy(world, replicas=0)

        assert lost(world, KEYS) == 0
