"""Discovery against real DNS packets: pods that come late, name servers that fail, families."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.world import World
from tests.support import rig

pytestmark = pytest.mark.redis

SERVICE = "redis-service.default.svc.cluster.local"


@pytest.fixture
def world(server: ServerBinary) -> Iterator[World]:
    """Three pods, not started and not in DNS."""
    with World(nodes=3, server=server) as world:
        yield world


def alone(world: World, **more: str) -> dict[str, str]:
    changed = {f"BOOTSTRAP_{name.upper()}": value for name, value in more.items()}
    return {**world.env(), "BOOTSTRAP_REPLICAS": "0", **changed}


def asked(world: World) -> set[str]:
    return {name for name, _ in world.dns.queries}


def finish(
    world: World, change: Callable[[], None], *, after_queries: int = 4, **more: str
) -> None:
    """Start a run, change the world once it has asked a little, and see it end healthy."""
    with rig.started(alone(world, **more)) as running:
        rig.until(lambda: len(world.dns.queries) >= after_queries)
        assert running.poll() is None
        change()
        _, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    assert rig.faults(world, replicas=0) == []


def test_no_pod_is_asked_for_before_it_can_exist(world: World) -> None:
    """A question that comes too early would plant a negative answer in the caches."""
    published: set[str] = set()
    early: set[str] = set()
    with rig.started(alone(world)) as running:
        rig.until(lambda: len(world.dns.queries) >= 2)
        for pod in world.pods:
            early |= {name for name in asked(world) if name != SERVICE} - published
            seen = len(world.dns.queries)
            pod.start()
            published.add(pod.fqdn)
            rig.until(lambda seen=seen: len(world.dns.queries) > seen)
        _, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    assert early == set()
    assert rig.faults(world, replicas=0) == []


def test_negative_answers_in_a_cache_pass(world: World) -> None:
    """A Service that was asked for too early is found once the cache has forgotten it."""
    world.dns.negative_ttl_s = 3.0
    finish(world, world.start, after_queries=2)


def test_an_old_record_with_the_address_of_another_pod_passes(world: World) -> None:
    """Two names for one process are refused only when no cache can be the reason any more."""
    world.start()
    world.dns.publish("redis-app-2", world.pods[0].address)
    finish(world, lambda: world.pods[2].publish(True), after_queries=12)


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "silence"])
def test_name_servers_that_heal(fault: str, world: World) -> None:
    """SERVFAIL, REFUSED and no answer are asked again, never taken for "no such pod"."""
    world.start()
    world.dns.drop() if fault == "silence" else world.dns.fail(fault)
    finish(world, world.dns.heal)


@pytest.mark.parametrize("fault", ["SERVFAIL", "silence"])
@pytest.mark.parametrize("timeout", ["3", "7"])
def test_name_servers_that_stay_down_are_named(fault: str, timeout: str, world: World) -> None:
    """Past the deadline, also a short one, the cause names the name server; the exit code is 5."""
    world.start()
    world.dns.drop() if fault == "silence" else world.dns.fail(fault)
    result = rig.run(alone(world, timeout=timeout))
    assert result.code == 5
    assert world.dns.address in str(result.last["cause"])
    assert result.last["node"] == "redis-app-0"
    assert "CoreDNS" in str(result.last["remedy"])


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_a_name_server_that_only_fails_for_the_other_family(fault: str, world: World) -> None:
    """IPv4 addresses are enough where the question for IPv6 ones ends in an error."""
    world.start()
    world.dns.fail(fault, kind="AAAA")
    result = rig.run(alone(world, timeout="20"))
    assert result.code == 0, result.stderr


@pytest.mark.parametrize("has_srv", [True, False])
def test_missing_pods_are_named(world: World, has_srv: bool) -> None:  # noqa: FBT001 - a case
    """Past the deadline: the pods that are missing and no other, the usual causes, exit code 5."""
    if not has_srv:
        world.dns.fail("NOTIMP", kind="SRV")
    world.pods[0].start()
    world.pods[1].start()
    result = rig.run(alone(world, timeout="6"))
    cause = str(result.last["cause"])
    assert result.code == 5
    assert result.last["node"] == "redis-app-2"
    assert "redis-app-2" in cause
    assert "redis-app-0" not in cause
    assert "redis-app-1" not in cause
    assert "PVC" in str(result.last["remedy"])
    assert any(line.get("node") == "redis-app-2" for line in result.logs[:-1])


def test_big_answers_come_by_tcp(world: World) -> None:
    """A hundred pods do not fit into a datagram; all of them are found."""
    for ordinal in range(100):
        world.dns.publish(f"redis-app-{ordinal}", f"127.9.9.{ordinal + 1}")
    result = rig.run(alone(world, nodes="100", timeout="20"), "status", "--output", "json")
    absent = json.loads(result.stdout)["absent"]
    assert result.code == 5
    assert [(pod["phase"], bool(pod["address"])) for pod in absent] == [("connect", True)] * 100


def test_dead_name_servers_are_passed_over(world: World) -> None:
    """The third name server answers where the others do not, which cost their time-out once."""
    world.start()
    dead = f"{world.dns.address}:9,{world.dns.address}:10"
    result = rig.run(alone(world, nameservers=f"{dead},{world.dns.nameserver}"), "status")
    assert "redis-app-2" in result.stdout, result.stderr
    assert result.code == 5


def test_a_stale_address_corrects_itself(world: World) -> None:
    """A record that points at nobody is looked up again until it is right."""
    world.start()
    last = world.pods[2]
    world.dns.publish(last.name, "127.9.9.9")
    finish(world, lambda: world.dns.publish(last.name, last.address), after_queries=8)


def test_a_stale_address_beside_the_right_one(world: World) -> None:
    """A pod with two records is asked at both; the lock goes to the right one."""
    world.start()
    for pod in world.pods:
        world.dns.publish(pod.name, "127.0.9.9", pod.address)
    result = rig.run(alone(world, timeout="30"))
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0) == []
    assert rig.run(alone(world), "status").code == 0


def test_addresses_follow_a_pod_that_moves_in_mid_run(world: World) -> None:
    """A pod that comes back elsewhere while the run waits for another one is found again."""
    first, second, third = world.pods
    first.start()
    second.start()

    def change() -> None:
        first.terminate()
        first.move()
        first.start()
        third.start()

    finish(world, change, after_queries=6)


def test_static_endpoints_by_name(world: World) -> None:
    """BOOTSTRAP_ENDPOINTS takes names and ports, asked of the given name servers."""
    world.start()
    names = ",".join(f"{pod.fqdn}:{pod.port}" for pod in world.pods)
    variables = alone(world, endpoints=names)
    del variables["BOOTSTRAP_NODES"]
    result = rig.run(variables)
    assert result.code == 0, result.stderr
    assert SERVICE not in asked(world)
    assert rig.faults(world, replicas=0) == []


def test_ipv6_and_different_ports(world: World) -> None:
    """Endpoints on one IPv6 address, told apart by their ports."""
    with ExitStack() as sockets:
        for pod in world.pods:
            free = sockets.enter_context(socket.socket(socket.AF_INET6))
            try:
                free.bind(("::1", 0))
            except OSError:
                pytest.skip("this machine has no IPv6 loopback address")
            # The bus port is 10000 above and must be a port as well.
            port = free.getsockname()[1]
            pod.address, pod.port = "::1", port if port < 50000 else port - 20000
            pod.config |= {"bind": "::1", "bind-source-addr": "::1"}
    world.start()
    endpoints = ",".join(f"[::1]:{pod.port}" for pod in world.pods)
    result = rig.run({"BOOTSTRAP_ENDPOINTS": endpoints, "BOOTSTRAP_REPLICAS": "0"})
    assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0) == []


def test_pods_with_both_families(world: World) -> None:
    """Dual-stack records: one family is used for all."""
    world.start()
    for pod in world.pods:
        world.dns.publish(pod.name, pod.address, "::1")
    assert rig.run(alone(world)).code == 0


def test_a_pod_of_another_family_is_named(world: World) -> None:
    """Families are not mixed: the odd pod is named, with the family that it lacks."""
    world.start()
    world.dns.publish("redis-app-2", "::1")
    result = rig.run(alone(world, timeout="5"))
    cause = str(result.last["cause"])
    assert result.code == 5
    assert "redis-app-2" in cause
    assert "IPv4" in cause
    assert "redis-app-0" not in cause
