"""Discovery against real DNS packets: pods that come late, name servers that fail, families."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import dns.rcode
import pytest

from bootstrap.net.discovery import ServiceDiscovery
from bootstrap.net.pod_names import PodNames
from bootstrap.net.resolver import NameServer, Resolver, ask, resolver_for
from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.dns_proxy import (
    Cache,
    Proxy,
    alias_to,
    answering,
    dropping,
    refusing_edns,
    service_only,
)
from tests.support.rig import alone
from tests.support.world import FaultyZoneServer, World

pytestmark = pytest.mark.redis

SERVICE = "redis-service.default.svc.cluster.local"
# As many questions as there are about a Service, and some.
MOST_TURNS = 12


@pytest.fixture
def world(server: ServerBinary) -> Iterator[World]:
    """Three pods, not started and not in DNS."""
    with World(nodes=3, server=server) as world:
        yield world


def asked(world: World) -> set[str]:
    return {name for name, _ in world.dns.queries}


def has_more_questions(server: FaultyZoneServer | Proxy, count: int) -> bool:
    return len(server.queries) > count


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
            before = len(world.dns.queries)
            pod.start()
            published.add(pod.fqdn)
            rig.until(partial(has_more_questions, world.dns, before))
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
    named = [line["pods"] for line in result.logs if line["event"] == "pods.waited"]
    assert named
    assert named[-1] == [f"redis-app-{i}" for i in range(2, len(world.pods))]


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
    """A record that points at an unused address is asked for again until it is right."""
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
    """Endpoints on one IPv6 address that differ by their ports."""
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


@pytest.mark.parametrize("rcode", ["FORMERR", "NOTIMP", None])
def test_name_servers_that_refuse_edns(rcode: str | None, world: World) -> None:
    """A question that EDNS spoils is asked once more without it."""
    world.start()
    code = None if rcode is None else dns.rcode.from_text(rcode)
    with answering(world, refusing_edns(code)) as proxy:
        result = rig.run(alone(world, nameservers=proxy.nameserver, timeout="30"))
    assert result.code == 0, result.stderr


def test_a_type_that_is_never_answered_is_not_waited_for(world: World) -> None:
    """Where A has answered, AAAA is asked for briefly or not at all."""
    world.start()
    with answering(world, dropping("AAAA")) as proxy:
        result = rig.run(alone(world, nameservers=proxy.nameserver, timeout="30"))
    assert result.code == 0, result.stderr
    assert sum(kind == "AAAA" for _, kind in proxy.queries) <= len(world.pods)


def test_a_silent_name_server_is_asked_last_by_all_questions(world: World) -> None:
    """Questions that meet the same silence together do not put the server first again."""

    async def rounds() -> list[str]:
        silent = NameServer(ip=world.dns.address, port=9)
        well = NameServer(ip=world.dns.address, port=world.dns.port)
        resolver = Resolver(servers=[silent, well], timeout_s=0.5)
        for _ in range(2):
            await asyncio.gather(*(ask(resolver, SERVICE, kind) for kind in ("A", "AAAA", "SRV")))
        return [str(server) for server in resolver.servers]

    world.start()
    assert asyncio.run(rounds()) == [world.dns.nameserver, f"{world.dns.address}:9"]


def test_replies_from_another_address_are_named(world: World) -> None:
    """The cause is the address that answered, not a time-out."""
    world.start()
    with answering(world, lambda query, forward: forward(query), reply_host=252) as proxy:
        result = rig.run(alone(world, nameservers=proxy.nameserver, timeout="6"))
    prefix = world.dns.address.rpartition(".")[0]
    assert result.code == 5
    assert f"another address, {prefix}.252" in str(result.last["cause"])
    assert "br_netfilter" in str(result.last["remedy"])


def test_an_alias_is_not_yet_and_gets_no_password(server: ServerBinary) -> None:
    """A wildcard record that answers for missing names does not lead the program elsewhere."""
    with World(nodes=3, server=server, password="a secret") as world:
        prefix = world.dns.address.rpartition(".")[0]
        with (
            socket.create_server((f"{prefix}.251", world.port)) as elsewhere,
            answering(world, alias_to("redis.corp.example", f"{prefix}.251")) as proxy,
        ):
            elsewhere.setblocking(False)
            result = rig.run(alone(world, nameservers=proxy.nameserver, timeout="4"))
            with pytest.raises(BlockingIOError):
                elsewhere.accept()
    assert result.code == 5
    assert "redis.corp.example" in str(result.last["cause"])
    assert proxy.nameserver in str(result.last["cause"])


def test_a_service_that_is_not_headless_is_named(world: World) -> None:
    """One address and an SRV record of the Service itself: the cause is the Service."""
    with answering(world, service_only(SERVICE, "127.9.9.9")) as proxy:
        result = rig.run(alone(world, nameservers=proxy.nameserver, timeout="4"))
    assert result.code == 5
    assert "not headless" in str(result.last["cause"])


def test_ordinals_from_one_are_named(server: ServerBinary) -> None:
    """The pods that are there show that the StatefulSet starts elsewhere."""
    with World(nodes=4, server=server) as world:
        world.start()
        world.remove_pod(0)
        result = rig.run(alone(world, timeout="5"))
    assert result.code == 5
    assert result.last["node"] == "redis-app-0"
    assert "redis-app-1 to redis-app-3" in str(result.last["cause"])
    assert "spec.ordinals.start" in str(result.last["remedy"])


def test_another_cluster_domain_shows_the_name_that_was_asked(world: World) -> None:
    """Nothing exists under the domain: the cause is the name, not a pending claim alone."""
    world.start()
    result = rig.run(alone(world, timeout="3", cluster_domain="cluster.locale"))
    assert result.code == 5
    assert "redis-service.default.svc.cluster.locale" in str(result.last["cause"])


def test_pods_beyond_the_wanted_number_are_found(world: World) -> None:
    """Names beyond the number are a surplus, and no name that cannot exist is asked for."""
    for ordinal in range(5):
        world.dns.publish(f"redis-app-{ordinal}", f"127.9.9.{ordinal + 1}")
    discovery = ServiceDiscovery(
        nodes=3,
        statefulset="redis-app",
        service=SERVICE,
        port=world.port,
        nameservers=[(world.dns.address, world.dns.port)],
    )
    found = asyncio.run(discovery.find())
    names = [endpoint.name for endpoint in found.endpoints if endpoint.ordinal >= 3]
    assert names == ["redis-app-3", "redis-app-4"]
    assert asked(world) == {SERVICE, *(endpoint.host for endpoint in found.endpoints)}


@pytest.mark.parametrize("first_after", [4, 14])
def test_a_cache_of_half_a_minute_is_got_round(world: World, first_after: int) -> None:
    """An early question, and a list that is not complete yet, do not delay the run by 30 s."""
    with (
        answering(world, Cache(30.0)) as proxy,
        rig.started(alone(world, nameservers=proxy.nameserver)) as running,
    ):
        rig.until(lambda: len(proxy.queries) >= first_after, seconds=60)
        world.pods[0].start()
        rig.until(lambda: world.pods[0].fqdn in proxy.names)
        for pod in world.pods[1:]:
            rig.until(partial(has_more_questions, proxy, len(proxy.queries) + 3))
            pod.start()
        published = len(proxy.queries)
        rig.until(lambda: {pod.fqdn for pod in world.pods} <= proxy.names, seconds=60)
        needed = len(proxy.queries) - published
        _, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    # Two or three turns of a question about the Service and one for each pod.
    assert needed <= 16


def test_a_cache_does_not_hide_pods_beyond_the_wanted_number(world: World) -> None:
    """All wanted pods are known, and still each look at the Service is a fresh one."""

    async def found(proxy: Proxy) -> list[str]:
        host, _, port = proxy.nameserver.partition(":")
        discovery = ServiceDiscovery(
            nodes=2,
            statefulset="redis-app",
            service=SERVICE,
            port=world.port,
            nameservers=[(host, int(port))],
        )
        for _ in range(3):
            assert len((await discovery.find()).endpoints) == 2
        world.dns.publish("redis-app-2", "127.9.9.3")
        return [endpoint.name for endpoint in (await discovery.find()).endpoints]

    for ordinal in range(2):
        world.dns.publish(f"redis-app-{ordinal}", f"127.9.9.{ordinal + 1}")
    with answering(world, Cache(30.0)) as proxy:
        assert asyncio.run(found(proxy)) == ["redis-app-0", "redis-app-1", "redis-app-2"]


def test_a_list_that_caches_keep_incomplete_is_got_round(world: World) -> None:
    """Where no list can be fresh, a missing pod is asked for in a way that harms no other."""

    async def turns(proxy: Proxy) -> int:
        host, _, port = proxy.nameserver.partition(":")
        nameservers = [(host, int(port))]
        early = PodNames(resolver_for(nameservers, timeout_s=60), SERVICE)
        for _ in range(8):
            await early.observe(3)
        world.dns.publish("redis-app-2", "127.9.9.3")
        late = ServiceDiscovery(
            nodes=3,
            statefulset="redis-app",
            service=SERVICE,
            port=world.port,
            nameservers=nameservers,
        )
        turn = 0
        while (await late.find()).absent and turn < MOST_TURNS:
            late._ask_at = 0.0
            turn += 1
        return turn

    for ordinal in range(2):
        world.dns.publish(f"redis-app-{ordinal}", f"127.9.9.{ordinal + 1}")
    with answering(world, Cache(30.0)) as proxy:
        assert asyncio.run(turns(proxy)) < MOST_TURNS
