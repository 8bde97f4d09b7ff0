"""A name server between the program and the sandbox's, which answers as some name servers do."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset

from tests.support.world import World

Message = dns.message.Message
Forward = Callable[[Message], Message]
Behaviour = Callable[[Message, Forward], Message | None]
_LONGEST_QUERY = 4096


@dataclass
class Proxy:
    """A running name server.

    Attributes:
        nameserver: What BOOTSTRAP_NAMESERVERS is to say.
        queries: Name and type of each question so far.
    """

    nameserver: str
    queries: list[tuple[str, str]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        """Return all names that were asked for."""
        return {name for name, _ in self.queries}


@contextmanager
def answering(
    world: World, behaviour: Behaviour, *, host: int = 253, reply_host: int | None = None
) -> Iterator[Proxy]:
    """Answer UDP questions at an address of the world as `behaviour` says, until the end.

    Args:
        world: Whose name server knows the truth.
        behaviour: Takes a question and a way to ask the world's server; None for no answer.
        host: Last part of the address to listen on.
        reply_host: Last part of the address that replies come from, where it is another one.
    """
    prefix = world.dns.address.rpartition(".")[0]

    def forward(query: Message) -> Message:
        reply, _ = dns.query.udp_with_fallback(query, world.dns.address, port=world.dns.port)
        return reply

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        asked.bind((f"{prefix}.{host}", 0))
        port = asked.getsockname()[1]
        proxy = Proxy(nameserver=f"{prefix}.{host}:{port}")
        if reply_host is not None:
            other.bind((f"{prefix}.{reply_host}", port))

        def serve() -> None:
            while wire := asked.recvfrom(_LONGEST_QUERY):
                data, peer = wire
                if not data:
                    return
                query = dns.message.from_wire(data)
                question = query.question[0]
                name = question.name.to_text(omit_final_dot=True).lower()
                proxy.queries.append((name, dns.rdatatype.to_text(question.rdtype)))
                reply = behaviour(query, forward)
                if reply is not None:
                    (asked if reply_host is None else other).sendto(reply.to_wire(), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            # An empty datagram ends the server.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", asked.getsockname())
            thread.join()


class Cache:
    """Keeps answers as CoreDNS does: by name, type, DO and CD, whatever the answer is."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._kept: dict[tuple[object, ...], tuple[float, Message]] = {}

    def __call__(self, query: Message, forward: Forward) -> Message:
        """Answer from the cache, with the time that is left as TTL."""
        question = query.question[0]
        bits = (bool(query.ednsflags & dns.flags.DO), bool(query.flags & dns.flags.CD))
        key = (question.name, question.rdtype, *bits)
        now = time.monotonic()
        if key not in self._kept or self._kept[key][0] <= now:
            self._kept[key] = (now + self._ttl_s, forward(query))
        expires, kept = self._kept[key]
        reply = dns.message.make_response(query)
        reply.set_rcode(kept.rcode())
        left = max(1, round(expires - now))
        reply.answer = [_with_ttl(rrset, left) for rrset in kept.answer]
        reply.authority = [_with_ttl(rrset, left) for rrset in kept.authority]
        return reply


def _with_ttl(rrset: dns.rrset.RRset, ttl_s: int) -> dns.rrset.RRset:
    copy: dns.rrset.RRset = rrset.copy()
    copy.ttl = ttl_s
    return copy


def refusing_edns(rcode: dns.rcode.Rcode | None) -> Behaviour:
    """Answer EDNS with an error, or with nothing where that is None."""

    def behave(query: Message, forward: Forward) -> Message | None:
        if query.edns < 0:
            return forward(query)
        if rcode is None:
            return None
        reply = dns.message.make_response(query)
        reply.use_edns(False)
        reply.set_rcode(rcode)
        return reply

    return behave


def dropping(kind: str) -> Behaviour:
    """Give no answer to questions of one type."""

    def behave(query: Message, forward: Forward) -> Message | None:
        return None if dns.rdatatype.to_text(query.question[0].rdtype) == kind else forward(query)

    return behave


def alias_to(target: str, address: str) -> Behaviour:
    """Answer every name with an alias, as a wildcard record in a search domain does."""

    def behave(query: Message, _forward: Forward) -> Message:
        reply = dns.message.make_response(query)
        question = query.question[0]
        reply.answer.append(dns.rrset.from_text(question.name, 5, "IN", "CNAME", f"{target}."))
        if question.rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(f"{target}.", 5, "IN", "A", address))
        return reply

    return behave


def service_only(service: str, address: str) -> Behaviour:
    """Answer as for a Service with a cluster address: one A record, SRV names the Service."""

    def behave(query: Message, _forward: Forward) -> Message:
        reply = dns.message.make_response(query)
        question = query.question[0]
        values = {dns.rdatatype.A: address, dns.rdatatype.SRV: f"0 100 6379 {service}."}
        if question.name != dns.name.from_text(service):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif value := values.get(question.rdtype):
            rrset = dns.rrset.from_text(question.name, 5, "IN", question.rdtype, value)
            reply.answer.append(rrset)
        return reply

    return behave
