"""A DNS server for one Service on a loopback address, with faults to inject.

It speaks real packets over UDP and TCP, so the program's resolver is under test as well.
"""

import errno
import functools
import socketserver
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from . import zone as zones
from .errors import SandboxError

_PLAIN_UDP_BYTES = 512
_MOST_UDP_BYTES = 4096
_MOST_TCP_BYTES = 65535
_TCP_HEADER_BYTES = 2
_POLL_S = 0.05
_Question = tuple[dns.name.Name | None, str | None]
_PORT_ATTEMPTS = 20

Responder: TypeAlias = Callable[[bytes], bytes | None]


class _Server(socketserver.ThreadingMixIn):
    daemon_threads = True
    # An answer that is being delayed must not delay the end of the world.
    block_on_close = False
    allow_reuse_address = False
    respond: Responder


class _UdpServer(_Server, socketserver.UDPServer):
    pass


class _TcpServer(_Server, socketserver.TCPServer):
    request_queue_size = 128


class _UdpHandler(socketserver.BaseRequestHandler):
    server: _UdpServer

    def handle(self) -> None:
        data, sock = self.request
        response = self.server.respond(data)
        if response is not None:
            try:
                sock.sendto(response, self.client_address)
            except OSError:
                # Closed while the answer was being delayed.
                return


class _TcpHandler(socketserver.StreamRequestHandler):
    server: _TcpServer
    timeout = 10

    def handle(self) -> None:
        try:
            while header := self.rfile.read(_TCP_HEADER_BYTES):
                response = self.server.respond(self.rfile.read(int.from_bytes(header)))
                if response is None:
                    return
                self.wfile.write(len(response).to_bytes(_TCP_HEADER_BYTES) + response)
        except OSError:
            # The asker went away, or said nothing for too long.
            return


class ZoneServer:
    """Answers for a Service and its pods until closed; a context manager, and thread safe.

    Attributes:
        delay_s: How long to hold every answer back.
        negative_ttl_s: How long a name that was once answered NXDOMAIN stays so, as in the
            caches between a pod and CoreDNS.
    """

    def __init__(
        self,
        address: str,
        *,
        service: str,
        port: int = 0,
        zone: str = "cluster.local",
        port_name: str = "tcp-redis",
        ttl_s: int = 5,
        negative_ttl_s: float = 0.0,
    ) -> None:
        """Listen on UDP and TCP, on the same port, and answer from now on.

        Args:
            address: Loopback address to listen on.
            service: Full name of the headless Service.
            port: Where to listen; 0 takes any port that both protocols have free.
            zone: The cluster domain, whose SOA negative answers carry.
            port_name: Name of the Service's port, for ``_<name>._tcp.<service>``.
            ttl_s: Time to live of every record.
            negative_ttl_s: See the attribute.
        """
        self.address = address
        self.delay_s = 0.0
        self.negative_ttl_s = negative_ttl_s
        self._zone = zones.Zone(service=service, zone=zone, port_name=port_name, ttl_s=ttl_s)
        self._lock = threading.Lock()
        self._queries: list[tuple[str, str]] = []
        self._faults: dict[_Question, dns.rcode.Rcode | None] = {}
        self._negatives: dict[dns.name.Name, float] = {}
        self._servers = _listen(address, port)
        self.port: int = self._servers[0].server_address[1]
        self._threads = [self._serve(server) for server in self._servers]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def nameserver(self) -> str:
        """Where it listens, as ``address:port``."""
        return f"{self.address}:{self.port}"

    @property
    def queries(self) -> list[tuple[str, str]]:
        """All questions so far, oldest first: lower-case name without last dot, and type."""
        with self._lock:
            return list(self._queries)

    def forget_queries(self) -> None:
        """Start the list of questions again."""
        with self._lock:
            self._queries.clear()

    def publish(self, hostname: str, *addresses: str, port: int = 6379) -> None:
        """Add or replace a pod's records."""
        with self._lock:
            self._zone.publish(hostname, zones.Host(addresses=addresses, port=port))

    def unpublish(self, hostname: str) -> None:
        """Remove a pod's records."""
        with self._lock:
            self._zone.unpublish(hostname)

    def fail(self, rcode: str, name: str | None = None, kind: str | None = None) -> None:
        """Answer with an error, such as ``SERVFAIL`` or ``REFUSED``, from now on.

        Args:
            rcode: The error.
            name: The only name to fail for; by default all of them.
            kind: The only type of question to fail for; by default all of them.
        """
        self._set_fault(name, kind, dns.rcode.from_text(rcode))

    def drop(self, name: str | None = None) -> None:
        """Answer nothing from now on, to one name or to all."""
        self._set_fault(name, None, None)

    def heal(self) -> None:
        """End all faults and delays, and forget what the negative cache holds."""
        self.delay_s = 0.0
        with self._lock:
            self._faults.clear()
            self._negatives.clear()

    def close(self) -> None:
        """Stop answering and free the port."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def _set_fault(self, name: str | None, kind: str | None, fault: dns.rcode.Rcode | None) -> None:
        with self._lock:
            self._faults[None if name is None else zones.absolute(name), kind] = fault

    def _serve(self, server: "_UdpServer | _TcpServer") -> threading.Thread:
        server.respond = functools.partial(self._respond, is_tcp=isinstance(server, _TcpServer))
        thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_S,), name="sandbox-dns", daemon=True
        )
        thread.start()
        return thread

    def _respond(self, wire: bytes, *, is_tcp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        answer = self._answer(query)
        if self.delay_s > 0:
            time.sleep(self.delay_s)
        return None if answer is None else _render(query, answer, is_tcp=is_tcp)

    def _answer(self, query: dns.message.Message) -> zones.Answer | None:
        if not query.question:
            return zones.Answer(rcode=dns.rcode.FORMERR)
        name, rdtype = query.question[0].name, query.question[0].rdtype
        with self._lock:
            text = name.to_text(omit_final_dot=True).lower()
            kind = dns.rdatatype.to_text(rdtype)
            self._queries.append((text, kind))
            for key in ((name, kind), (name, None), (None, kind), (None, None)):
                if key in self._faults:
                    fault = self._faults[key]
                    return None if fault is None else zones.Answer(rcode=fault)
            now = time.monotonic()
            if self._negatives.get(name, now) > now:
                return self._zone.negative(name, dns.rcode.NXDOMAIN)
            answer = self._zone.lookup(name, rdtype)
            if answer.rcode == dns.rcode.NXDOMAIN:
                self._negatives[name] = now + self.negative_ttl_s
            return answer


def _render(query: dns.message.Message, answer: zones.Answer, *, is_tcp: bool) -> bytes:
    response = dns.message.make_response(query, recursion_available=True, our_payload=1232)
    response.flags |= dns.flags.AA
    response.set_rcode(answer.rcode)
    response.answer = list(answer.answer)
    response.authority = list(answer.authority)
    response.additional = list(answer.additional)
    limit = _MOST_TCP_BYTES
    if not is_tcp:
        asked = query.payload if query.edns >= 0 else _PLAIN_UDP_BYTES
        limit = min(max(asked, _PLAIN_UDP_BYTES), _MOST_UDP_BYTES)
    wire = response.to_wire(max_size=_MOST_TCP_BYTES)
    if len(wire) <= limit:
        return wire
    # As CoreDNS does, also where only additional records are cut.
    response.flags |= dns.flags.TC
    return response.to_wire(max_size=limit, prefer_truncation=True)


def _listen(address: str, port: int) -> tuple[_UdpServer, _TcpServer]:
    for _ in range(_PORT_ATTEMPTS):
        tcp = _TcpServer((address, port), _TcpHandler)
        try:
            return _UdpServer((address, tcp.server_address[1]), _UdpHandler), tcp
        except OSError as error:
            tcp.server_close()
            if error.errno != errno.EADDRINUSE or port != 0:
                raise
    raise SandboxError(
        f"{address} has no port that is free for both UDP and TCP", "try again, or name a port"
    )
