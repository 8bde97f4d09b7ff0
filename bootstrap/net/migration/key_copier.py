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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...core.wire import Reply, parse_info
from ...errors import BootstrapError, CredentialsError, RefusedError, StaleViewError
from .. import databases
from ..connection import COMMAND_TIMEOUT_S, Command, ReplyError, text
from ..polling import wait_for
from . import key_conflicts
from .link import Batch, MigrationLink
from .reply_errors import FROM_TARGET, call, rejection, require, stale_view
from .session import MigrationSession

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
_FIRST_PAUSE_S = 0.5
_PAUSE_GROWTH = 4
_BAD_AUTH = ("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR Client sent AUTH", "ERR invalid password")


@dataclass(slots=True, kw_only=True)
class KeyCopier:
    """Empties the slots of one window.

    Attributes:
        target_serves: Slots in which clients change the target's copy of a key.
        untouched: Slots in which the target held no key when this run opened them.
        errors: Why slots were given up; they stay open.
    """

    session: MigrationSession
    link: MigrationLink
    target_serves: set[int] = field(default_factory=set)
    untouched: set[int] = field(default_factory=set)
    errors: list[BootstrapError] = field(default_factory=list)
    _left: set[int] = field(default_factory=set)
    _idle_rounds: int = 0
    _trouble: StaleViewError | None = None
    _full: BootstrapError | None = None

    async def empty(self, slots: Sequence[int]) -> list[int]:
        """Move the source's keys of slots; return the slots that are empty."""
        self._left = set(slots)
        source = self.link.source
        is_measured = await self._has_big_data()
        for database in await databases.occupied(source, self.link.pair.source.view):
            await databases.check(source, database)
            await databases.check(self.link.target, database)
            self.link.database = database
            await self._empty_database(slots, is_measured=is_measured)
        return [slot for slot in slots if slot in self._left]

    def give_up(self, slot: int, error: BootstrapError) -> None:
        """Leave a slot open, and continue with the others."""
        if slot in self._left:
            self._left.discard(slot)
            self.errors.append(error)

    async def _empty_database(self, slots: Sequence[int], *, is_measured: bool) -> None:
        keys = await self._next_keys(slots)
        is_idle = False

        async def is_empty() -> bool | None:
            nonlocal keys, is_idle
            if not keys:
                return True
            if self._full:
                # Whatever is tried now splits one more slot.
                for slot in keys:
                    self.give_up(slot, self._full)
                return True
            moved = await self._move_some(keys, is_measured=is_measured)
            keys = await self._next_keys(list(keys))
            is_idle = bool(keys) and not moved and not self._full
            if is_idle:
                self._note_idle_round(keys)
            return None

        await wait_for(is_empty, pause=lambda _: _PAUSE_S if is_idle else 0.0)

    async def _move_some(self, keys: Mapping[int, list[bytes]], *, is_measured: bool) -> int:
        """Move these keys, or the smallest of them at first; return how many went."""
        if not self.link.is_proven:
            return await self._probe(keys)
        names = [key for group in keys.values() for key in group]
        sizes = await self._sizes(names) if is_measured else {}
        return await self._send(list(batches(keys, sizes, self.link.most_keys)))

    async def _has_big_data(self) -> bool:
        info = parse_info(text(await call(self.link.source, "INFO", "memory")))
        data = int(info.get("used_memory_dataset") or info.get("used_memory", "0"))
        return data > _BIG_DATA_BYTES

    async def _ask_source(
        self, commands: Sequence[Command], *, timeout_s: float = 0
    ) -> list[Reply | ReplyError]:
        """Send commands to the source in the database at hand."""
        return await databases.pipeline(
            self.link.source,
            self.link.database,
            commands,
            writes=True,
            timeout_s=COMMAND_TIMEOUT_S + timeout_s,
        )

    async def _next_keys(self, slots: Sequence[int]) -> dict[int, list[bytes]]:
        """Return some keys of each slot that has any."""
        slots = [slot for slot in slots if slot in self._left]
        if not slots:
            return {}
        each = max(_FEWEST_KEYS, _KEYS_A_ROUND // len(slots))
        commands = [("CLUSTER", "GETKEYSINSLOT", slot, each) for slot in slots]
        found = {}
        replies = await self._ask_source(commands)
        for slot, command, reply in zip(slots, commands, replies, strict=True):
            names = require(self.link.pair.source.name, command, reply)
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
            size = require(self.link.pair.source.name, ("MEMORY", "USAGE"), reply)
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
        reply = (await self._migrate([batch]))[0]
        history, processes = self.session.history, self.link.pair.processes
        if isinstance(reply, ReplyError) and reply.code == "IOERR":
            count = history.unconnected[processes] = history.unconnected.get(processes, 0) + 1
            self.session.halted = True
            await self.session.pause(_FIRST_PAUSE_S * _PAUSE_GROWTH ** (count - 1))
            raise self.link.unreachable(reply.message, is_final=count >= _MOST_UNCONNECTED)
        if isinstance(reply, ReplyError) or text(reply) != "NOKEY":
            history.connected.add(processes)
            history.unconnected.pop(processes, None)
        moved = await self._taken(batch, reply, credential)
        self.session.count(keys=moved)
        return moved

    async def _send(self, batches: Sequence[Batch]) -> int:
        """Migrate batches, some in flight; return how many keys went."""
        moved = 0
        self._trouble = None
        for part in self._in_flight(batches):
            credential = self.link.credential
            for batch, reply in zip(part, await self._migrate(part), strict=True):
                taken = await self._taken(batch, reply, credential)
                self.session.count(keys=taken)
                moved += taken
            if self._trouble or self._full:
                break
        return moved

    def _in_flight(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """Cut batches into pipelines, bounded in number and in the time that they may block."""
        destination = self.link.destination
        part: list[Batch] = []
        blocked_s = 0.0
        for batch in batches:
            timeout_s = destination.timeout_s(batch)
            is_long = blocked_s + timeout_s > destination.most_blocked_s
            if part and (len(part) == _IN_FLIGHT or is_long):
                yield part
                part, blocked_s = [], 0.0
            if batch.slot in self._left:
                part.append(batch)
                blocked_s += timeout_s
        if part:
            yield part

    async def _migrate(
        self, batches: Sequence[Batch], *, replace: bool = False
    ) -> list[Reply | ReplyError]:
        """Send one MIGRATE for each batch, in one pipeline."""
        timeout_s = sum(self.link.destination.timeout_s(batch) for batch in batches)
        commands = [self.link.migrate(batch, replace=replace) for batch in batches]
        return await self._ask_source(commands, timeout_s=2 * timeout_s)

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
        pair = self.link.pair
        if reply.code == "IOERR":
            error = self.link.unreachable(reply.message)
        else:
            error = rejection(pair.source.name, "MIGRATE", reply, target=pair.target.name)
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
            reply = (await self._migrate([single]))[0]
            if isinstance(reply, ReplyError) and "BUSYKEY" in reply.message:
                moved += await self._resolve(single)
            else:
                moved += await self._taken(single, reply, self.link.credential)
        return moved

    async def _resolve(self, batch: Batch) -> int:
        """Leave one copy of a key that both ends hold; return 0 where that is for a person."""
        conflict = key_conflicts.Conflict(
            slot=batch.slot,
            key=batch.keys[0],
            target_serves=batch.slot in self.target_serves,
            is_since_open=batch.slot in self.untouched,
        )
        try:
            keep = await key_conflicts.decide(self.link, conflict)
        except (CredentialsError, RefusedError, StaleViewError) as error:
            self.give_up(batch.slot, error)
            return 0
        if keep is key_conflicts.Keep.SOURCE:
            reply = (await self._migrate([batch], replace=True))[-1]
        else:
            reply = (await self._ask_source(self.link.at_source("UNLINK", conflict.key)))[-1]
        if isinstance(reply, ReplyError):
            command = "MIGRATE" if keep is key_conflicts.Keep.SOURCE else "UNLINK"
            pair = self.link.pair
            self.give_up(
                batch.slot, rejection(pair.source.name, command, reply, target=pair.target.name)
            )
            return 0
        return 1

    def _note_idle_round(self, slots: Iterable[int]) -> None:
        """Give the slots up that make no progress, round after round."""
        self._idle_rounds += 1
        limit = _MOST_TROUBLED_ROUNDS if self._trouble else _MOST_IDLE_ROUNDS
        if self._idle_rounds > limit:
            error = self._trouble or stale_view(
                self.link.pair.source.name, "keeps keys that MIGRATE does not see"
            )
            for slot in slots:
                self.give_up(slot, error)


def batches(
    keys: Mapping[int, list[bytes]], sizes: Mapping[bytes, int], most_keys: int | None
) -> Iterator[Batch]:
    """Cut the keys of each slot into batches within the bounds."""
    limit = most_keys or _BATCH_KEYS
    for slot, group in keys.items():
        batch: list[bytes] = []
        total = 0
        for key in group:
            size = sizes.get(key, 0)
            if batch and (len(batch) == limit or total + size > _BATCH_BYTES):
                yield Batch(slot, batch, total)
                batch, total = [], 0
            batch.append(key)
            total += size
        yield Batch(slot, batch, total)
