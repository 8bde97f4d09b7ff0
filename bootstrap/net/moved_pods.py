"""Asks past caches for pods that were found and are gone, or do not answer at their address.

Rules: a pod that comes back has another address, while caches keep the former one for up to 30 s.
Whether its name exists is asked for in a way that no cache can answer. Its address is asked for as
soon as the name was gone and is there again, and otherwise now and then, because only a few
questions about it have entries of their own.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..core.topology import Endpoint
from .pod_names import PodNames

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    addresses: tuple[str, ...]
    pause_s: float
    ask_at: float


class MovedPods:
    """The pods that were found once and do not answer now, until they do."""

    def __init__(self, records: PodNames, *, nodes: int) -> None:
        """Prepare to ask; pods beyond the wanted number are not looked for once they are gone."""
        self._records = records
        self._wanted = range(nodes)
        self._known: set[int] = set()
        self._answers: dict[int, dict[str, _Answer]] = {}

    @property
    def ordinals(self) -> set[int]:
        """Return the ordinals of these pods."""
        return set(self._answers)

    def note(self, endpoints: Iterable[Endpoint], silent: Collection[str]) -> None:
        """Take note of which of the pods that were found did not answer, and which are gone."""
        ordinals = {endpoint.ordinal: endpoint.name in silent for endpoint in endpoints}
        self._known |= ordinals.keys()
        for ordinal in self._known:
            if ordinals.get(ordinal, ordinal in self._wanted):
                self._answers.setdefault(ordinal, {})
            else:
                self._answers.pop(ordinal, None)

    async def addresses(self, ordinal: int, host: str, kind: str) -> tuple[str, ...]:
        """Return the addresses of a pod, past caches where it did not answer.

        Raises:
            DiscoveryError: No name server answered.
        """
        answers = self._answers.get(ordinal)
        if answers is None:
            return await self._records.addresses(host, kind)
        if not await self._records.may_exist(host):
            answers.clear()
            return ()
        now, last = time.monotonic(), answers.get(kind)
        if last is not None and now < last.ask_at:
            return last.addresses
        pause_s = FIRST_PAUSE_S if last is None else min(2 * last.pause_s, LONGEST_PAUSE_S)
        addresses = await self._records.fresh_addresses(host, kind)
        if addresses is None:
            addresses = last.addresses if last else await self._records.addresses(host, kind)
        answers[kind] = _Answer(addresses=addresses, pause_s=pause_s, ask_at=now + pause_s)
        return addresses
