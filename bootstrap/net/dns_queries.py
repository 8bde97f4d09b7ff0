"""Asks name servers, and the system, for addresses.

Rules: names are absolute; NXDOMAIN means "not yet", SERVFAIL and time-outs mean "ask again".
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.resolver

from ..errors import DiscoveryError, SettingsError

EDNS_BYTES = 1232
QUERY_TIMEOUT_S = 2.0
FAMILIES = ("A", "AAAA")
DNS_REMEDY = "check that CoreDNS runs and that a NetworkPolicy allows UDP and TCP 53"
NAMED_BY_HAND = "check the names in BOOTSTRAP_ENDPOINTS, and who resolves them"


async def both_families(
    question: Callable[[str], Awaitable[tuple[str, ...]]],
) -> dict[str, tuple[str, ...]]:
    """Return the addresses of a name by family.

    IPv4 is taken where both are complete, so what it answers stands also where AAAA fails: some
    name servers refuse types that they do not serve. The other way round families would change
    with every answer that is late.

    Raises:
        DiscoveryError: There was no answer, and no IPv4 address.
    """
    answers: dict[str, tuple[str, ...]] = {}
    failure: DiscoveryError | None = None
    results = await asyncio.gather(*map(question, FAMILIES), return_exceptions=True)
    for kind, result in zip(FAMILIES, results, strict=True):
        if isinstance(result, DiscoveryError):
            failure = failure or result
            answers[kind] = ()
        elif isinstance(result, BaseException):
            raise result
        else:
            answers[kind] = result
    if failure is not None and not answers["A"]:
        raise failure
    return answers


async def ask(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> tuple[str, ...]:
    """Return the answers to one question; none for NXDOMAIN and for a name without this type.

    Raises:
        DiscoveryError: The name servers did not answer (SERVFAIL, REFUSED, time-out).
    """
    began = time.monotonic()
    try:
        answer = await resolver.resolve(dns.name.from_text(f"{name}."), kind, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return ()
    except dns.exception.DNSException as error:
        servers = ", ".join(map(str, resolver.nameservers))
        raise DiscoveryError(
            node=name,
            cause=f"name servers {servers} gave no answer for {name}: {_dns_reason(error)}",
            remedy=DNS_REMEDY,
        ) from error
    finally:
        _put_back(resolver, int((time.monotonic() - began) / resolver.timeout))
    if kind == "SRV":
        return tuple(sorted(str(record.target) for record in answer))
    return tuple(sorted(record.address for record in answer))


def _put_back(resolver: dns.asyncresolver.Resolver, silent: int) -> None:
    """Ask those that gave no answer in time last, so that a dead server costs its time-out once."""
    servers = list(resolver.nameservers)
    if 0 < silent < len(servers):
        resolver.nameservers = servers[silent:] + servers[:silent]


def _dns_reason(error: dns.exception.DNSException) -> str:
    words = str(error)
    for code in ("SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"):
        if code in words:
            return code
    return "timed out"


def one_family(answers: Iterable[dict[str, tuple[str, ...]]]) -> str:
    """Return the record type of the family that most pods have; IPv4 when both are complete."""
    known = list(answers)
    ipv4 = sum(bool(answer["A"]) for answer in known)
    ipv6 = sum(bool(answer["AAAA"]) for answer in known)
    return "AAAA" if ipv6 > ipv4 else "A"


def numeric(host: str) -> str | None:
    """Return the record type of a numeric address; None for a name."""
    try:
        return "AAAA" if isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address) else "A"
    except ValueError:
        return None


def host_port(host: str, port: int) -> str:
    """Return `host:port`, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolver_for(
    nameservers: Sequence[tuple[str, int]], bits: int = 0, *, timeout_s: float
) -> dns.asyncresolver.Resolver:
    """Return a resolver that asks these servers, or resolv.conf's, with these header bits."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
    except dns.resolver.NoResolverConfiguration as error:
        raise SettingsError(
            cause="resolv.conf names no name server", remedy="set BOOTSTRAP_NAMESERVERS"
        ) from error
    if nameservers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(ip, port) for ip, port in nameservers]
    resolver.use_edns(0, bits & dns.flags.DO, EDNS_BYTES)
    resolver.flags = int(dns.flags.RD) | (bits & dns.flags.CD)
    servers = len(resolver.nameservers)
    # Two looks, as `status` takes, and an end that names the servers fit into the deadline.
    resolver.lifetime = min((1 + servers) * QUERY_TIMEOUT_S, timeout_s / 3)
    resolver.timeout = min(QUERY_TIMEOUT_S, resolver.lifetime / max(1, servers))
    return resolver


async def system_addresses(host: str) -> dict[str, tuple[str, ...]]:
    """Resolve as the system does, with /etc/hosts and search list: for VMs and compose.

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
    found: dict[str, tuple[str, ...]] = {}
    for kind, family in (("A", socket.AF_INET), ("AAAA", socket.AF_INET6)):
        found[kind] = tuple(sorted({str(info[4][0]) for info in infos if info[0] == family}))
    return found
