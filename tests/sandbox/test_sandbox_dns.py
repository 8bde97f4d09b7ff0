import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest

from tests.support.world import FaultyZoneServer as ZoneServer

SERVICE = "redis-service.default.svc.cluster.local"
POD = f"redis-app-0.{SERVICE}"
PORT_NAME = f"_tcp-redis._tcp.{SERVICE}"


@pytest.fixture
def zone() -> Iterator[ZoneServer]:
    with ZoneServer("127.0.0.1", service=SERVICE) as server:
        yield server


def _fill(zone: ZoneServer, count: int) -> None:
    for ordinal in range(count):
        zone.publish(f"redis-app-{ordinal}", f"10.0.0.{ordinal + 1}")


def _ask(
    zone: ZoneServer, name: str, rdtype: str = "A", *, payload: int | None = None, tcp: bool = False
) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype, use_edns=payload is not None, payload=payload or 0)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, zone.address, port=zone.port, timeout=5)


def _values(response: dns.message.Message) -> set[str]:
    return {rdata.to_text() for rrset in response.answer for rdata in rrset}


def test_service_answers_with_all_pods(zone: ZoneServer) -> None:
    """The headless Service's name has the addresses of every pod."""
    _fill(zone, 3)
    response = _ask(zone, SERVICE)
    assert response.rcode() == dns.rcode.NOERROR
    assert _values(response) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_pod_name_answers_with_its_address(zone: ZoneServer) -> None:
    """A pod's own name has one address, whatever the case of the question."""
    _fill(zone, 3)
    assert _values(_ask(zone, POD.upper())) == {"10.0.0.1"}


@pytest.mark.parametrize("name", [PORT_NAME, SERVICE])
def test_srv_names_pods_and_brings_their_addresses(zone: ZoneServer, name: str) -> None:
    """SRV targets are pod names with the client port; the addresses come along."""
    zone.publish("redis-app-0", "10.0.0.1", "fd00::1", port=7000)
    response = _ask(zone, name, "SRV", payload=1232)
    assert _values(response) == {f"0 100 7000 {POD}."}
    assert {rdata.to_text() for rrset in response.additional for rdata in rrset} == {
        "10.0.0.1",
        "fd00::1",
    }


def test_families_are_apart(zone: ZoneServer) -> None:
    """A holds the IPv4 address and AAAA the IPv6 address of a dual-stack pod."""
    zone.publish("redis-app-0", "10.0.0.1", "fd00::1")
    assert _values(_ask(zone, POD, "A")) == {"10.0.0.1"}
    assert _values(_ask(zone, POD, "AAAA")) == {"fd00::1"}


@pytest.mark.parametrize("name", [f"redis-app-9.{SERVICE}", "other.default.svc.cluster.local"])
def test_unknown_name_is_nxdomain_with_soa(zone: ZoneServer, name: str) -> None:
    """A name that does not exist is denied with the zone's SOA, from which caches take the time."""
    _fill(zone, 1)
    response = _ask(zone, name)
    assert response.rcode() == dns.rcode.NXDOMAIN
    assert [rrset.rdtype for rrset in response.authority] == [dns.rdatatype.SOA]
    assert response.authority[0].name.to_text() == "cluster.local."


def test_service_without_pods_does_not_exist(zone: ZoneServer) -> None:
    """A headless Service without endpoints is NXDOMAIN, as in CoreDNS."""
    for name in (SERVICE, PORT_NAME):
        assert _ask(zone, name, "SRV").rcode() == dns.rcode.NXDOMAIN
    _fill(zone, 1)
    zone.publish("redis-app-0")
    assert _ask(zone, SERVICE).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("name", "rdtype"),
    [(POD, "AAAA"), (SERVICE, "TXT"), (PORT_NAME, "A"), ("default.svc.cluster.local", "A")],
)
def test_existing_name_without_such_record_is_nodata(
    zone: ZoneServer, name: str, rdtype: str
) -> None:
    """A name that exists without the type asked for is no NXDOMAIN."""
    _fill(zone, 1)
    response = _ask(zone, name, rdtype)
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
    assert response.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize("payload", [None, 600])
def test_long_answer_is_cut_over_udp_and_whole_over_tcp(
    zone: ZoneServer, payload: int | None
) -> None:
    """What exceeds 512 bytes, or the size that EDNS offers, is truncated and marked so."""
    _fill(zone, 60)
    cut = _ask(zone, SERVICE, payload=payload)
    assert cut.flags & dns.flags.TC
    assert 0 < len(_values(cut)) < 60
    assert len(cut.to_wire()) <= (payload or 512)
    assert len(_values(_ask(zone, SERVICE, payload=payload, tcp=True))) == 60


def test_edns_size_is_honoured(zone: ZoneServer) -> None:
    """An answer that fits the size offered is not cut."""
    _fill(zone, 60)
    response = _ask(zone, SERVICE, payload=4096)
    assert not response.flags & dns.flags.TC
    assert response.edns == 0
    assert len(_values(response)) == 60


def test_no_edns_in_no_edns_out(zone: ZoneServer) -> None:
    """A question without EDNS gets an answer without EDNS."""
    _fill(zone, 1)
    assert _ask(zone, POD).edns == -1


def test_dnspython_resolver_gets_through(zone: ZoneServer) -> None:
    """A resolver with its defaults finds a hundred pods, by falling back to TCP."""
    _fill(zone, 100)
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [zone.address]
    resolver.port = zone.port
    assert len(resolver.resolve(f"{SERVICE}.", "A")) == 100


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_failure_for_all_names_until_healed(zone: ZoneServer, rcode: str) -> None:
    """An injected error answers every question, over either protocol."""
    _fill(zone, 1)
    zone.fail(rcode)
    for tcp in (False, True):
        assert dns.rcode.to_text(_ask(zone, POD, tcp=tcp).rcode()) == rcode
    zone.heal()
    assert _ask(zone, POD).rcode() == dns.rcode.NOERROR


def test_failure_for_one_name(zone: ZoneServer) -> None:
    """An error can be injected for one name alone."""
    _fill(zone, 2)
    zone.fail("SERVFAIL", POD)
    assert _ask(zone, POD).rcode() == dns.rcode.SERVFAIL
    assert _ask(zone, f"redis-app-1.{SERVICE}").rcode() == dns.rcode.NOERROR


def test_dropped_question_is_not_answered(zone: ZoneServer) -> None:
    """A dropped question is heard, and never answered."""
    _fill(zone, 1)
    zone.drop(POD)
    query = dns.message.make_query(POD, "A")
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(query, zone.address, port=zone.port, timeout=0.2)
    assert zone.queries == [(POD, "A")]


def test_delayed_answer_comes_late(zone: ZoneServer) -> None:
    """A delayed answer misses a shorter time-out, and does not hold up the end."""
    _fill(zone, 1)
    zone.delay_s = 30.0
    query = dns.message.make_query(POD, "A")
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(query, zone.address, port=zone.port, timeout=0.1)
    zone.delay_s = 0.0
    assert _values(_ask(zone, POD)) == {"10.0.0.1"}


def test_early_question_hurts_with_a_negative_cache(zone: ZoneServer) -> None:
    """A name once denied stays denied for the time the caches keep it; others do not suffer."""
    zone.negative_ttl_s = 3600.0
    assert _ask(zone, POD).rcode() == dns.rcode.NXDOMAIN
    _fill(zone, 2)
    assert _ask(zone, POD).rcode() == dns.rcode.NXDOMAIN
    assert len(_values(_ask(zone, SERVICE))) == 2
    zone.heal()
    assert _ask(zone, POD).rcode() == dns.rcode.NOERROR


def test_questions_are_remembered(zone: ZoneServer) -> None:
    """Every question is kept with its type, in lower case and without the last dot."""
    _ask(zone, POD.upper())
    _ask(zone, SERVICE, "SRV", tcp=True)
    assert zone.queries == [(POD, "A"), (SERVICE, "SRV")]
    zone.forget_queries()
    assert zone.queries == []


def test_rubbish_does_not_stop_it(zone: ZoneServer) -> None:
    """A packet that is no DNS message is ignored."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"rubbish", (zone.address, zone.port))
    _fill(zone, 1)
    assert _values(_ask(zone, POD)) == {"10.0.0.1"}


def test_many_askers_at_once(zone: ZoneServer) -> None:
    """Questions in parallel, while pods come and go, each get a whole answer."""
    _fill(zone, 1)
    with ThreadPoolExecutor(max_workers=4) as askers:
        answers = [askers.submit(_ask, zone, POD) for _ in range(80)]
        for ordinal in range(1, 50):
            zone.publish(f"redis-app-{ordinal}", "10.0.1.1")
            zone.publish(f"redis-app-{ordinal}")
    assert all(_values(answer.result()) == {"10.0.0.1"} for answer in answers)
    assert len(zone.queries) == 80


def test_closed_server_frees_its_port(zone: ZoneServer) -> None:
    """After the end another may listen at the same place."""
    zone.close()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((zone.address, zone.port))
