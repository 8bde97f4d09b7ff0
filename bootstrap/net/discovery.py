"""From names to endpoints, by asking the name servers ourselves.

Rules: names are absolute; an answer is a hint that a connection confirms; NXDOMAIN means "not
yet", SERVFAIL and time-outs mean "ask again"; the headless Service is asked before any pod, and a
pod only when it can exist: a question that comes too early plants a negative answer in caches
(CoreDNS, nodelocaldns) for 5 to 30 s. One address family for all pods, as mixed ones end in
handshake time-outs (bitnami/charts#34822).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import dns.flags

from ..core.topology import Absent, Endpoint
from ..errors import DiscoveryError
from .dns_queries import (
    FAMILIES,
    NAMED_BY_HAND,
    ask,
    both_families,
    host_port,
    numeric,
    one_family,
    resolver_for,
    system_addresses,
)

QUERIES_AT_ONCE = 64
BLIND_AFTER_S = 10.0
DOUBT_FOR_S = 30.0
PAUSES_S = (0.3, 0.7, 1.0, 2.0, 3.0, 4.0, 6.0, 6.0, 3.0)
_BOTH = dns.flags.DO | dns.flags.CD


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
        self._doubt_for_s = min(DOUBT_FOR_S, timeout_s / 2)
        self._doubted_at: float | None = None
        self._resolvers = [
            resolver_for(nameservers, bits, timeout_s=timeout_s)
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
            found = self._found(dict(zip(ordinals, answers, strict=True)))
            self._last = self._without_doubtful(found, now)
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

    def _without_doubtful(self, found: Found, now: float) -> Found:
        """Take pods that have the address of another one for missing, as long as caches last.

        Where pods come back on new addresses, the old one of a pod can be the new one of another,
        and a cache still has the record. Where it stays like that it is for a person.
        """
        first: dict[tuple[str, ...], str] = {}
        doubtful = {
            endpoint: name
            for endpoint in found.endpoints
            if (name := first.setdefault(endpoint.addresses, endpoint.name)) != endpoint.name
        }
        if not doubtful:
            self._doubted_at = None
        elif self._doubted_at is None:
            self._doubted_at = now
        if self._doubted_at is None or now - self._doubted_at >= self._doubt_for_s:
            return found
        absent = (
            self._absent(
                endpoint.ordinal,
                f"its address in DNS, {endpoint.addresses[0]}, is that of {name} too",
                remedy="wait until caches forget the older record, or look at the name servers",
            )
            for endpoint, name in doubtful.items()
        )
        return replace(
            found,
            endpoints=tuple(e for e in found.endpoints if e not in doubtful),
            absent=(*found.absent, *absent),
        )

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
        self._resolver = resolver_for(nameservers, timeout_s=timeout_s) if nameservers else None

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
                cause, remedy = "no address of the common family", NAMED_BY_HAND
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
                return await system_addresses(host)
            answers = await both_families(lambda kind: ask(resolver, host, kind))
        except DiscoveryError as error:
            return error
        if not any(answers.values()):
            return DiscoveryError(cause="no address in DNS yet", remedy=NAMED_BY_HAND)
        return answers
