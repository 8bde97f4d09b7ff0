"""A DNS server for one headless Service, on a loopback address, by the rules of Kubernetes.

Follows the DNS specification of Kubernetes, and CoreDNS where that goes further: the Service's own
name answers A, AAAA and SRV, a Service without pods does not exist, the names above it do, every
negative answer carries the zone's SOA, and what is too long for UDP is cut. It speaks real packets
over UDP and TCP, so that the program's resolver is exercised as well.
"""

import functools
import random
import socketserver
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Self, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from .errors import SandboxError

DOMAIN = "cluster.local"
_ZONE = dns.name.from_text(DOMAIN)
_SOA = f"ns.dns.{_ZONE} hostmaster.{_ZONE} 1700000000 7200 1800 86400 5"
_TTL_S = 5
_PLAIN_UDP_BYTES, _MOST_UDP_BYTES, _MOST_TCP_BYTES = 512, 4096, 65535
_TCP_HEADER_BYTES = 2
_TCP_SILENCE_S = 10
_POLL_S = 0.05
_PORT_ATTEMPTS = 20
_A, _AAAA, _SRV = dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.SRV

Records: TypeAlias = list[dns.rrset.RRset]
# Pods by name: the client port, and addresses of either family.
Hosts: TypeAlias = dict[dns.name.Name, tuple[int, tuple[str, ...]]]


class _Server(socketserver.ThreadingMixIn):
    daemon_threads = True
    # An answer in progress must not delay the end of the world.
    block_on_close = False
    zone: "ZoneServer"


class _UdpServer(_Server, socketserver.UDPServer):
    pass


class _TcpServer(_Server, socketserver.TCPServer):
    request_queue_size = 128


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _UdpServer

    def handle(self) -> None:
        data, sock = self.request
        if response := self.server.zone.respond(data, is_tcp=False):
            with suppress(OSError):  # closed meanwhile
                sock.sendto(response, self.client_address)


class _TcpHandler(socketserver.StreamRequestHandler):
    server: _TcpServer
    timeout = _TCP_SILENCE_S

    def handle(self) -> None:
        with suppress(OSError):  # the client went away, or sent nothing for too long
            while header := self.rfile.read(_TCP_HEADER_BYTES):
                data = self.rfile.read(int.from_bytes(header))
                if not (response := self.server.zone.respond(data, is_tcp=True)):
                    return
                self.wfile.write(len(response).to_bytes(_TCP_HEADER_BYTES) + response)


class ZoneServer:
    """Answers for a Service and its pods until closed.

    Args:
        address: Loopback address to listen on, at any port that UDP and TCP both have free.
        service: Full name of the headless Service.
    """

    def __init__(self, address: str, *, service: str) -> None:
        self.address = address
        self._service = dns.name.from_text(service)
        self._srv = dns.name.Name(("_tcp-redis", "_tcp")).concatenate(self._service)
        # Replaced and never changed: the threads that answer read it without a lock.
        self._hosts: Hosts = {}
        self._servers = _listen(address)
        self.port: int = self._servers[0].server_address[1]
        self.nameserver = f"{address}:{self.port}"
        for server in self._servers:
            server.zone = self
            serve = functools.partial(server.serve_forever, _POLL_S)
            threading.Thread(target=serve, name="sandbox-dns", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering and free the port."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def publish(self, hostname: str, *addresses: str, port: int = 6379) -> None:
        """Add or replace a pod's records; without addresses, remove them."""
        name = dns.name.Name((hostname,)).concatenate(self._service)
        others = {owner: host for owner, host in self._hosts.items() if owner != name}
        self._hosts = {**others, **({name: (port, addresses)} if addresses else {})}

    def respond(self, wire: bytes, *, is_tcp: bool) -> bytes | None:
        """Return the response to a packet; None answers nothing."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if not query.question or not (response := self.answer(query)):
            return None
        most_udp = min(max(query.payload, _PLAIN_UDP_BYTES), _MOST_UDP_BYTES)
        limit = _MOST_TCP_BYTES if is_tcp else most_udp
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            # As CoreDNS does, also where only additional records are cut.
            response.flags |= dns.flags.TC
            return response.to_wire(max_size=limit, prefer_truncation=True)

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """Return the response to a query; each record stands alone, so a cut can be between two."""
        name, kind = query.question[0].name, query.question[0].rdtype
        hosts = self._hosts
        services = (self._service, self._srv, self._srv.parent()) if hosts else ()
        above = self._service.parent().is_subdomain(name) and name.is_subdomain(_ZONE)
        if not (name in hosts or name in services or above):
            return negative(query, dns.rcode.NXDOMAIN)
        answer, additional = self._records(name, kind, hosts)
        if not answer:
            return negative(query, dns.rcode.NOERROR)
        # CoreDNS rotates its answers: a client must not rely on their order.
        random.shuffle(answer)
        response = reply(query, dns.rcode.NOERROR)
        response.answer, response.additional = answer, additional
        return response

    def _records(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, hosts: Hosts
    ) -> tuple[Records, Records]:
        owners = {name} & hosts.keys()
        if kind in (_A, _AAAA):
            return _addresses(hosts, hosts if name == self._service else owners, kind, name), []
        if kind != _SRV or name not in (self._service, self._srv):
            return [], []
        weight = max(1, 100 // len(hosts))
        ports = {owner: port for owner, (port, _) in hosts.items()}
        services = [_record(name, kind, f"0 {weight} {ports[owner]} {owner}") for owner in hosts]
        return services, [*_addresses(hosts, hosts, _A), *_addresses(hosts, hosts, _AAAA)]


def _addresses(
    hosts: Hosts,
    owners: Iterable[dns.name.Name],
    kind: dns.rdatatype.RdataType,
    name: dns.name.Name | None = None,
) -> Records:
    """Return the owners' addresses of one family, under one name or each under its own."""
    found = [(owner, text) for owner in owners for text in hosts[owner][1]]
    return [_record(name or o, kind, t) for o, t in found if (":" in t) == (kind == _AAAA)]


def reply(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    """Return a response without records."""
    response = dns.message.make_response(query, recursion_available=True, our_payload=1232)
    response.flags |= dns.flags.AA
    response.set_rcode(rcode)
    return response


def negative(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    """Return NXDOMAIN or, with NOERROR, "no record of this type"."""
    response = reply(query, rcode)
    zone = _ZONE if query.question[0].name.is_subdomain(_ZONE) else dns.name.root
    response.authority = [_record(zone, dns.rdatatype.SOA, _SOA)]
    return response


def _record(name: dns.name.Name, kind: dns.rdatatype.RdataType, text: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, _TTL_S, dns.rdataclass.IN, kind, text)


def _listen(address: str) -> tuple[_UdpServer, _TcpServer]:
    for _ in range(_PORT_ATTEMPTS):
        tcp = _TcpServer((address, 0), _TcpHandler)
        with suppress(OSError):  # another program has this port on UDP
            return _UdpServer((address, tcp.server_address[1]), _UdpHandler), tcp
        tcp.server_close()
    raise SandboxError(f"{address} has no port that is free for UDP and TCP", "try again")
