"""Empties open slots with MIGRATE, batch by batch.

A batch is bounded in keys and in bytes: MIGRATE holds all of it in memory and both servers stand
still meanwhile, so a big key goes alone and gets the time it needs. Sizes are asked for only where
the source's data is larger than what one batch may be in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...core.wire import Reply, parse_info
from ...errors import BootstrapError, StaleViewError
from ..connection import ReplyError, text
from .key_conflicts import Conflict, resolve
from .link import Batch, MigrationLink
from .session import FROM_TARGET, MigrationSession, rejection, stale

_BATCH_KEYS = 200
_BATCH_BYTES = 4 << 20
_KEYS_A_ROUND = 4096
_FEWEST_KEYS = 32
_IN_FLIGHT = 16
_BIG_DATA_BYTES = 64 << 20
_PAUSE_S = 0.05
_MOST_IDLE_ROUNDS = 40
_MOST_TROUBLED_ROUNDS = 3
_BAD_AUTH = ("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR Client sent AUTH", "ERR invalid password")


@dataclass(slots=True, kw_only=True)
class KeyCopier:
    """Empties the slots of one window.

    Attributes:
        target_serves: Slots in which clients change the target's copy of a key.
        virgin: Slots in which the target held nothing when this run opened them.
        errors: Why slots were given up; they stay open.
    """

    shared: MigrationSession
    ends: MigrationLink
    target_serves: set[int] = field(default_factory=set)
    virgin: set[int] = field(default_factory=set)
    errors: list[BootstrapError] = field(default_factory=list)
    _left: set[int] = field(default_factory=set)
    _idle_rounds: int = 0
    _trouble: StaleViewError | None = None
    _full: BootstrapError | None = None

    async def run(self, slots: Sequence[int]) -> list[int]:
        """Move the source's keys of slots; return the slots that are empty."""
        self._left = set(slots)
        measures = await self._has_big_data()
        for database in await self.ends.databases(self.ends.pair.source, self.ends.source):
            self.ends.database = database
            keys = await self._next_keys(slots)
            while keys:
                if self._full:
                    # Whatever is tried now splits one more slot.
                    for slot in keys:
                        self.give_up(slot, self._full)
                    break
                batches = list(_batches(keys, await self._sizes(keys) if measures else {}))
                moved = await self._send(batches)
                keys = await self._next_keys(list(keys))
                if keys and not moved and not self._full:
                    await self._wait(keys)
        return [slot for slot in slots if slot in self._left]

    def give_up(self, slot: int, error: BootstrapError) -> None:
        """Leave a slot open, and the others go on."""
        if slot in self._left:
            self._left.discard(slot)
            self.errors.append(error)

    async def _has_big_data(self) -> bool:
        info = parse_info(text(await self.ends.source.call("INFO", "memory")))
        data = int(info.get("used_memory_dataset") or info.get("used_memory", "0"))
        return data > _BIG_DATA_BYTES

    async def _next_keys(self, slots: Sequence[int]) -> dict[int, list[bytes]]:
        """Return some keys of each slot that has any."""
        slots = [slot for slot in slots if slot in self._left]
        if not slots:
            return {}
        each = max(_FEWEST_KEYS, _KEYS_A_ROUND // len(slots))
        commands = [("CLUSTER", "GETKEYSINSLOT", slot, each) for slot in slots]
        found = {}
        for slot, reply in zip(
            slots, await self.ends.pipeline(self.ends.source, commands), strict=True
        ):
            if isinstance(reply, ReplyError):
                raise rejection(self.ends.pair.source, "CLUSTER GETKEYSINSLOT", reply)
            if isinstance(reply, list) and reply:
                found[slot] = reply
        return found

    async def _sizes(self, keys: Mapping[int, list[bytes]]) -> dict[bytes, int]:
        """Return the bytes of each key, by samples where it has many elements."""
        names = [key for group in keys.values() for key in group]
        commands = [c for key in names for c in self.ends.reading("MEMORY", "USAGE", key)]
        replies = await self.ends.pipeline(self.ends.source, commands)
        answers = replies[1::2] if self.ends.is_cold else replies
        return {
            key: reply if isinstance(reply, int) else 0
            for key, reply in zip(names, answers, strict=True)
        }

    async def _send(self, batches: Sequence[Batch]) -> int:
        """Migrate batches, some in flight; return how many keys went."""
        moved = 0
        self._trouble = None
        for start in range(0, len(batches), _IN_FLIGHT):
            part = [b for b in batches[start : start + _IN_FLIGHT] if b.slot in self._left]
            credential = self.ends.credential
            for batch, reply in zip(part, await self.ends.migrate(part), strict=True):
                taken = await self._taken(batch, reply, credential)
                self.shared.count(keys=taken)
                moved += taken
            if self._trouble or self._full:
                break
        return moved

    async def _taken(self, batch: Batch, reply: Reply | ReplyError, credential: int) -> int:
        """Return how many keys a reply says went, or deal with its error."""
        if not isinstance(reply, ReplyError):
            return 0 if text(reply) == "NOKEY" else len(batch.keys)
        words = reply.message.removeprefix("ERR ").removeprefix(FROM_TARGET)
        if words.startswith("BUSYKEY"):
            return await self._one_by_one(batch)
        if words.startswith(_BAD_AUTH) and credential + 1 < len(self.ends.logins()):
            self.ends.credential = credential + 1
            return 0
        error = rejection(self.ends.pair.source, "MIGRATE", reply, target=self.ends.pair.target)
        if isinstance(error, StaleViewError):
            self._trouble = error
        else:
            self.give_up(batch.slot, error)
            self._full = error if words.startswith("OOM") else self._full
        return 0

    async def _one_by_one(self, batch: Batch) -> int:
        """Migrate the keys of a batch of which the target holds some."""
        moved = 0
        for key in batch.keys:
            single = Batch(batch.slot, [key], batch.size)
            reply = (await self.ends.migrate([single]))[0]
            if isinstance(reply, ReplyError) and "BUSYKEY" in reply.message:
                conflict = Conflict(
                    slot=batch.slot,
                    key=key,
                    target_serves=batch.slot in self.target_serves,
                    # Only its first database was looked at.
                    is_virgin=batch.slot in self.virgin and not self.ends.database,
                )
                if error := await resolve(self.ends, conflict, single):
                    self.give_up(batch.slot, error)
                else:
                    moved += 1
            else:
                moved += await self._taken(single, reply, self.ends.credential)
        return moved

    async def _wait(self, keys: Mapping[int, list[bytes]]) -> None:
        """Wait before the next round; give the slots up that make no progress."""
        self._idle_rounds += 1
        limit = _MOST_TROUBLED_ROUNDS if self._trouble else _MOST_IDLE_ROUNDS
        if self._idle_rounds > limit:
            error = self._trouble or stale(
                self.ends.pair.source, "keeps keys that MIGRATE does not see"
            )
            for slot in keys:
                self.give_up(slot, error)
        await asyncio.sleep(_PAUSE_S)


def _batches(keys: Mapping[int, list[bytes]], sizes: Mapping[bytes, int]) -> Iterator[Batch]:
    """Cut the keys of each slot into batches within the bounds."""
    for slot, group in keys.items():
        batch: list[bytes] = []
        total = 0
        for key in group:
            size = sizes.get(key, 0)
            if batch and (len(batch) == _BATCH_KEYS or total + size > _BATCH_BYTES):
                yield Batch(slot, batch, total)
                batch, total = [], 0
            batch.append(key)
            total += size
        yield Batch(slot, batch, total)
