"""From names to endpoints, by asking the name servers directly.

Rules: an answer is a hint that a connection confirms; a pod is asked for only when it can exist
(`pod_names`); all pods have one address family, because mixed ones end in handshake
timeouts (bitnami/charts#34822); what the records themselves show is the cause that is reported,
before any guess.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from ..core.topology import Absent, Address, Endpoint
from ..errors import DiscoveryError
from .dns_causes import NOT_YET, Names
from .moved_pods import MovedPods
from .pod_names import PodNames, Records
from .resolver import (
    FAMILIES,
    NAMED_BY_HAND,
    Addresses,
    ask,
    both_families,
    one_family,
    resolver_for,
    system_addresses,
)

QUERIES_AT_ONCE = 64
BLIND_AFTER_S = 10.0
DOUBT_FOR_S = 30.0
# A pod often comes right after another one, so pauses start again with each that came.
PAUSES_S = (0.3, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0)
NOTHING_YET_S = 1.0
# Larger clusters are not recommended (Redis Cluster specification); bounds the work.
MOST_PODS = 1000


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

    async def find(self, silent: Collection[str] = ()) -> Found:
        """Ask once; `silent` pods did not answer at the address that was found last."""


class ServiceDiscovery:
    """The pods of a StatefulSet behind its headless Service.

    In half of `timeout_s` it is known who is missing, and in a third that the name servers do not
    answer; without `nameservers` those of resolv.conf are asked.
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
        self._nodes = nodes
        self._names = Names(
            statefulset=statefulset, service=service, nodes=nodes, most=max(nodes, MOST_PODS)
        )
        self._port = port
        self._blind_after_s = min(BLIND_AFTER_S, timeout_s / 2)
        self._doubt_for_s = min(DOUBT_FOR_S, timeout_s / 2)
        self._doubted_at: float | None = None
        self._records = PodNames(resolver_for(nameservers, timeout_s=timeout_s), service)
        self._gate = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._kinds: tuple[str, ...] = ()
        self._unlisted: set[int] = set()
        self._moved = MovedPods(self._records, nodes=nodes)
        self._turn = 0
        self._ask_at = 0.0
        self._named_at = time.monotonic()
        self._last = self._all_absent(NOT_YET)

    async def find(self, silent: Collection[str] = ()) -> Found:
        """Ask the Service, then the pods that can exist; too early, return the last answer."""
        now, before = time.monotonic(), self._last
        self._moved.note(before.endpoints, silent)
        if (before.absent or self._moved.ordinals) and now < self._ask_at:
            return before
        try:
            self._last = await self._found(now)
        except DiscoveryError as error:
            self._last = self._all_absent(error.cause, error.remedy)
        if self._last.absent or self._moved.ordinals:
            self._turn = 0 if len(self._last.endpoints) > len(before.endpoints) else self._turn + 1
            pause = PAUSES_S[min(self._turn, len(PAUSES_S) - 1)]
            self._ask_at = now + (pause if self._last.endpoints else min(pause, NOTHING_YET_S))
        return self._last

    async def _found(self, now: float) -> Found:
        records = await self._records.observe(self._nodes)
        self._kinds = self._kinds or (self._records.family,)
        ordinals = self._ordinals(records, now)
        if records.addresses and self._records.are_all_cached:
            # Wanted pods may exist though a cached list lacks them.
            missing = set(range(self._nodes)) - ordinals - self._unlisted
            answers = await asyncio.gather(*map(self._is_there, missing))
            self._unlisted |= {i for i, there in zip(missing, answers, strict=True) if there}
        asked = sorted(ordinals | self._unlisted | self._moved.ordinals)
        found = await asyncio.gather(*map(self._pod, asked))
        chosen = self._chosen(dict(zip(asked, found, strict=True)), records)
        return self._without_doubtful(chosen, now)

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

    async def _is_there(self, ordinal: int) -> bool:
        async with self._gate:
            with suppress(DiscoveryError):
                return await self._records.is_there(self._names.host(ordinal))
        return False

    async def _pod(self, ordinal: int) -> Addresses | DiscoveryError:
        """Return a pod's addresses by family, or why there are none."""

        async def question(kind: str) -> tuple[str, ...]:
            async with self._gate:
                return await self._moved.addresses(ordinal, self._names.host(ordinal), kind)

        try:
            if self._kinds == FAMILIES:
                return await both_families(question)
            (kind,) = self._kinds
            return dict.fromkeys(FAMILIES, ()) | {kind: await question(kind)}
        except DiscoveryError as error:
            return error

    def _chosen(self, answers: dict[int, Addresses | DiscoveryError], records: Records) -> Found:
        """Return the pods with an address of the one family, and why the others have none."""
        resolved = {i: a for i, a in answers.items() if isinstance(a, dict) and any(a.values())}
        family = one_family(a for i, a in resolved.items() if i < self._nodes)
        endpoints = tuple(
            Endpoint(
                name=self._names.pod(ordinal),
                host=self._names.host(ordinal),
                ordinal=ordinal,
                addresses=addresses[family],
                port=self._port,
            )
            for ordinal, addresses in sorted(resolved.items())
            if addresses[family]
        )
        missing = set(range(self._nodes)) - {endpoint.ordinal for endpoint in endpoints}
        self._unlisted -= missing
        # The other family matters only while a pod has no address of this one.
        self._kinds = FAMILIES if missing else (family,)
        usual = self._names.why_absent(records, missing)
        common = "IPv4" if family == "A" else "IPv6"
        absent = []
        for ordinal in sorted(missing):
            cause, remedy = usual
            answer = answers.get(ordinal)
            if isinstance(answer, DiscoveryError):
                cause, remedy = answer.cause, answer.remedy
            elif ordinal in resolved:
                cause, remedy = f"no {common} address, as the other pods have", ""
            absent.append(self._absent(ordinal, cause, remedy))
        return Found(endpoints=endpoints, absent=tuple(absent))

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
            return found
        self._doubted_at = now if self._doubted_at is None else self._doubted_at
        if now - self._doubted_at >= self._doubt_for_s:
            return found
        remedy = "wait until caches drop the older record, or check the name servers"
        absent = (
            self._absent(
                endpoint.ordinal,
                f"its address in DNS, {endpoint.addresses[0]}, is that of {name} too",
                remedy,
            )
            for endpoint, name in doubtful.items()
        )
        return replace(
            found,
            endpoints=tuple(e for e in found.endpoints if e not in doubtful),
            absent=(*found.absent, *absent),
        )

    def _all_absent(self, cause: str, remedy: str = "") -> Found:
        absent = tuple(self._absent(ordinal, cause, remedy) for ordinal in range(self._nodes))
        return Found(endpoints=(), absent=absent)

    def _absent(self, ordinal: int, cause: str, remedy: str) -> Absent:
        return _absent(self._names.pod(ordinal), ordinal, cause, remedy)


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

    async def find(self, silent: Collection[str] = ()) -> Found:  # noqa: ARG002 - all are asked again
        """Resolve every host that is not an address already."""
        answers = await asyncio.gather(*(self._addresses(host) for host, _ in self._endpoints))
        family = one_family(a for a in answers[: self._nodes] if isinstance(a, dict))
        endpoints, absent = [], []
        for i, ((host, port), answer) in enumerate(zip(self._endpoints, answers, strict=True)):
            name = str(Address(host, port, 0))
            if isinstance(answer, DiscoveryError):
                absent.append(_absent(name, i, answer.cause, answer.remedy))
            elif addresses := answer[family]:
                endpoints.append(
                    Endpoint(name=name, host=host, ordinal=i, addresses=addresses, port=port)
                )
            else:
                absent.append(_absent(name, i, "no address of the common family", NAMED_BY_HAND))
        return Found(endpoints=tuple(endpoints), absent=tuple(absent))

    async def _addresses(self, host: str) -> Addresses | DiscoveryError:
        with suppress(ValueError):
            is_ipv6 = isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
            return dict.fromkeys(FAMILIES, ()) | {FAMILIES[is_ipv6]: (host,)}

        async def question(kind: str) -> tuple[str, ...]:
            # An alias is right here: a person gave the name.
            return (await ask(resolver, host, kind)).values if resolver else ()

        resolver = self._resolver
        try:
            answers = await (both_families(question) if resolver else system_addresses(host))
        except DiscoveryError as error:
            return error
        if any(answers.values()):
            return answers
        return DiscoveryError(cause=NOT_YET, remedy=NAMED_BY_HAND)


def _absent(name: str, ordinal: int, cause: str, remedy: str) -> Absent:
    return Absent(name=name, ordinal=ordinal, phase="dns", cause=cause, remedy=remedy)
