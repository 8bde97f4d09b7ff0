"""Keys that are where no client looks for them: what a run must find before it gives slots away."""

import threading
from collections.abc import Mapping

import pytest
from redis.crc import key_slot

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.scenario import attempt, client, formed, lost, node_id, owner_of
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]
KEYS = 40
CONSENT = {"BOOTSTRAP_ALLOW_DATA_LOSS": "true"}


@pytest.fixture
def by_keys(installed: Mapping[str, str]) -> ServerBinary:
    """A server that moves slots key by key."""
    if "redis-7.0" not in installed:
        pytest.skip("redis-7.0 is not installed: run scripts/get-servers")
    return find_server(installed["redis-7.0"])


class Slot:
    """A slot with keys, of which a person moves some by hand.

    Attributes:
        keys: Their names.
        source: Its owner.
        target: Who is to have it.
    """

    def __init__(self, world: World, number: int, *, target: Pod | None = None) -> None:
        self.number = number
        tag = next(n for n in range(10**6) if key_slot(str(n).encode()) == number)
        self.keys = [f"{{{tag}}}:{i}" for i in range(KEYS)]
        self.source = owner_of(world, number)
        self.target = target or next(pod for pod in world.pods if pod is not self.source)
        cluster = client(world)
        for i, key in enumerate(self.keys):
            cluster.set(key, i)
        cluster.close()

    def open(self) -> None:
        """Open it at both ends."""
        self.at(self.target, "IMPORTING", node_id(self.source))
        self.at(self.source, "MIGRATING", node_id(self.target))

    def at(self, pod: Pod, *state: str) -> None:
        """Set its state at one pod."""
        pod.command("CLUSTER", "SETSLOT", self.number, *state)

    def move(self, first: int, last: int, target: Pod | None = None) -> None:
        """Move some of its keys."""
        there = target or self.target
        self.source.command(
            "MIGRATE", there.address, there.port, "", 0, 5000, "KEYS", *self.keys[first:last]
        )

    def missing(self, world: World) -> int:
        """Return how many keys clients do not find."""
        cluster = client(world)
        try:
            return sum(cluster.get(key) != str(i) for i, key in enumerate(self.keys))
        finally:
            cluster.close()


def test_keys_beside_a_move_that_was_stopped_come_back(way_server: ServerBinary) -> None:
    """Whatever is open, closed or given away, at either end or at a third one."""
    with formed(way_server, nodes=3, replicas=0, keys=300) as world:
        closed = Slot(world, 100)  # at the target only
        closed.open()
        closed.move(0, 20)
        closed.at(closed.target, "STABLE")
        third = Slot(world, 12000)  # has a key, too
        third.open()
        other = next(p for p in world.pods if p not in (third.source, third.target))
        third.at(other, "IMPORTING", node_id(third.source))
        third.move(0, 20)
        third.move(39, 40, other)
        given = Slot(world, 6000)  # by the source, to nobody
        given.open()
        given.source.command("CLUSTER", "DELSLOTS", given.number)
        result = attempt(world, replicas=0)

        assert result.code == 0, result.stderr
        assert [slot.missing(world) for slot in (closed, given, third)] == [0, 0, 0]
        assert lost(world, 300) == 0


def test_a_node_that_imports_keeps_its_last_slot_until_it_has_others(
    way_server: ServerBinary,
) -> None:
    """Without a slot of its own it would become a replica, and delete what it has imported."""
    with formed(way_server, nodes=4, replicas=0) as world:
        last, other = owner_of(world, 0), owner_of(world, 16000)
        end = max(rig.nodes_of(last)[node_id(last)].slots)
        for pod in (last, other):
            pod.command("CLUSTER", "DELSLOTSRANGE", 1, end)
        other.command("CLUSTER", "ADDSLOTSRANGE", 1, end)
        rig.until(lambda: all("state:ok" in str(p.command("CLUSTER", "INFO")) for p in world.pods))
        half = Slot(world, 16000, target=last)
        half.open()
        half.move(0, 20)
        other.command("CLUSTER", "SETSLOT", 0, "IMPORTING", node_id(last))
        last.command("CLUSTER", "SETSLOT", 0, "MIGRATING", node_id(other))
        result = attempt(world, replicas=0)

        assert result.code == 0, result.stderr
        assert half.missing(world) == 0


def test_slots_of_which_a_server_may_hide_keys_are_refused_in_its_name(
    installed: Mapping[str, str],
) -> None:
    """Redis from 8.4 on does not count keys of slots that nobody owns; consent loses none."""
    if "redis-8.6" not in installed:
        pytest.skip("redis-8.6 is not installed: run scripts/get-servers")
    with formed(find_server(installed["redis-8.6"]), nodes=3, replicas=0, keys=300) as world:
        slot = Slot(world, 100)
        for pod in world.pods:
            pod.command("CLUSTER", "DELSLOTS", slot.number)
        refused = attempt(world, replicas=0)
        assert refused.code == 3, refused.stderr
        assert f"{slot.source.name} has {KEYS} keys of slots that it does not own" in refused.stdout
        assert attempt(world, CONSENT, replicas=0).code == 0

        assert slot.missing(world) == 0


def test_keys_on_their_way_to_a_pod_that_is_gone_are_not_given_up(by_keys: ServerBinary) -> None:
    """A growth is killed, and the former size applied: what had moved is lost with the pod."""
    with formed(by_keys, nodes=3, replicas=0, keys=300) as world:
        world.add_pod()
        variables = {**world.env(), "BOOTSTRAP_REPLICAS": "0"}
        killed = {**variables, "KILL_AFTER": "MIGRATE", "KILL_HOW": "kill"}
        rig.run(killed, program=(str(rig.PROGRAMS / "killpoint.py"),))
        gone = node_id(world.pods[3])
        world.remove_pod(3)
        refused = attempt(world, replicas=0)
        assert refused.code == 3, refused.stderr
        assert f"to member {gone[:8]}, which is gone with the keys" in refused.stdout

        assert attempt(world, CONSENT, replicas=0).code == 0


def test_a_leaving_pod_that_restarts_is_waited_for(by_keys: ServerBinary) -> None:
    """Consent to lose data is not consent to give up a pod that comes back in a moment."""
    with formed(by_keys, nodes=4, replicas=0, keys=300, durable=True) as world:
        leaver = world.pods[3]
        leaver.kill()
        # Later than a run without that would wait, and sooner than a pod counts as gone.
        back = threading.Timer(6.0, leaver.start)
        back.start()
        result = attempt(world, {**CONSENT, "BOOTSTRAP_NODES": "3"}, replicas=0)
        back.join()
        assert result.code == 0, result.stderr
        assert lost(world, 300) == 0
