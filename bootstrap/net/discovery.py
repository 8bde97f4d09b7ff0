"""From names to endpoints, by asking the name servers directly.

Rules: an answer is a hint that a connection confirms; a pod is asked for only when it can exist
(`service_records`); all pods have one address family, because mixed ones end in handshake
timeouts (bitnami/charts#34822); what the records themselves show is the cause that is reported,
before any guess.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..core.topology import Absent, Endpoint
from ..errors import DiscoveryError
from .dns_causes import NOT_YET, Names
from .dns_queries import (
    FAMILIES,
    NAMED_BY_HAND,
    ask,
    both_families,
    numeric,
    one_family,
    resolver_for,
    system_addresses,
)
from .name_server import host_port
from .service_records import Records, ServiceRecords

QUERIES_AT_ONCE = 64
BLIND_AFTER_S = 10.0
DOUBT_FOR_S = 30.0
# A pod often comes right after another one, so pauses start again with each that came.
PAUSES_S = (0.3, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0)
NOTHING_YET_S = 1.0
# Larger clusters are not recommended (Redis Cluster specification); bounds the work.
MOST_PODS = 1000

_Addresses = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What discovery knows now.

    Attributes:
        endpoints: Pods with an address, by ordinal; those beyond the wanted number leave.
        absent: Wanted pods without one.
        surplus: Names of the endpoints beyond the wanted number.
    """

    endpoints: tuple[Endpoint, ...]
    absent: tuple[Absent, ...]
    surplus: tuple[str, ...] = ()


class Discovery(Protocol):
    """A source of endpoints."""

    async def find(self) -> Found:
        """Ask once."""


class ServiceDiscovery:
    """The pods of a StatefulSet behind its headless Service."""

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
        self._names = Names(
            statefulset=statefulset, service=service, nodes=nodes, most=max(nodes, MOST_PODS)
        )
        self._port = port
        self._blind_after_s = min(BLIND_AFTER_S, timeout_s / 2)
        self._doubt_for_s = min(DOUBT_FOR_S, timeout_s / 2)
        self._doubted_at: float | None = None
        self._records = ServiceRecords(resolver_for(nameservers, timeout_s=timeout_s), service)
        self._gate = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._kinds: tuple[str, ...] = ()
        self._unlisted: set[int] = set()
        self._turn = 0
        self._ask_at = 0.0
        self._named_at = time.monotonic()
        self._last = self._all_absent(NOT_YET)

    async def find(self) -> Found:
        """Ask the Service, then the pods that can exist; too early, return the last answer."""
        now = time.monotonic()
        if self._last.absent and now < self._ask_at:
            return self._last
        before = self._last
        try:
            self._last = await self._found(now)
        except DiscoveryError as error:
            self._last = self._all_absent(error.cause, remedy=error.remedy)
        if self._last.absent:
            self._turn = 0 if len(self._last.endpoints) > len(before.endpoints) else self._turn + 1
            pause = PAUSES_S[min(self._turn, len(PAUSES_S) - 1)]
            self._ask_at = now + (pause if self._last.endpoints else min(pause, NOTHING_YET_S))
        return self._last

    async def _found(self, now: float) -> Found:
        records = await self._records.observe(self._nodes, again=not self._last.absent)
        self._kinds = self._kinds or (self._records.family,)
        ordinals = self._ordinals(records, now)
        if records.addresses and self._records.are_all_cached:
            self._unlisted |= await self._probed(ordinals | self._unlisted)
        ordinals |= self._unlisted
        answers = await asyncio.gather(*(self._pod(ordinal) for ordinal in sorted(ordinals)))
        found = self._chosen(dict(zip(sorted(ordinals), answers, strict=True)), records)
        return self._without_doubtful(found, now)

    def _ordinals(self, records: Records, now: float) -> set[int]:
        """Return the ordinals of pods that can exist."""
        count = min(records.addresses, MOST_PODS)
        if records.targets is None:
            if count == self._nodes:
                return set(range(count))
            if not count or now - self._named_at < self._blind_after_s:
                return set()
            # To say which pod is missing is worth a negative answer in a cache by then. Pods leave
            # in any order, so beyond the wanted ones there may be gaps.
            return set(range(max(self._nodes, 2 * count - self._nodes)))
        self._named_at = now
        listed = self._names.ordinals(records.targets)
        # One of the two answers is older where they differ.
        differs = count >= self._nodes and count != len(records.targets)
        return listed | set(range(count)) if differs else listed

    async def _probed(self, known: set[int]) -> set[int]:
        """Return the ordinals of wanted pods that exist though a cached list lacks them."""
        missing = [i for i in range(self._nodes) if i not in known]
        answers = await asyncio.gather(*(self._is_there(ordinal) for ordinal in missing))
        return {ordinal for ordinal, is_there in zip(missing, answers, strict=True) if is_there}

    async def _is_there(self, ordinal: int) -> bool:
        try:
            async with self._gate:
                return await self._records.is_there(self._names.host(ordinal))
        except DiscoveryError:
            return False

    async def _pod(self, ordinal: int) -> _Addresses | DiscoveryError:
        """Return a pod's addresses by family, or why there are none."""

        async def question(kind: str) -> tuple[str, ...]:
            async with self._gate:
                return await self._records.addresses(self._names.host(ordinal), kind)

        try:
            if self._kinds == FAMILIES:
                return await both_families(question)
            (kind,) = self._kinds
            return dict.fromkeys(FAMILIES, ()) | {kind: await question(kind)}
        except DiscoveryError as error:
            return error

    def _chosen(self, answers: dict[int, _Addresses | DiscoveryError], records: Records) -> Found:
        """Return the pods with an address of the one family, and why the others have none."""
        resolved = {i: a for i, a in answers.items() if isinstance(a, dict) and any(a.values())}
        family = one_family(a for i, a in resolved.items() if i < self._nodes)
        endpoints = tuple(
            self._endpoint(i, resolved[i][family]) for i in sorted(resolved) if resolved[i][family]
        )
        missing = set(range(self._nodes)) - {endpoint.ordinal for endpoint in endpoints}
        self._unlisted -= missing
        # The other family matters only while a pod has no address of this one.
        self._kinds = FAMILIES if missing else (family,)
        cause, remedy = self._names.why_absent(records, missing)
        common = "IPv4" if family == "A" else "IPv6"
        absent = []
        for ordinal in sorted(missing):
            answer = answers.get(ordinal)
            if isinstance(answer, DiscoveryError):
                absent.append(self._absent(ordinal, answer.cause, remedy=answer.remedy))
            elif ordinal in resolved:
                absent.append(self._absent(ordinal, f"no {common} address, as the other pods have"))
            else:
                absent.append(self._absent(ordinal, cause, remedy=remedy))
        surplus = tuple(e.name for e in endpoints if e.ordinal >= self._nodes)
        return Found(endpoints=endpoints, absent=tuple(absent), surplus=surplus)

    def _without_doubtful(self, found: Found, now: float) -> Found:
        """Treat pods that have the address of another one as missing, as long as caches last.

        Where pods come back on new addresses, the old one of a pod can be the new one of another,
        and a cache still has the record. Where it stays like that a person must decide.
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
                remedy="wait until caches drop the older record, or check the name servers",
            )
            for endpoint, name in doubtful.items()
        )
        return replace(
            found,
            endpoints=tuple(e for e in found.endpoints if e not in doubtful),
            absent=(*found.absent, *absent),
        )

    def _all_absent(self, cause: str, *, remedy: str = "") -> Found:
        absent = (self._absent(i, cause, remedy=remedy) for i in range(self._nodes))
        return Found(endpoints=(), absent=tuple(absent))

    def _endpoint(self, ordinal: int, addresses: tuple[str, ...]) -> Endpoint:
        return Endpoint(
            name=self._names.pod(ordinal),
            host=self._names.host(ordinal),
            ordinal=ordinal,
            addresses=addresses,
            port=self._port,
        )

    def _absent(self, ordinal: int, cause: str, *, remedy: str = "") -> Absent:
        return Absent(
            name=self._names.pod(ordinal),
            ordinal=ordinal,
            phase="dns",
            cause=cause,
            remedy=remedy,
        )


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

    async def _addresses(self, host: str) -> _Addresses | DiscoveryError:
        try:
            if literal := numeric(host):
                return {kind: (host,) * (kind == literal) for kind in FAMILIES}
            resolver = self._resolver
            if resolver is None:
                return await system_addresses(host)

            async def question(kind: str) -> tuple[str, ...]:
                # An alias is right here: a person gave the name.
                return (await ask(resolver, host, kind)).values

            answers = await both_families(question)
        except DiscoveryError as error:
            return error
        if not any(answers.values()):
            return DiscoveryError(cause=NOT_YET, remedy=NAMED_BY_HAND)
        return answers
