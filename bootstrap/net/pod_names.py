"""Ask the headless Service which pods exist, past the caches on the way.

Rules: the Service is asked before any pod, and a pod only when the Service names it. CoreDNS keeps
an answer, also "no such name" and an incomplete list, for up to 30 s under name, type, DO and CD.
So while nothing exists the Service is asked for types that no other client asks for, whose absence
harms no other question; and while pods are missing each question has an entry of its own as long
as there are such questions. Decision 0018 has the reasons and the figures.
"""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import dns.flags

from ..errors import DiscoveryError
from .resolver import DNS_REMEDY, Answer, Resolver, ask

# Types for private use (RFC 6895, 3.1). CoreDNS answers them with "no such name" or "no such
# record", from the Service's endpoints.
_PROBE_TYPES = range(65280, 65535)
_FLAGS = (0, int(dns.flags.DO), int(dns.flags.CD), int(dns.flags.DO | dns.flags.CD))
# Where every list is cached for longer than this, absent pods are asked for by themselves.
_PATIENCE_S = 5.0
# CoreDNS keeps SERVFAIL that long.
_FAILURE_CACHED_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What the records of the Service say.

    Attributes:
        addresses: How many addresses the Service has.
        targets: Names that its SRV records have; None where they are not known yet.
    """

    addresses: int = 0
    targets: tuple[str, ...] | None = None


class _Question(NamedTuple):
    name: str
    kind: str
    flags: int


class PodNames:
    """Asks one question after another about a Service, each fresh as far as that can be.

    Attributes:
        family: Record type of the Service's addresses.
    """

    def __init__(self, resolver: Resolver, service: str) -> None:
        self._resolver = resolver
        self._service = service
        # Programs that start together must not ask for the same types.
        start = random.randrange(len(_PROBE_TYPES))
        types = itertools.cycle((*_PROBE_TYPES[start:], *_PROBE_TYPES[:start]))
        self._probes = (f"TYPE{number}" for number in types)
        self._exists = True
        self.family = "A"
        self._question = _Question(name=service, kind="A", flags=0)
        self._expires: dict[_Question, float] = {}
        self._pod_flags: dict[tuple[str, str], int] = {}
        self._full_ttl_s = 0.0
        self._made_at = 0.0
        self._records = Records()

    @property
    def are_all_cached(self) -> bool:
        """Return whether no list can be fresh for a while."""
        now = time.monotonic()
        return all(self._expires.get(q, 0.0) > now + _PATIENCE_S for q in self._questions())

    async def observe(self, wanted: int) -> Records:
        """Ask one question more about `wanted` pods and return all that is known now.

        Raises:
            DiscoveryError: No name server answered, or an alias did.
        """
        if not self._exists and not await self.may_exist(self._service):
            return self._records
        self._question = self._freshest()
        if self._question.kind == "SRV":
            await self._list()
            count = len(self._records.targets or ())
            self._records = replace(self._records, addresses=count or self._records.addresses)
        else:
            await self._count()
            known = self._records.targets is not None and self._records.addresses <= wanted
            if self._records.addresses not in (0, wanted) and not known:
                await self._list()
        self._exists = bool(self._records.addresses or self._records.targets)
        return self._records

    async def is_there(self, name: str) -> bool:
        """Return whether a name exists, by a question that leaves no trace for others."""
        answer = await ask(self._resolver, name, next(self._probes), self._question.flags)
        return answer.exists

    async def may_exist(self, name: str) -> bool:
        """Return whether a name exists, past all caches; True where no server can tell."""
        try:
            return await self.is_there(name)
        except DiscoveryError:
            # A server that does not take unknown types is asked for what it knows.
            return True

    async def addresses(self, name: str, kind: str) -> tuple[str, ...]:
        """Return the addresses of a pod, asked with the bits that found them before.

        Those of the question that named it otherwise. The others are left for `fresh_addresses`.
        """
        flags = self._pod_flags.get((name, kind), self._question.flags)
        addresses = (await self._ask(_Question(name, kind, flags))).values
        if addresses:
            self._pod_flags[name, kind] = flags
        return addresses

    async def fresh_addresses(self, name: str, kind: str) -> tuple[str, ...] | None:
        """Return the addresses of a pod past the caches; None while they have every answer."""
        questions = (_Question(name, kind, flags) for flags in _FLAGS)
        question = min(questions, key=lambda question: self._expires.get(question, 0.0))
        if self._expires.get(question, 0.0) > time.monotonic():
            return None
        # From now on, or an older answer to another question would come back.
        self._pod_flags[name, kind] = question.flags
        return (await self._ask(question)).values

    async def _count(self) -> None:
        """Learn how many addresses the Service has, of the family that it has."""
        answer = await self._remembered(self._question)
        if answer is not None and answer.exists and not answer.values:
            other = self._question._replace(kind="AAAA" if self._question.kind == "A" else "A")
            second = await self._remembered(other)
            if second is not None and second.values:
                answer, self._question, self.family = second, other, other.kind
        if answer is None:
            return
        if not answer.values:
            self._records = Records()
        self._records = replace(self._records, addresses=len(answer.values))

    async def _list(self) -> None:
        """Learn the names of the pods that exist."""
        try:
            answer = await self._remembered(self._question._replace(kind="SRV"))
        except DiscoveryError:
            # Addresses alone are enough: some name servers know no SRV.
            if not self._records.addresses:
                raise
            return
        if answer is not None:
            self._records = replace(self._records, targets=answer.values or None)

    async def _remembered(self, question: _Question) -> Answer | None:
        """Return an answer and remember how long caches keep it; None for one that is outdated.

        The time to live counts down in a cache, so it shows how old an answer is: what an earlier
        question left in a cache must not replace what a later one has learned.
        """
        answer = await self._ask(question)
        now = time.monotonic()
        self._full_ttl_s = max(self._full_ttl_s, answer.ttl_s)
        made_at = now - (self._full_ttl_s - answer.ttl_s)
        # The time to live is in whole seconds.
        if made_at < self._made_at - 1.0:
            return None
        self._made_at = max(self._made_at, made_at)
        return answer

    async def _ask(self, question: _Question) -> Answer:
        """Return an answer, and remember how long caches keep it."""
        name = question.name
        self._expires[question] = time.monotonic() + _FAILURE_CACHED_S
        answer = await ask(self._resolver, *question)
        self._expires[question] = time.monotonic() + answer.ttl_s
        if answer.alias:
            raise DiscoveryError(
                node=name,
                cause=f"name server {answer.server} answers for {name} with an alias, "
                f"{answer.alias}, which is no name of the Service",
                remedy="find the wildcard record that answers for names that do not exist yet (a "
                f"search domain, CoreDNS autopath); {DNS_REMEDY}",
            )
        return answer

    def _questions(self) -> list[_Question]:
        name, kinds = self._service, (self.family, "SRV")
        return [_Question(name, kind, flags) for flags in _FLAGS for kind in kinds]

    def _freshest(self) -> _Question:
        """Return the question whose answer no cache has; otherwise the one that expires first."""
        now = time.monotonic()
        return min(self._questions(), key=lambda question: max(now, self._expires.get(question, 0)))
