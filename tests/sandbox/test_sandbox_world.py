import os
from collections.abc import Callable

import dns.message
import dns.query
import dns.rcode
import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.errors import ReplyError, SandboxError
from bootstrap.sandbox.pod import Pod
from tests.support.world import World

SERVICE = "redis-service.default.svc.cluster.local"

WaitUntil = Callable[[Callable[[], bool]], None]

pytestmark = pytest.mark.redis


def _resolve(world: World, name: str, rdtype: str = "A") -> set[str]:
    query = dns.message.make_query(name, rdtype)
    response = dns.query.tcp(query, world.dns.address, port=world.dns.port, timeout=5)
    return {rdata.to_text() for rrset in response.answer for rdata in rrset}


def _text(pod: Pod, *args: str | int) -> str:
    reply = pod.command(*args)
    assert isinstance(reply, str)
    return reply


def _own_id(pod: Pod) -> str:
    return _text(pod, "CLUSTER", "MYID")


def test_world_begins_without_pods_in_dns(world: World) -> None:
    """Before the pods start DNS answers, and knows none of them."""
    query = dns.message.make_query(world.pods[0].fqdn, "A")
    response = dns.query.udp(query, world.dns.address, port=world.dns.port, timeout=5)
    assert response.rcode() == dns.rcode.NXDOMAIN


def test_started_pods_answer_at_their_names(world: World) -> None:
    """Each pod is an isolated server in cluster mode at the address of its name."""
    world.start()
    for ordinal, pod in enumerate(world.pods):
        assert pod.fqdn == f"redis-app-{ordinal}.redis-service.default.svc.cluster.local"
        assert _resolve(world, pod.fqdn) == {pod.address}
        assert "cluster_known_nodes:1\r\n" in _text(pod, "CLUSTER", "INFO")
    assert len({pod.address for pod in world.pods}) == 3


def test_pod_listens_on_its_own_address_only(world: World, server: ServerBinary) -> None:
    """The other addresses of the block stay free."""
    world.start()
    spare = world.pods[0].address.rsplit(".", 1)[0] + ".200"
    stranger = World(nodes=1, server=server)
    with stranger:
        stranger.pods[0].move(spare)
        stranger.start()
        assert _own_id(stranger.pods[0]) != _own_id(world.pods[0])


def test_env_points_the_program_here(server: ServerBinary) -> None:
    """The variables carry every name that was chosen, and the pods there are now."""
    with World(
        nodes=2,
        server=server,
        statefulset="app",
        port=7379,
        password="secret word",
    ) as world:
        assert world.env() == {
            "BOOTSTRAP_NODES": "2",
            "BOOTSTRAP_STATEFULSET": "app",
            "BOOTSTRAP_SERVICE": "redis-service",
            "BOOTSTRAP_NAMESPACE": "default",
            "BOOTSTRAP_CLUSTER_DOMAIN": "cluster.local",
            "BOOTSTRAP_PORT": "7379",
            "BOOTSTRAP_NAMESERVERS": world.dns.nameserver,
            "BOOTSTRAP_PASSWORD": "secret word",
        }
        assert world.pods[0].fqdn == f"app-0.{SERVICE}"


def test_password_is_asked_for(server: ServerBinary) -> None:
    """With a password, commands log in, and are refused without it."""
    with World(nodes=1, server=server, password='a "quoted" \\ word') as world:
        world.start()
        pod = world.pods[0]
        assert pod.command("PING") == "PONG"
        pod.options = {}
        with pytest.raises(ReplyError) as caught:
            pod.command("PING")
        assert caught.value.code == "NOAUTH"


def test_replies_keep_their_kind(world: World) -> None:
    """Numbers, nothing, lists, bytes and errors come back as what they are."""
    pod = world.pods[0]
    pod.start()
    pod.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    assert pod.command("CLUSTER", "KEYSLOT", "foo") == 12182
    assert pod.command("CLUSTER", "COUNTKEYSINSLOT", "7") == 0
    assert pod.command("CONFIG", "GET", "no-such-directive") == []
    assert pod.command("ACL", "GETUSER", "nobody") is None
    assert pod.command("ECHO", b"\xff\n") == "\\xff\n"
    with pytest.raises(ReplyError) as caught:
        pod.command("NO-SUCH-COMMAND")
    assert caught.value.code == "ERR"


def test_killed_pod_keeps_name_and_identity(world: World) -> None:
    """After kill -9 the records stay, and the same node comes back."""
    pod = world.pods[0]
    pod.start()
    node_id = _own_id(pod)
    pod.kill()
    assert not pod.is_running
    assert _resolve(world, pod.fqdn) == {pod.address}
    with pytest.raises(OSError, match="refused"):
        pod.command("PING")
    pod.start()
    assert _own_id(pod) == node_id


def test_terminated_pod_ended_by_itself(world: World) -> None:
    """SIGTERM lets the server end in order, and it says so in its log."""
    pod = world.pods[0]
    pod.start()
    pod.terminate()
    assert not pod.is_running
    assert "bye bye" in pod.log_text()


def test_paused_pod_is_silent_and_comes_back(world: World) -> None:
    """A paused pod takes connections and answers none of them until resumed."""
    pod = world.pods[0]
    pod.start()
    pod.pause()
    assert pod.is_running
    with pytest.raises(TimeoutError):
        pod.command("PING", timeout_s=0.2)
    pod.resume()
    assert pod.command("PING") == "PONG"


def test_wiped_pod_is_somebody_else(world: World) -> None:
    """A pod whose volume was lost comes back as a new node; its log stays readable."""
    pod = world.pods[0]
    pod.start()
    node_id = _own_id(pod)
    with pytest.raises(SandboxError):
        pod.wipe()
    pod.kill()
    pod.wipe()
    assert list(pod.directory.iterdir()) == []
    pod.start()
    assert _own_id(pod) != node_id
    assert pod.log_text().count("Ready to accept connections") == 2


def test_appendonly_data_survives(server: ServerBinary, wait_until: WaitUntil) -> None:
    """With appendonly the keys are there again after kill -9."""
    with World(nodes=1, server=server, appendonly=True) as world:
        world.start()
        pod = world.pods[0]
        pod.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: "cluster_state:ok" in _text(pod, "CLUSTER", "INFO"))
        pod.command("SET", "foo", "bar")
        pod.kill()
        pod.start()
        assert pod.command("DBSIZE") == 1


def test_moved_pod_has_a_new_address_in_dns(world: World) -> None:
    """A pod that comes back elsewhere keeps its id, and its name leads to the new address."""
    world.start()
    pod = world.pods[0]
    node_id, old = _own_id(pod), pod.address
    with pytest.raises(SandboxError):
        pod.move()
    pod.kill()
    pod.move()
    assert pod.address not in {old, *(other.address for other in world.pods[1:])}
    assert _resolve(world, pod.fqdn) == {pod.address}
    pod.start()
    assert _own_id(pod) == node_id


def test_pods_can_swap_addresses(world: World) -> None:
    """Two stopped pods can take each other's address."""
    first, second, _ = world.pods
    world.start()
    ids = _own_id(first), _own_id(second)
    first.kill()
    second.kill()
    addresses = first.address, second.address
    first.move(addresses[1])
    second.move(addresses[0])
    world.start()
    assert (second.address, first.address) == addresses
    assert (_own_id(first), _own_id(second)) == ids


def test_pods_can_share_an_address(world: World) -> None:
    """Pods behind one address differ by their ports, as on one virtual machine."""
    for pod in world.pods:
        pod.move(world.pods[0].address)
        pod.port += pod.ordinal
    world.start()
    assert len({_own_id(pod) for pod in world.pods}) == 3
    assert _resolve(world, SERVICE) == {world.pods[0].address}


def test_pod_on_ipv6(world: World) -> None:
    """A pod can live on IPv6, and has no A record then."""
    pod = world.pods[0]
    # There is one such address on a machine; bus ports end below the ephemeral ones.
    pod.move("::1")
    pod.port = 12000 + os.getpid() % 10000
    pod.start()
    assert pod.command("PING") == "PONG"
    assert _resolve(world, pod.fqdn, "AAAA") == {"::1"}
    assert _resolve(world, pod.fqdn) == set()


def test_unpublished_pod_is_not_in_dns(world: World) -> None:
    """A pod can run without a record, until it gets one."""
    pod = world.pods[0]
    pod.publish(False)
    world.start()
    assert _resolve(world, pod.fqdn) == set()
    pod.publish(True)
    assert _resolve(world, pod.fqdn) == {pod.address}


def test_added_pod_is_next_in_line(world: World) -> None:
    """A pod more runs, is in DNS, and counts."""
    world.start()
    pod = world.add_pod()
    assert (pod.ordinal, pod.command("PING")) == (3, "PONG")
    assert _resolve(world, pod.fqdn) == {pod.address}
    assert world.env()["BOOTSTRAP_NODES"] == "4"


def test_removed_pod_leaves_its_claim(world: World) -> None:
    """A removed pod leaves DNS; when its ordinal is needed again it finds its directory."""
    world.start()
    pod = world.pods[2]
    node_id = _own_id(pod)
    world.remove_pod(2)
    assert not pod.is_running
    assert _resolve(world, pod.fqdn) == set()
    assert _own_id(world.add_pod()) == node_id
    with pytest.raises(SandboxError):
        world.remove_pod(7)


def test_config_of_world_and_pod(server: ServerBinary) -> None:
    """Directives can be given for all pods and for one; the pod's win."""
    with World(nodes=2, server=server, config={"maxmemory": "64mb"}, node_timeout_ms=3000) as world:
        world.pods[1].config["maxmemory"] = "32mb"
        world.start()
        assert [pod.command("CONFIG", "GET", "maxmemory") for pod in world.pods] == [
            ["maxmemory", "67108864"],
            ["maxmemory", "33554432"],
        ]
        assert world.pods[0].command("CONFIG", "GET", "cluster-node-timeout") == [
            "cluster-node-timeout",
            "3000",
        ]


def test_refused_directive_shows_the_servers_words(server: ServerBinary) -> None:
    """A server that does not start is reported with what it said."""
    with (
        World(nodes=1, server=server, config={"no-such-directive": "1"}) as world,
        pytest.raises(SandboxError) as caught,
    ):
        world.start()
    assert "no-such-directive" in caught.value.problem


def test_worlds_do_not_share_addresses(server: ServerBinary) -> None:
    """Two worlds at once have different addresses, and leave nothing of their own behind."""
    with World(nodes=1, server=server) as first, World(nodes=1, server=server) as second:
        first.start()
        second.start()
        assert first.pods[0].address != second.pods[0].address
        assert first.directory != second.directory
    assert not first.directory.exists()
    assert not second.directory.exists()
    first.close()


@pytest.mark.slow
def test_hundred_pods(server: ServerBinary) -> None:
    """A hundred pods start, move all at once, and start again."""
    with World(nodes=100, server=server) as world:
        world.start()
        old = {pod.address for pod in world.pods}
        for pod in world.pods:
            pod.kill()
        for pod in world.pods:
            pod.move()
        world.start()
        assert not old & {pod.address for pod in world.pods}
        assert len(_resolve(world, SERVICE)) == 100
