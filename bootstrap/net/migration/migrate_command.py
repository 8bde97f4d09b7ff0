"""Empties open slots with MIGRATE, batch by batch.

A batch is bounded in keys and in bytes: MIGRATE holds all of it in memory and both servers stand
still meanwhile, so a big key goes alone and gets the time it needs. Sizes are asked for only where
the source's data is larger than what one batch may be in any case.

MIGRATE blocks the source while the target is silent, and a source that is blocked for its node
timeout is failed over. So what is in flight is bounded in time as well, and the first MIGRATE
between two processes goes alone with a small key: where it does not reach the target, no other one
is sent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ...core.parsing import Reply, parse_info
from ...errors import BootstrapError, CredentialsError, RefusedError, StaleViewError
from .. import databases
from ..connection import COMMAND_TIMEOUT_S
from ..replies import Command, ReplyError, text
from ..transport import KEYS_LIMIT, REPLY_LIMIT, Limit
from .key_conflicts import source_stays
from .link import Batch, MigrationLink
from .reply_errors import FROM_TARGET, call, rejection, require, stale_view

T = TypeVar("T")

_BATCH_KEYS = 200
_BATCH_BYTES = 4 << 20
_KEYS_A_ROUND = 4096
_FEWEST_KEYS = 32
_IN_FLIGHT = 16
_BIG_DATA_BYTES = 64 << 20
_PAUSE_S = 0.05
_MOST_IDLE_ROUNDS = 40
_MOST_TROUBLED_ROUNDS = 3
_PROBE_CANDIDATES = 16
_MOST_UNCONNECTED = 3
_BAD_AUTH = ("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR Client sent AUTH", "ERR invalid password")


@dataclass(slots=True, kw_only=True)
class KeyCopier:
    """Empties the slots of one window.

    Attributes:
        target_serves: Slots in which clients change the target's copy of a key.
        untouched: Slots in which the target held no key when this run opened them.
        errors: Why slots were given up; they stay open.
    """

    link: MigrationLink
    target_serves: set[int]
    untouched: set[int] = field(default_factory=set)
    errors: list[BootstrapError] = field(default_factory=list)
    _left: set[int] = field(default_factory=set)
    _idle_rounds: int = 0
    _trouble: StaleViewError | None = None
    _full: BootstrapError | None = None

    async def empty(self, slots: Sequence[int]) -> list[int]:
        """Move the source's keys of slots; return the slots that are empty."""
        self._left = set(slots)
        link = self.link
        info = parse_info(text(await call(link.source, "INFO", "memory")))
        data = int(info.get("used_memory_dataset") or info.get("used_memory", "0"))
        for database in await databases.occupied(link.source, link.pair.source):
            await databases.check(link.source, database)
            await databases.check(link.target, database)
            link.database = database
            await self._empty_database(slots, is_measured=data > _BIG_DATA_BYTES)
        return [slot for slot in slots if slot in self._left]

    async def _empty_database(self, slots: Sequence[int], *, is_measured: bool) -> None:
        keys = await self._next_keys(slots)
        while keys:
            if self._full:
                # Whatever is tried now splits one more slot.
                self._give_up(keys, self._full)
                break
            if self.link.is_proven:
                names = [key for group in keys.values() for key in group]
                sizes = await self._sizes(names) if is_measured else {}
                moved = await self._send(batches(keys, sizes, self.link.most_keys))
            else:
                moved = await self._probe(keys)
            keys = await self._next_keys(list(keys))
            if keys and not moved and not self._full:
                self._note_idle_round(keys)
                await asyncio.sleep(_PAUSE_S)

    async def _ask_source(
        self, commands: Sequence[Command], timeout_s: float = 0, limit: Limit = REPLY_LIMIT
    ) -> list[Reply | ReplyError]:
        """Send commands to the source in the database at hand."""
        source, database = self.link.source, self.link.database
        timeout_s += COMMAND_TIMEOUT_S
        return await databases.pipeline(
            source, database, commands, writes=True, timeout_s=timeout_s, limit=limit
        )

    async def _next_keys(self, slots: Sequence[int]) -> dict[int, list[bytes]]:
        """Return some keys of each slot that has any."""
        slots = [slot for slot in slots if slot in self._left]
        if not slots:
            return {}
        each = max(_FEWEST_KEYS, _KEYS_A_ROUND // len(slots))
        commands = [("CLUSTER", "GETKEYSINSLOT", slot, each) for slot in slots]
        found = {}
        replies = await self._ask_source(commands, limit=KEYS_LIMIT)
        for slot, reply in zip(slots, replies, strict=True):
            names = require(reply)
            if isinstance(names, list) and names:
                found[slot] = names
        return found

    async def _sizes(self, names: Sequence[bytes]) -> dict[bytes, int]:
        """Return the bytes of each key, by samples where it has many elements."""
        commands = [c for key in names for c in self.link.at_source("MEMORY", "USAGE", key)]
        replies = await self._ask_source(commands)
        step = len(self.link.at_source())
        sizes = {}
        for key, reply in zip(names, replies[step - 1 :: step], strict=True):
            size = require(reply)
            sizes[key] = size if isinstance(size, int) else 0
        return sizes

    async def _probe(self, keys: Mapping[int, list[bytes]]) -> int:
        """Send the smallest of some keys alone; return how many keys went.

        Raises:
            StaleViewError: The source cannot reach the target.
            RefusedError: The same, several times in a row.
        """
        some = [(slot, key) for slot, group in keys.items() for key in group][:_PROBE_CANDIDATES]
        sizes = await self._sizes([key for _, key in some])
        slot, key = min(some, key=lambda each: sizes.get(each[1], 0))
        batch = Batch(slot, [key], sizes.get(key, 0))
        credential = self.link.credential
        (reply,) = await self._migrate([batch])
        session, processes = self.link.session, self.link.pair.processes
        unconnected = session.history.unconnected
        if isinstance(reply, ReplyError) and reply.code == "IOERR":
            unconnected[processes] += 1
            count = unconnected[processes]
            await session.back_off(count)
            raise self.link.unreachable(reply.message, is_final=count >= _MOST_UNCONNECTED)
        if isinstance(reply, ReplyError) or text(reply) != "NOKEY":
            session.history.connected.add(processes)
            unconnected.pop(processes, None)
        moved = await self._taken(batch, reply, credential)
        session.count(keys=moved)
        return moved

    async def _send(self, batches: Iterable[Batch]) -> int:
        """Migrate batches, some in flight, as long as they may block; return how many keys went."""
        moved = 0
        self._trouble = None
        to = self.link.destination
        parts = cut(batches, most=_IN_FLIGHT, weight=to.timeout_s, most_weight=to.most_blocked_s)
        for part in parts:
            credential = self.link.credential
            left = [batch for batch in part if batch.slot in self._left]
            for batch, reply in zip(left, await self._migrate(left), strict=True):
                taken = await self._taken(batch, reply, credential)
                self.link.session.count(keys=taken)
                moved += taken
            if self._trouble or self._full:
                break
        return moved

    async def _migrate(
        self, batches: Sequence[Batch], *, replace: bool = False
    ) -> list[Reply | ReplyError]:
        """Send one MIGRATE for each batch, in one pipeline."""
        await self.link.check_target()
        timeout_s = sum(self.link.destination.timeout_s(batch) for batch in batches)
        commands = [self.link.migrate(batch, replace=replace) for batch in batches]
        return await self._ask_source(commands, 2 * timeout_s)

    async def _taken(self, batch: Batch, reply: Reply | ReplyError, credential: int) -> int:
        """Return how many keys a reply says went, or handle its error."""
        if not isinstance(reply, ReplyError):
            return 0 if text(reply) == "NOKEY" else len(batch.keys)
        words = reply.message.removeprefix("ERR ").removeprefix(FROM_TARGET)
        if words.startswith("BUSYKEY"):
            return await self._one_by_one(batch)
        if words.startswith(_BAD_AUTH) and credential + 1 < len(self.link.logins()):
            self.link.credential = credential + 1
            return 0
        if reply.code == "IOERR":
            error = self.link.unreachable(reply.message)
        else:
            error = self._rejection(reply)
        if isinstance(error, StaleViewError):
            self._trouble = error
        else:
            self._give_up([batch.slot], error)
            self._full = error if words.startswith("OOM") else self._full
        return 0

    async def _one_by_one(self, batch: Batch) -> int:
        """Migrate the keys of a batch of which the target holds some."""
        moved = 0
        for key in batch.keys:
            single = Batch(batch.slot, [key], batch.size)
            (reply,) = await self._migrate([single])
            if isinstance(reply, ReplyError) and "BUSYKEY" in reply.message:
                moved += await self._resolve(single)
            else:
                moved += await self._taken(single, reply, self.link.credential)
        return moved

    async def _resolve(self, batch: Batch) -> int:
        """Leave one copy of a key that both ends hold; return 0 where that is for a person."""
        slot, (key,) = batch.slot, batch.keys
        try:
            replaces = await source_stays(
                self.link,
                slot,
                key,
                target_serves=slot in self.target_serves,
                is_since_open=slot in self.untouched,
            )
        except (CredentialsError, RefusedError, StaleViewError) as error:
            self._give_up([slot], error)
            return 0
        if replaces:
            replies = await self._migrate([batch], replace=True)
        else:
            replies = await self._ask_source(self.link.at_source("UNLINK", key))
        if isinstance(replies[-1], ReplyError):
            self._give_up([slot], self._rejection(replies[-1]))
            return 0
        return 1

    def _rejection(self, reply: ReplyError) -> BootstrapError:
        return rejection(reply, target=self.link.pair.target.name)

    def _give_up(self, slots: Iterable[int], error: BootstrapError) -> None:
        """Leave slots open, and continue with the others."""
        given = self._left.intersection(slots)
        self._left -= given
        self.errors += [error] * len(given)

    def _note_idle_round(self, slots: Iterable[int]) -> None:
        """Give the slots up that make no progress, round after round."""
        self._idle_rounds += 1
        limit = _MOST_TROUBLED_ROUNDS if self._trouble else _MOST_IDLE_ROUNDS
        if self._idle_rounds > limit:
            source = self.link.pair.source.name
            error = self._trouble or stale_view(source, "keeps keys that MIGRATE does not see")
            self._give_up(slots, error)


def batches(
    keys: Mapping[int, list[bytes]], sizes: Mapping[bytes, int], most_keys: int | None
) -> Iterator[Batch]:
    """Cut the keys of each slot into batches within the bounds."""

    def size(key: bytes) -> int:
        return sizes.get(key, 0)

    most = most_keys or _BATCH_KEYS
    for slot, group in keys.items():
        if sizes:
            for part in cut(group, most=most, weight=size, most_weight=_BATCH_BYTES):
                yield Batch(slot, part, sum(map(size, part)))
        else:  # the usual case, for each of many thousand keys
            yield from (Batch(slot, group[n : n + most]) for n in range(0, len(group), most))


def cut(
    items: Iterable[T],
    *,
    most: int,
    weight: Callable[[T], float] = lambda _: 0.0,
    most_weight: float = math.inf,
) -> Iterator[list[T]]:
    """Cut items into parts, bounded in number and in weight; one that is too heavy goes alone."""
    part: list[T] = []
    total = 0.0
    for item in items:
        if part and (len(part) == most or total + weight(item) > most_weight):
            yield part
            part, total = [], 0.0
        part.append(item)
        total += weight(item)
    if part:
        yield part
