"""From names to endpoints, by asking the name servers ourselves.

Rules: names are absolute; an answer is a hint that a connection confirms; NXDOMAIN means "not
yet", SERVFAIL and time-outs mean "ask again"; the headless Service is asked before any pod, and a
pod only when it can exist: a question that comes too early plants a negative answer in caches
(CoreDNS, nodelocaldns) for 5 to 30 s. One address family for all pods, as mixed ones end in
handshake time-outs (bitnami/charts#34822).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.nameserver
import dns.resolver

from ..core.topology import Absent, Endpoint
from ..errors import DiscoveryError, SettingsError

EDNS_BYTES = 1232
QUERY_TIMEOUT_S = 2.0
QUERIES_AT_ONCE = 64
BLIND_AFTER_S = 10.0
PAUSES_S = (0.3, 0.7, 1.0, 2.0, 3.0, 4.0, 6.0, 6.0, 3.0)
_BOTH = dns.flags.DO | dns.flags.CD
FAMILIES = ("A", "AAAA")
_NAMED_BY_HAND = "check the names in BOOTSTRAP_ENDPOINTS, and who resolves them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What discovery knows now.

    Attributes:
        endpoints: Pods with an address, by ordinal; those beyond the wanted number leave.
        absent: Wanted pods without one.
    """

    endpoints: tuple[Endpoint, ...]
    absent: tuple[Absent, ...]


class Discovery(Protocol):
    """A source of endpoints."""

    async def find(self) -> Found:
        """Look once."""


class ServiceDiscovery:
    """The pods of a StatefulSet behind its headless Service.

    While pods are missing the Service is asked in turn for addresses and for SRV, with and without
    the DO and CD bits: a cache like CoreDNS's keeps an answer (up to 30 s, also "no such name") by
    name, type and these bits, so each of the eight questions is fresh once. Asked with growing
    pauses they last as long as the cache does. The question that found all pods is asked on.
    """

    def __init__(
        self,
        *,
        nodes: int,
        statefulset: str,
        service: str,
        port: int,
        nameservers: Sequence[tuple[str, int]] = (),
        timeout_s: float = 600.0,
    ) -> None:
        """Prepare to ask.

        Args:
            nodes: How many pods are wanted.
            statefulset: Its name; pod i is called `statefulset-i`.
            service: Absolute name of the headless Service, without the last dot.
            port: Client port of every pod.
            nameservers: Address and port of each; resolv.conf's when empty.
            timeout_s: How long all of it may take; in half of that it is known who is missing, and
                in a third that the name servers do not answer.
        """
        self._nodes = nodes
        self._statefulset = statefulset
        self._service = service
        self._port = port
        self._blind_after_s = min(BLIND_AFTER_S, timeout_s / 2)
        self._resolvers = [
            _resolver(nameservers, bits, timeout_s=timeout_s)
            for bits in (0, dns.flags.DO, dns.flags.CD, _BOTH)
        ]
        self._gate = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._turn = 0
        self._count = 0
        self._ask_at = 0.0
        self._named_at = time.monotonic()
        self._last = self._all_absent("no address in DNS yet")

    async def find(self) -> Found:
        """Ask the Service, then the pods that can exist; too early, the last answer again."""
        now = time.monotonic()
        if self._last.absent and now < self._ask_at:
            return self._last
        try:
            ordinals = await self._existing(now)
        except DiscoveryError as error:
            self._last = self._all_absent(error.cause, remedy=error.remedy)
            return self._last
        if ordinals is not None:
            answers = await asyncio.gather(*(self._pod(ordinal) for ordinal in ordinals))
            self._last = self._found(dict(zip(ordinals, answers, strict=True)))
        if self._last.absent:
            self._ask_at = now + PAUSES_S[min(self._turn, len(PAUSES_S) - 1)]
            self._turn += 1
        return self._last

    async def _existing(self, now: float) -> Sequence[int] | None:
        """Return the ordinals of pods that exist; None when this turn's answer tells nothing."""
        if self._turn % 2 == 0:
            answers = await both_families(lambda kind: self._ask(self._service, kind))
            self._count = max(map(len, answers.values()))
            if self._count == self._nodes:
                return range(self._count)
            if not self._count:
                return ()
        try:
            named = await self._named(now)
        except DiscoveryError:
            named = self._guessed(now)
        if self._count <= self._nodes:
            return named
        # Pods leave in any order: beyond the wanted ones there may be gaps, and SRV may be older.
        spare = 0 if named else self._count - self._nodes
        return sorted({*range(self._count + spare), *(named or ())})

    async def _named(self, now: float) -> Sequence[int] | None:
        """Return the ordinals that SRV names."""
        prefix = f"{self._statefulset}-"
        names = [target.split(".")[0] for target in await self._ask(self._service, "SRV")]
        ordinals = {
            int(name.removeprefix(prefix))
            for name in names
            if name.startswith(prefix) and name.removeprefix(prefix).isdigit()
        }
        if not ordinals:
            return self._guessed(now)
        self._named_at = now
        return sorted(ordinals)

    def _guessed(self, now: float) -> Sequence[int] | None:
        """Return all ordinals after a while in which there were some pods and no SRV.

        To say which pod is missing is worth a negative answer in a cache by then.
        """
        if not self._count or now - self._named_at < self._blind_after_s:
            return None
        self._named_at = now
        return range(self._nodes)

    def _all_absent(self, cause: str, *, remedy: str = "") -> Found:
        absent = (self._absent(i, cause, remedy=remedy) for i in range(self._nodes))
        return Found(endpoints=(), absent=tuple(absent))

    async def _pod(self, ordinal: int) -> dict[str, tuple[str, ...]] | DiscoveryError:
        """Return a pod's addresses by family, or why there are none."""
        name = f"{self._statefulset}-{ordinal}.{self._service}"
        try:
            return await both_families(lambda kind: self._ask(name, kind))
        except DiscoveryError as error:
            return error

    async def _ask(self, name: str, kind: str) -> tuple[str, ...]:
        async with self._gate:
            return await ask(self._resolvers[self._turn // 2 % len(self._resolvers)], name, kind)

    def _found(self, answers: dict[int, dict[str, tuple[str, ...]] | DiscoveryError]) -> Found:
        resolved = {i: a for i, a in answers.items() if isinstance(a, dict) and any(a.values())}
        family = one_family(a for i, a in resolved.items() if i < self._nodes)
        endpoints, absent = [], []
        for ordinal in sorted({*answers, *range(self._nodes)}):
            answer = resolved.get(ordinal)
            if answer is not None and answer[family]:
                endpoints.append(self._endpoint(ordinal, answer[family]))
            elif ordinal < self._nodes:
                failure = answers.get(ordinal)
                cause, remedy = "no address in DNS yet", ""
                if isinstance(failure, DiscoveryError):
                    cause, remedy = failure.cause, failure.remedy
                elif answer is not None:
                    other = "IPv4" if family == "A" else "IPv6"
                    cause = f"no {other} address, which the other pods have"
                absent.append(self._absent(ordinal, cause, remedy=remedy))
        return Found(endpoints=tuple(endpoints), absent=tuple(absent))

    def _endpoint(self, ordinal: int, addresses: tuple[str, ...]) -> Endpoint:
        name = f"{self._statefulset}-{ordinal}"
        return Endpoint(
            name=name,
            host=f"{name}.{self._service}",
            ordinal=ordinal,
            addresses=addresses,
            port=self._port,
        )

    def _absent(self, ordinal: int, cause: str, *, remedy: str = "") -> Absent:
        name = f"{self._statefulset}-{ordinal}"
        return Absent(name=name, ordinal=ordinal, phase="dns", cause=cause, remedy=remedy)


class StaticDiscovery:
    """A list of hosts given by hand, in the order of their ordinals."""

    def __init__(
        self,
        *,
        nodes: int,
        endpoints: Sequence[tuple[str, int]],
        nameservers: Sequence[tuple[str, int]] = (),
        timeout_s: float = 600.0,
    ) -> None:
        self._nodes = nodes
        self._endpoints = endpoints
        self._resolver = _resolver(nameservers, timeout_s=timeout_s) if nameservers else None

    async def find(self) -> Found:
        """Resolve every host that is not an address already."""
        answers = await asyncio.gather(*(self._addresses(host) for host, _ in self._endpoints))
        family = one_family(
            a for i, a in enumerate(answers) if isinstance(a, dict) and i < self._nodes
        )
        endpoints, absent = [], []
        for ordinal, ((host, port), answer) in enumerate(
            zip(self._endpoints, answers, strict=True)
        ):
            name = host_port(host, port)
            addresses = () if isinstance(answer, DiscoveryError) else answer[family]
            if addresses:
                endpoints.append(
                    Endpoint(name=name, host=host, ordinal=ordinal, addresses=addresses, port=port)
                )
            else:
                cause, remedy = "no address of the common family", _NAMED_BY_HAND
                if isinstance(answer, DiscoveryError):
                    cause, remedy = answer.cause, answer.remedy
                absent.append(
                    Absent(name=name, ordinal=ordinal, phase="dns", cause=cause, remedy=remedy)
                )
        return Found(endpoints=tuple(endpoints), absent=tuple(absent))

    async def _addresses(self, host: str) -> dict[str, tuple[str, ...]] | DiscoveryError:
        try:
            if literal := numeric(host):
                return {kind: (host,) * (kind == literal) for kind in FAMILIES}
            resolver = self._resolver
            if resolver is None:
                return await _system_addresses(host)
            answers = await both_families(lambda kind: ask(resolver, host, kind))
        except DiscoveryError as error:
            return error
        if not any(answers.values()):
            return DiscoveryError(cause="no address in DNS yet", remedy=_NAMED_BY_HAND)
        return answers


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
            remedy="check that CoreDNS runs and that a NetworkPolicy allows UDP and TCP 53",
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


def _resolver(
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


async def _system_addresses(host: str) -> dict[str, tuple[str, ...]]:
    """Resolve as the system does, with /etc/hosts and search list: for VMs and compose.

    Raises:
        DiscoveryError: It has no address for the name.
    """
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DiscoveryError(
            cause=f"{host} does not resolve: {error.strerror or error}", remedy=_NAMED_BY_HAND
        ) from error
    found: dict[str, tuple[str, ...]] = {}
    for kind, family in (("A", socket.AF_INET), ("AAAA", socket.AF_INET6)):
        found[kind] = tuple(sorted({str(info[4][0]) for info in infos if info[0] == family}))
    return found
