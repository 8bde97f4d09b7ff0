"""Slots moved key by key: SETSLOT, GETKEYSINSLOT, MIGRATE, for servers without their own command.

Slots go in windows: a window is opened, emptied and given to the target as one, each step in one
pipeline a node, so a round trip is paid for the window and not for the slot. MIGRATE itself takes
keys of one slot only (CROSSSLOT), and blocks both servers, so it is bounded in keys and bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

from ...core.slots import SlotSet
from ...errors import (
    BootstrapError,
    CredentialsError,
    RefusedError,
    StaleViewError,
)
from .. import databases
from ..connection import reading
from .key_copier import KeyCopier
from .link import LANES, Destination, MigrationLink, find_destination
from .reply_errors import stale_view
from .session import MigrationSession, Pair
from .slot_states import SlotStates, raise_any

_PAIRS_AT_ONCE = 16
_COUNTED_AT_ONCE = 2048
# Small: where the source fails over, its replica knows nothing of the slots in flight.
_WINDOW_SLOTS = 32
_WINDOW_KEYS = 4096
_WINDOW_BYTES = 64 << 20


class KeyByKey:
    """Moves slots with MIGRATE, or gathers keys at the owner of their slot."""

    def __init__(self, session: MigrationSession) -> None:
        self._session = session
        self._turns = asyncio.Semaphore(_PAIRS_AT_ONCE)

    async def move(self, pair: Pair, slots: SlotSet) -> None:
        """Move slots with their keys.

        Raises:
            StaleViewError: The cluster changed; observe again, then continue.
            RefusedError: A key has two values, and the other slots were finished; or the target's
                memory is full.
            CredentialsError: A command is not allowed, or MIGRATE cannot log in.
        """
        await self._windows(pair, slots, is_move=True)

    async def gather(self, pair: Pair, slots: SlotSet) -> None:
        """Move the source's keys of slots that the target owns, and close the slots."""
        await self._windows(pair, slots, is_move=False)

    async def _windows(self, pair: Pair, slots: SlotSet, *, is_move: bool) -> None:
        async with self._turns:
            with reading(pair.source.name, "a command of a migration"):
                await self._move_windows(pair, slots, is_move=is_move)

    async def _move_windows(self, pair: Pair, slots: SlotSet, *, is_move: bool) -> None:
        counts = await self._count(pair, slots)
        destination = await find_destination(pair)
        self._session.progress.keys_total += sum(counts.values())
        self._session.count()
        # Those with keys first: the first MIGRATE shows whether the target can be reached.
        queue = deque(sorted(windows(pair, counts), key=lambda w: not any(map(counts.get, w))))
        lane = partial(self._lane, pair, destination, queue, is_move=is_move)
        if any(counts.values()):
            # One lane at first: a target that cannot be reached is tried once, not twice.
            await self._session.run_all([lane(until_proven=True)])
        await self._session.run_all(lane(until_proven=False) for _ in range(min(LANES, len(queue))))

    async def _count(self, pair: Pair, slots: SlotSet) -> dict[int, int]:
        """Return the source's keys by slot."""
        client = pair.source.client
        occupied = await databases.occupied(client, pair.source.view)
        counts: dict[int, int] = {}
        for part in _chunks(list(slots), _COUNTED_AT_ONCE):
            counts |= await databases.count_keys(client, part, occupied)
        return counts

    async def _lane(
        self,
        pair: Pair,
        destination: Destination,
        queue: deque[list[int]],
        *,
        is_move: bool,
        until_proven: bool,
    ) -> None:
        """Take windows until there are none, with connections of its own.

        Args:
            pair: The two ends.
            destination: Where MIGRATE goes.
            queue: The windows that all lanes of the pair take from.
            is_move: Whether slots move, or only keys are gathered.
            until_proven: Stop as soon as a MIGRATE has reached the target.
        """
        source, target = self._session.connect(pair.source), self._session.connect(pair.target)
        connected = self._session.history.connected
        try:
            while queue and not self._session.is_ending:
                if until_proven and pair.processes in connected:
                    break
                link = MigrationLink(
                    session=self._session,
                    pair=pair,
                    destination=destination,
                    source=source,
                    target=target,
                )
                window = Window(self._session, link, queue.popleft())
                await (window.move() if is_move else window.gather())
        finally:
            await source.close()
            await target.close()


def windows(pair: Pair, counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Cut slots into windows that one lane holds open together."""
    view = pair.source.view
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


class Window:
    """Slots that are open at the same time."""

    def __init__(self, session: MigrationSession, link: MigrationLink, slots: list[int]) -> None:
        self._session = session
        self._link = link
        self._slots = slots
        self._states = SlotStates(session, link, slots)
        self._emptied: list[int] = []

    async def move(self) -> None:
        """Open the slots, empty them, and make the target their owner at every primary.

        Where a refusal ends that, what no key has left yet is closed again: a slot that stays open
        sends clients to a target that may refuse their writes too.
        """
        try:
            await self._move()
        except (CredentialsError, RefusedError, StaleViewError) as error:
            is_unreachable = error.command == "MIGRATE" and not self._link.is_proven
            if is_unreachable or not isinstance(error, StaleViewError):
                with suppress(BootstrapError):
                    await self._states.revert(self._emptied)
            raise

    async def _move(self) -> None:
        states = self._states
        await states.open()
        copier = KeyCopier(
            session=self._session,
            link=self._link,
            target_serves=states.served_by_target,
            untouched={slot for slot in self._slots if states.is_untouched(slot)},
        )
        self._emptied = await copier.empty(self._slots)
        still = await states.still_migrating(self._emptied)
        await states.give_to_target(still)
        raise_any(copier.errors)
        if len(still) < len(self._emptied):
            raise stale_view(self._link.pair.source.name, "does not migrate the slots any more")

    async def gather(self) -> None:
        """Bring the source's keys to the target, which owns the slots, and close them at both."""
        await self._states.open_source_only()
        self._link.source_asks = True
        copier = KeyCopier(session=self._session, link=self._link, target_serves=set(self._slots))
        emptied = await copier.empty(self._slots)
        await self._states.close_source(emptied)
        self._session.count(slots=len(emptied))
        raise_any(copier.errors + self._states.errors)


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
