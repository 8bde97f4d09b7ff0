"""Slots moved key by key: SETSLOT, GETKEYSINSLOT, MIGRATE, for servers without their own command.

Slots go in windows: a window is opened, emptied and told as one, each step in one pipeline a node,
so a round trip is paid for the window and not for the slot. MIGRATE itself takes keys of one slot
only (CROSSSLOT), and blocks both servers, so it is bounded in keys and bytes.

Order within a slot: IMPORTING at the target before MIGRATING at the source, else an ASK leads to
a node that answers MOVED; NODE at the target before the source, else nobody owns the slot when the
run dies in between (redis/redis#7116); then the other primaries. Every step can be repeated, and a
slot that an earlier run left in any of these states goes on from there. Where a refusal ends a
window, what no key has left yet is closed again: a slot that stays open sends clients to a target
that may refuse their writes too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from ...core import wire
from ...core.slots import SlotSet
from ...core.topology import NodeId
from ...errors import BootstrapError, CredentialsError, NodeUnreachableError, RefusedError
from ..connection import Command, RedisNode, ReplyError, text
from .key_copier import KeyCopier
from .link import MigrationLink
from .session import (
    MigrationSession,
    OpenedSlot,
    Pair,
    PrimaryNode,
    close,
    most_severe,
    rejection,
    stale,
)

_LANES = 2
_COUNTED_AT_ONCE = 2048
# Small: where the source fails over, its replica knows nothing of the slots in flight.
_WINDOW_SLOTS = 32
_WINDOW_KEYS = 4096
_WINDOW_BYTES = 64 << 20
_SETSLOT_TIMEOUT_S = 30.0
_TELL_TIMEOUT_S = 2.0
_ATTEMPTS = 3


class KeyMover:
    """Moves the slots of one pair, or gathers their keys at the owner."""

    def __init__(self, run: MigrationSession, pair: Pair) -> None:
        self._run = run
        self._pair = pair

    async def move(self, slots: SlotSet) -> None:
        """Move slots with their keys."""
        await self._windows(slots, is_move=True)

    async def gather(self, slots: SlotSet) -> None:
        """Move the source's keys of slots that the target owns."""
        await self._windows(slots, is_move=False)

    async def _windows(self, slots: SlotSet, *, is_move: bool) -> None:
        counts = await self._count(slots)
        self._run.progress.keys_total += sum(counts.values())
        self._run.count()
        queue = deque(self._cut(counts))
        lanes = min(_LANES, len(queue))
        await self._run.together(self._lane(queue, is_move=is_move) for _ in range(lanes))

    async def _count(self, slots: SlotSet) -> dict[int, int]:
        """Return the source's keys by slot."""
        counts: dict[int, int] = {}
        for part in _chunks(list(slots), _COUNTED_AT_ONCE):
            commands = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in part]
            replies = await self._pair.source.client.pipeline(commands)
            for slot, reply in zip(part, replies, strict=True):
                if isinstance(reply, ReplyError):
                    raise rejection(self._pair.source, "CLUSTER COUNTKEYSINSLOT", reply)
                counts[slot] = int(text(reply))
        return counts

    def _cut(self, counts: Mapping[int, int]) -> Iterator[list[int]]:
        """Cut slots into windows that one lane holds open together."""
        view = self._pair.source.view
        key_bytes = view.used_memory / max(1, view.keys)
        most_keys = min(_WINDOW_KEYS, _WINDOW_BYTES / max(1, key_bytes))
        window: list[int] = []
        keys = 0
        for slot, count in counts.items():
            if window and (len(window) == _WINDOW_SLOTS or keys + count > most_keys):
                yield window
                window, keys = [], 0
            window.append(slot)
            keys += count
        if window:
            yield window

    async def _lane(self, queue: deque[list[int]], *, is_move: bool) -> None:
        """Take windows until there are none, with connections of its own."""
        source = self._run.connect(self._pair.source)
        target = self._run.connect(self._pair.target)
        try:
            while queue and not self._run.is_ending:
                window = Window(self._run, self._pair, source, target, queue.popleft())
                await (window.move() if is_move else window.gather())
        finally:
            await close(source, target)


class Window:
    """Slots that are open at the same time."""

    def __init__(
        self,
        run: MigrationSession,
        pair: Pair,
        source: RedisNode,
        target: RedisNode,
        slots: Sequence[int],
    ) -> None:
        self._run = run
        self._pair = pair
        self._source = source
        self._target = target
        self._ends = MigrationLink(access=run.access, pair=pair, source=source, target=target)
        self._slots = list(slots)
        self._errors: list[BootstrapError] = []
        self._served_by_target: set[int] = set()
        self._not_mine: set[int] = set()
        self._empty: list[int] = []

    async def move(self) -> None:
        """Open the slots, empty them, and tell everybody the new owner."""
        try:
            await self._move()
        except (CredentialsError, RefusedError):
            with suppress(BootstrapError, ReplyError):
                await self._revert()
            raise

    async def _move(self) -> None:
        await self._open_target()
        await self._open_source()
        await self._check_owner(self._not_mine | self._served_by_target)
        drain = KeyCopier(shared=self._run, ends=self._ends)
        drain.target_serves = self._served_by_target
        drain.virgin = {slot for slot in self._slots if self._is_virgin(slot)}
        self._empty = await drain.run(self._slots)
        still = await self._still_migrating(self._empty)
        await self._tell(still)
        self._raise(drain.errors)
        if len(still) < len(self._empty):
            raise stale(self._pair.source, "does not migrate the slots any more")

    async def _revert(self) -> None:
        """Close slots of which the target holds no key.

        The source first: it never sends clients to a target that sends them back. What a client
        that was on its way wrote there meanwhile is in reach again as soon as it is seen.
        """
        pair = self._pair
        given = self._served_by_target | self._not_mine | set(self._empty)
        slots = await self._ends.untouched([slot for slot in self._slots if slot not in given])
        closed = await self._setslot(pair.source, self._source, slots, "STABLE")
        still = await self._ends.untouched(closed)
        late = [slot for slot in closed if slot not in still]
        await self._setslot(pair.source, self._source, late, "MIGRATING", pair.target.node_id)
        await self._setslot(pair.target, self._target, still, "STABLE")

    async def gather(self) -> None:
        """Bring the source's keys to the target, and close the slots at both.

        The owner is closed first: one that migrates answers ASK to a key that it lacks. The source
        must be importing, or it answers MOVED to MIGRATE.
        """
        owner = self._pair.target.node_id
        await self._setslot(self._pair.target, self._target, self._slots, "STABLE")
        await self._setslot(self._pair.source, self._source, self._unheard(), "NODE", owner)
        await self._setslot(self._pair.source, self._source, self._slots, "IMPORTING", owner)
        self._raise(self._errors)
        self._ends.is_cold = True
        drain = KeyCopier(shared=self._run, ends=self._ends)
        drain.target_serves = set(self._slots)
        empty = await drain.run(self._slots)
        await self._setslot(self._pair.source, self._source, empty, "STABLE")
        self._run.count(slots=len(empty))
        self._raise(drain.errors + self._errors)

    def _unheard(self) -> list[int]:
        """Return the slots of which the source does not know that the target is their owner.

        A node takes no news of a slot that it imports (clusterUpdateSlotsConfigWith). Where the
        owner that it knows is gone it says CLUSTERDOWN, to MIGRATE too.
        """
        source, owner = self._pair.source.view, self._pair.target.node_id
        known = source.known[owner].slots if owner in source.known else SlotSet.all()
        return list(SlotSet.of(self._slots) - known - source.slots)

    def _key(self, slot: int) -> OpenedSlot:
        return slot, self._pair.source.node_id, self._pair.target.node_id

    def _is_virgin(self, slot: int) -> bool:
        """Return whether the target was empty since this process of the source has the slot."""
        return self._run.memory.opened.get(self._key(slot)) == self._pair.source.view.run_id

    async def _open_target(self) -> None:
        """Open the slots at the target; take note of those that it owns already."""
        commands: list[Command] = []
        for slot in self._slots:
            commands.append(("CLUSTER", "COUNTKEYSINSLOT", slot))
            commands.append(_setslot(slot, "IMPORTING", self._pair.source.node_id))
        replies = await self._target.pipeline(commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S)
        errors = []
        for slot, count, reply in zip(self._slots, replies[::2], replies[1::2], strict=True):
            if isinstance(reply, ReplyError) and "owner of hash slot" in reply.message:
                self._served_by_target.add(slot)
            elif isinstance(reply, ReplyError):
                errors.append(rejection(self._pair.target, "CLUSTER SETSLOT", reply))
            elif count == 0:
                self._run.memory.opened[self._key(slot)] = self._pair.source.view.run_id
        self._raise(errors)

    async def _open_source(self) -> None:
        """Open the slots at the source; take note of those that it does not own any more."""
        commands = [_setslot(s, "MIGRATING", self._pair.target.node_id) for s in self._slots]
        replies = await self._source.pipeline(commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S)
        errors = []
        for slot, reply in zip(self._slots, replies, strict=True):
            if isinstance(reply, ReplyError) and "owner of hash slot" in reply.message:
                self._not_mine.add(slot)
            elif isinstance(reply, ReplyError):
                errors.append(rejection(self._pair.source, "CLUSTER SETSLOT", reply))
        self._raise(errors)

    async def _check_owner(self, slots: set[int]) -> None:
        """Make sure that slots which one end says are not where the plan saw them are at the other.

        Raises:
            StaleViewError: A third node owns one in the eyes of the source.
        """
        if not slots:
            return
        reply = wire.parse_nodes(text(await self._source.call("CLUSTER", "NODES")))
        ends = {self._pair.source.node_id, self._pair.target.node_id}
        owned = SlotSet()
        for node_id in ends & reply.known.keys():
            owned |= reply.known[node_id].slots
        if SlotSet.of(slots) - owned:
            raise stale(self._pair.source, "does not own the slots any more")

    async def _still_migrating(self, slots: list[int]) -> list[int]:
        """Return the slots that are as they were opened, or that the source had given away.

        Another run, or a person, may have closed one meanwhile: then the source takes writes for
        it again, and would delete them as soon as it heard of the target's claim.
        """
        commands: list[Command] = [("CLUSTER", "NODES")]
        commands += [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
        nodes, *counts = await self._source.pipeline(commands)
        if isinstance(nodes, ReplyError):
            raise rejection(self._pair.source, "CLUSTER NODES", nodes)
        migrating = wire.parse_nodes(text(nodes)).migrating
        target = self._pair.target.node_id
        return [
            slot
            for slot, count in zip(slots, counts, strict=True)
            if slot in self._not_mine or (migrating.get(slot) == target and count == 0)
        ]

    async def _tell(self, slots: list[int]) -> None:
        """Tell the new owner of emptied slots: target, source, then the other primaries."""
        target_id = self._pair.target.node_id
        told = await self._setslot(self._pair.target, self._target, slots, "NODE", target_id)
        # The source learns it from gossip too, and one that lost its last slot may have become a
        # replica by then (redis/redis#9223); so no answer of it can undo the move.
        await self._source_told(told)
        await asyncio.gather(*(self._tell_other(p, told) for p in self._others()))
        self._run.count(slots=len(told))
        self._raise(self._errors)

    async def _source_told(self, slots: list[int]) -> None:
        commands = [_setslot(slot, "NODE", self._pair.target.node_id) for slot in slots]
        replies = await self._source.pipeline(commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S)
        for reply in replies:
            if isinstance(reply, ReplyError) and not _is_told_anyway(reply):
                self._errors.append(rejection(self._pair.source, "CLUSTER SETSLOT", reply))

    def _others(self) -> list[PrimaryNode]:
        skipped = {self._pair.source.node_id, self._pair.target.node_id} | self._run.silent
        return [party for node_id, party in self._run.parties.items() if node_id not in skipped]

    async def _tell_other(self, party: PrimaryNode, slots: list[int]) -> None:
        """Spare a primary the wait for gossip; where that fails, gossip tells it."""
        commands = [_setslot(slot, "NODE", self._pair.target.node_id) for slot in slots]
        try:
            await party.client.pipeline(commands, writes=True, timeout_s=_TELL_TIMEOUT_S)
        except NodeUnreachableError:
            self._run.silent.add(party.node_id)

    async def _setslot(
        self,
        party: PrimaryNode,
        client: RedisNode,
        slots: Sequence[int],
        state: str,
        node: NodeId | None = None,
    ) -> list[int]:
        """Set slots at one node; return those done, the others' errors are kept.

        Valkey asks its replicas first and answers NOREPLICAS when one is late: asked again.
        """
        done: list[int] = []
        left = list(slots)
        failed: list[tuple[int, ReplyError]] = []
        for _ in range(_ATTEMPTS):
            commands = [_setslot(slot, state, node) for slot in left]
            replies = await client.pipeline(commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S)
            pairs = list(zip(left, replies, strict=True))
            done += [slot for slot, reply in pairs if not isinstance(reply, ReplyError)]
            failed = [(slot, reply) for slot, reply in pairs if isinstance(reply, ReplyError)]
            left = [slot for slot, _ in failed]
            if not any(reply.code == "NOREPLICAS" for _, reply in failed):
                break
        self._errors += [rejection(party, "CLUSTER SETSLOT", reply) for _, reply in failed]
        return done

    def _raise(self, errors: Sequence[BootstrapError]) -> None:
        if errors:
            raise most_severe(errors)


def _setslot(slot: int, state: str, node: NodeId | None = None) -> Command:
    return ("CLUSTER", "SETSLOT", slot, state, *((node,) if node else ()))


def _is_told_anyway(reply: ReplyError) -> bool:
    return reply.code in {"NOREPLICAS", "UNBLOCKED"} or "only with masters" in reply.message


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
