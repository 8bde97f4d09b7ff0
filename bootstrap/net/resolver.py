"""Ask name servers, and the system, for addresses.

Rules: NXDOMAIN means "not yet", SERVFAIL and timeouts mean "ask again". A server that is silent is
asked last from then on, by all questions of the run. An answer says where an alias leads, because
a wildcard record in a search domain can answer for names that do not exist (coredns#3765).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode

from ..core.topology import Address
from ..errors import DiscoveryError, SettingsError
from . import resolv_conf

DNS_PORT = 53
# Larger datagrams may be fragmented, and fragments are lost (DNS Flag Day 2020).
EDNS_BYTES = 1232
_EDNS_REFUSED = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)
QUERY_TIMEOUT_S = 2.0
# The second family cannot change the result once the first one has answered.
SECOND_FAMILY_S = 0.3
# CoreDNS and its like keep answers of the cluster's own names no longer.
CACHED_AT_MOST_S = 30.0
FAMILIES = ("A", "AAAA")
Addresses: TypeAlias = dict[str, tuple[str, ...]]
DNS_REMEDY = "check that CoreDNS runs and that a NetworkPolicy allows UDP and TCP 53"
OTHER_SOURCE_REMEDY = (
    "let replies come from the address that was asked: on the nodes, load br_netfilter and set "
    "net.bridge.bridge-nf-call-iptables to 1"
)
NAMED_BY_HAND = "check the names in BOOTSTRAP_ENDPOINTS, and who resolves them"
_TIMED_OUT = "timed out"
_SOURCE = re.compile(r"response from \('([^']+)'")


@dataclass(slots=True, eq=False, kw_only=True)
class NameServer:
    """One name server, and what is known of it.

    Attributes:
        uses_edns: Whether the next question offers EDNS.
        is_proven: Whether it has answered one that did.
    """

    ip: str
    port: int
    uses_edns: bool = True
    is_proven: bool = False

    def __str__(self) -> str:
        """Return the address, with the port where it is not the usual one."""
        return self.ip if self.port == DNS_PORT else str(Address(self.ip, self.port, 0))

    async def ask(self, name: str, kind: str, flags: int, timeout_s: float) -> dns.message.Message:
        """Return the reply to one question.

        Some servers answer FORMERR or NOTIMP to EDNS, or nothing at all (RFC 6891, 6.2.2): they are
        asked without it.

        Raises:
            dns.exception.Timeout: There was none in time.
            dns.query.UnexpectedSource: The only reply came from another address.
        """
        offered = self.uses_edns
        try:
            reply = await self._exchange(name, kind, flags, timeout_s, edns=offered)
        except dns.exception.Timeout:
            if not self.is_proven:
                # Set, not toggled: two questions at once may meet the same silence.
                self.uses_edns = not offered
            raise
        if not offered or self.is_proven:
            return reply
        if reply.rcode() in _EDNS_REFUSED:
            plain = await self._exchange(name, kind, flags, timeout_s, edns=False)
            self.uses_edns = plain.rcode() == reply.rcode()
            return plain
        self.is_proven = True
        return reply

    async def _exchange(
        self, name: str, kind: str, flags: int, timeout_s: float, *, edns: bool
    ) -> dns.message.Message:
        query = dns.message.make_query(
            dns.name.from_text(f"{name}."),
            kind,
            use_edns=0 if edns else False,
            ednsflags=flags & dns.flags.DO,
            payload=EDNS_BYTES,
            flags=int(dns.flags.RD) | (flags & dns.flags.CD),
        )
        send = partial(
            dns.asyncquery.udp_with_fallback,
            query,
            self.ip,
            timeout=timeout_s,
            port=self.port,
            ignore_errors=True,
        )
        try:
            return (await send())[0]
        except dns.query.UnexpectedSource as stray:
            # It may be forged, so the true reply still has its chance.
            try:
                return (await send(ignore_unexpected=True))[0]
            except dns.exception.Timeout:
                raise stray from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a name server answered.

    Attributes:
        values: Addresses, or the targets of SRV records, sorted; none for other types.
        exists: Whether the name exists, with or without records of this type.
        ttl_s: How long caches keep this answer.
        alias: Name that a CNAME resolves to; empty where the records belong to the name itself.
    """

    values: tuple[str, ...]
    exists: bool
    ttl_s: float
    alias: str
    server: str


@dataclass(slots=True, kw_only=True)
class Resolver:
    """The name servers, the one to ask first at the front; one for all questions of a run.

    Attributes:
        timeout_s: How long one server may take for one answer.
    """

    servers: list[NameServer]
    timeout_s: float


def resolver_for(nameservers: Sequence[tuple[str, int]], *, timeout_s: float) -> Resolver:
    """Return a resolver that asks these servers, or resolv.conf's where there are none.

    A question without an answer takes a third of `timeout_s`, the deadline of the run, at most, so
    that a second observation and a cause that names the servers fit in.

    Raises:
        SettingsError: resolv.conf names no server.
    """
    addresses = list(nameservers) or [(ip, DNS_PORT) for ip in resolv_conf.read().nameservers]
    if not addresses:
        raise SettingsError(
            cause="resolv.conf names no name server", remedy="set BOOTSTRAP_NAMESERVERS"
        )
    attempts = 1 + len(addresses)
    return Resolver(
        servers=[NameServer(ip=ip, port=port) for ip, port in addresses],
        timeout_s=min(QUERY_TIMEOUT_S, timeout_s / 3 / attempts),
    )


async def ask(resolver: Resolver, name: str, kind: str, flags: int = 0) -> Answer:
    """Return the answer to one question; without values for NXDOMAIN and for another type.

    Each server is asked once, and the first again where it was silent: a datagram can be lost.
    Names are absolute, without the last dot; `flags` are DO and CD, which caches keep apart.

    Raises:
        DiscoveryError: No name server answered (SERVFAIL, REFUSED, timeout).
    """
    reasons: dict[NameServer, str] = {}
    remedy = DNS_REMEDY
    servers = tuple(resolver.servers)
    for server in (*servers, servers[0]):
        if reasons.get(server, _TIMED_OUT) != _TIMED_OUT:
            continue
        try:
            reply = await server.ask(name, kind, flags, resolver.timeout_s)
            if reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return _answer(reply, server)
            reasons[server] = dns.rcode.to_text(reply.rcode())
        except (OSError, EOFError, ValueError, dns.exception.DNSException) as error:
            # Last from now on, so that the timeout of a silent one is paid once.
            resolver.servers.remove(server)
            resolver.servers.append(server)
            reasons[server] = str(error) or type(error).__name__
            if isinstance(error, dns.exception.Timeout):
                reasons[server] = _TIMED_OUT
            elif isinstance(error, dns.query.UnexpectedSource):
                source = _SOURCE.search(str(error))
                reasons[server] = f"the reply came from another address, {source and source[1]}"
                remedy = OTHER_SOURCE_REMEDY
    listed = ", ".join(f"{server}: {reason}" for server, reason in reasons.items())
    raise DiscoveryError(
        node=name, cause=f"name servers gave no answer for {name} ({listed})", remedy=remedy
    )


def _answer(reply: dns.message.Message, server: NameServer) -> Answer:
    if not isinstance(reply, dns.message.QueryMessage):
        raise dns.query.BadResponse
    chain = reply.resolve_chaining()
    records = [] if chain.answer is None else [record.to_text() for record in chain.answer]
    return Answer(
        # The target is the last word of an SRV record, and an address the only one of its record.
        values=tuple(sorted({text.split()[-1].removesuffix(".") for text in records})),
        exists=reply.rcode() == dns.rcode.NOERROR,
        ttl_s=min(chain.minimum_ttl, CACHED_AT_MOST_S),
        alias=chain.canonical_name.to_text(omit_final_dot=True) if chain.cnames else "",
        server=str(server),
    )


async def both_families(question: Callable[[str], Awaitable[tuple[str, ...]]]) -> Addresses:
    """Return the addresses of a name by family.

    IPv4 is taken where both are complete, so what it answers stands also where AAAA fails or is
    late: some name servers refuse types that they do not serve, and some drop them
    (kubernetes#56903).

    Raises:
        DiscoveryError: There was no answer, and no IPv4 address.
    """

    async def answer(kind: str) -> tuple[str, ...] | DiscoveryError:
        try:
            return await question(kind)
        except DiscoveryError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        first, second = (tasks.create_task(answer(kind)) for kind in FAMILIES)
        ipv4 = await first
        if not isinstance(ipv4, DiscoveryError) and ipv4:
            await asyncio.wait({second}, timeout=SECOND_FAMILY_S)
            second.cancel()
    ipv6 = () if second.cancelled() else second.result()
    answers = {"A": ipv4, "AAAA": ipv6}
    known = {k: () if isinstance(a, DiscoveryError) else a for k, a in answers.items()}
    for failure in answers.values():
        if isinstance(failure, DiscoveryError) and not known["A"]:
            raise failure
    return known


def one_family(answers: Iterable[Addresses]) -> str:
    """Return the record type of the family that most pods have; IPv4 when both are complete."""
    known = list(answers)
    ipv4 = sum(bool(answer["A"]) for answer in known)
    ipv6 = sum(bool(answer["AAAA"]) for answer in known)
    return "AAAA" if ipv6 > ipv4 else "A"


async def system_addresses(host: str) -> Addresses:
    """Resolve as the system does, with /etc/hosts and search list: for VMs and Compose.

    Raises:
        DiscoveryError: It has no address for the name.
    """
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DiscoveryError(
            cause=f"{host} does not resolve: {error.strerror or error}", remedy=NAMED_BY_HAND
        ) from error
    families = zip(FAMILIES, (socket.AF_INET, socket.AF_INET6), strict=True)
    return {
        kind: tuple(sorted({str(info[4][0]) for info in infos if info[0] == family}))
        for kind, family in families
    }
