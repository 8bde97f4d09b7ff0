"""Empties open slots with MIGRATE, batch by batch.

A batch is bounded in keys and in bytes: MIGRATE holds all of it in memory and both servers stand
still meanwhile, so a big key goes alone and gets the time it needs. Sizes are asked for only where
the source's data is larger than what one batch may be in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..core.wire import Reply, parse_info
from ..errors import BootstrapError, StaleViewError
from .conflicts import Conflict, settle
from .node import COMMAND_TIMEOUT_S, Command, RedisNode, ReplyError, text
from .transit import FROM_TARGET, Pair, Party, Run, rejection, stale

_BATCH_KEYS = 200
_BATCH_BYTES = 4 << 20
_KEYS_A_ROUND = 4096
_FEWEST_KEYS = 32
_IN_FLIGHT = 16
_BIG_DATA_BYTES = 64 << 20
_BYTES_PER_S = 10_000_000
_MIGRATE_TIMEOUT_S = 1.0
_PAUSE_S = 0.05
_MOST_IDLE_ROUNDS = 40
_MOST_TROUBLED_ROUNDS = 3
_BAD_AUTH = ("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR Client sent AUTH", "ERR invalid password")


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys of one slot for one MIGRATE, and their bytes; 0 where they were not asked for."""

    slot: int
    keys: Sequence[bytes]
    size: int = 0

    @property
    def timeout_s(self) -> float:
        """Return how long the target may be silent: it loads the whole batch before it answers."""
        return _MIGRATE_TIMEOUT_S + self.size / _BYTES_PER_S


@dataclass(slots=True, kw_only=True)
class Drain:
    """Empties the slots of one window.

    Attributes:
        is_cold: The source does not own the slots: its keys are reached after ASKING only.
        target_serves: Slots in which clients change the target's copy of a key.
        virgin: Slots in which the target held nothing when this run opened them.
        errors: Why slots were given up; they stay open.
    """

    shared: Run
    pair: Pair
    source: RedisNode
    target: RedisNode
    is_cold: bool = False
    target_serves: set[int] = field(default_factory=set)
    virgin: set[int] = field(default_factory=set)
    errors: list[BootstrapError] = field(default_factory=list)
    _left: set[int] = field(default_factory=set)
    _database: int = 0
    _credential: int = 0
    _idle_rounds: int = 0
    _trouble: StaleViewError | None = None
    _full: BootstrapError | None = None

    async def run(self, slots: Sequence[int]) -> list[int]:
        """Move the source's keys of slots; return the slots that are empty."""
        self._left = set(slots)
        measures = await self._has_big_data()
        for database in await self._databases(self.pair.source, self.source):
            self._database = database
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

    async def pipeline(
        self, client: RedisNode, commands: Sequence[Command], *, timeout_s: float = 0
    ) -> list[Reply | ReplyError]:
        """Send commands in the database at hand; the connection may be a new one each time.

        It is left in the first database: others use it, and the next window begins there.
        """
        if not self._database:
            return await client.pipeline(
                commands, writes=True, timeout_s=COMMAND_TIMEOUT_S + timeout_s
            )
        replies = await client.pipeline(
            [("SELECT", self._database), *commands, ("SELECT", 0)],
            writes=True,
            timeout_s=COMMAND_TIMEOUT_S + timeout_s,
        )
        return replies[1:-1]

    async def migrate(
        self, batches: Sequence[Batch], *, replace: bool = False
    ) -> list[Reply | ReplyError]:
        """Send one MIGRATE for each batch, in one pipeline."""
        address = self.pair.target.view.address
        options = ("REPLACE",) if replace else ()
        commands: list[Command] = [
            ("MIGRATE", address.ip, address.port, "", self._database, round(1000 * b.timeout_s),
             *options, *self._auth(), "KEYS", *b.keys)
            for b in batches
        ]  # fmt: skip
        return await self.pipeline(
            self.source, commands, timeout_s=sum(b.timeout_s for b in batches) * 2
        )

    def give_up(self, slot: int, error: BootstrapError) -> None:
        """Leave a slot open, and the others go on."""
        if slot in self._left:
            self._left.discard(slot)
            self.errors.append(error)

    def reading(self, *command: str | bytes | int) -> list[Command]:
        """Return a command on a key of the source."""
        return [("ASKING",), command] if self.is_cold else [command]

    async def _has_big_data(self) -> bool:
        info = parse_info(text(await self.source.call("INFO", "memory")))
        data = int(info.get("used_memory_dataset") or info.get("used_memory", "0"))
        return data > _BIG_DATA_BYTES

    async def untouched(self, slots: Sequence[int]) -> list[int]:
        """Return the slots of which the target holds no key in any database."""
        empty = set(slots)
        for database in await self._databases(self.pair.target, self.target):
            self._database = database
            commands = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
            replies = await self.pipeline(self.target, commands)
            empty -= {slot for slot, n in zip(slots, replies, strict=True) if n != 0}
        return sorted(empty)

    async def _databases(self, party: Party, client: RedisNode) -> list[int]:
        """Return the databases with keys; a cluster has more than one from Valkey 9.0 on."""
        if party.view.engine != "valkey" or party.view.version < (9, 0, 0):
            return [0]
        info = parse_info(text(await client.call("INFO", "keyspace")))
        found = {int(name[2:]) for name in info if name[:2] == "db" and name[2:].isdecimal()}
        return sorted(found | {0})

    async def _next_keys(self, slots: Sequence[int]) -> dict[int, list[bytes]]:
        """Return some keys of each slot that has any."""
        slots = [slot for slot in slots if slot in self._left]
        if not slots:
            return {}
        each = max(_FEWEST_KEYS, _KEYS_A_ROUND // len(slots))
        commands = [("CLUSTER", "GETKEYSINSLOT", slot, each) for slot in slots]
        found = {}
        for slot, reply in zip(slots, await self.pipeline(self.source, commands), strict=True):
            if isinstance(reply, ReplyError):
                raise rejection(self.pair.source, "CLUSTER GETKEYSINSLOT", reply)
            if isinstance(reply, list) and reply:
                found[slot] = reply
        return found

    async def _sizes(self, keys: Mapping[int, list[bytes]]) -> dict[bytes, int]:
        """Return the bytes of each key, by samples where it has many elements."""
        names = [key for group in keys.values() for key in group]
        commands = [c for key in names for c in self.reading("MEMORY", "USAGE", key)]
        replies = await self.pipeline(self.source, commands)
        answers = replies[1::2] if self.is_cold else replies
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
            credential = self._credential
            for batch, reply in zip(part, await self.migrate(part), strict=True):
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
        if words.startswith(_BAD_AUTH) and credential + 1 < len(self._credentials()):
            self._credential = credential + 1
            return 0
        error = rejection(self.pair.source, "MIGRATE", reply, target=self.pair.target)
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
            reply = (await self.migrate([single]))[0]
            if isinstance(reply, ReplyError) and "BUSYKEY" in reply.message:
                conflict = Conflict(
                    slot=batch.slot,
                    key=key,
                    target_serves=batch.slot in self.target_serves,
                    # Only its first database was looked at.
                    is_virgin=batch.slot in self.virgin and not self._database,
                )
                moved += await settle(self, conflict, single)
            else:
                moved += await self._taken(single, reply, self._credential)
        return moved

    async def _wait(self, keys: Mapping[int, list[bytes]]) -> None:
        """Wait before the next round; give the slots up that make no progress."""
        self._idle_rounds += 1
        limit = _MOST_TROUBLED_ROUNDS if self._trouble else _MOST_IDLE_ROUNDS
        if self._idle_rounds > limit:
            error = self._trouble or stale(self.pair.source, "keeps keys that MIGRATE does not see")
            for slot in keys:
                self.give_up(slot, error)
        await asyncio.sleep(_PAUSE_S)

    def _credentials(self) -> list[tuple[str, ...]]:
        """Return what MIGRATE may log in with at the target, in the order to try."""
        access = self.shared.access
        first: tuple[str, ...] = ("AUTH2", access.username) if access.username else ("AUTH",)
        return [(*first, password) for password in access.passwords] + [()]

    def _auth(self) -> tuple[str, ...]:
        return self._credentials()[self._credential]


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
