"""Slots moved key by key: SETSLOT, GETKEYSINSLOT, MIGRATE, for servers without their own command.

Slots go in windows: a window is opened, emptied and given to the target as one, each step in one
pipeline a node, so a round trip is paid for the window and not for the slot. MIGRATE itself takes
keys of one slot only (CROSSSLOT), and blocks both servers, so it is bounded in keys and bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from ...core.slots import SlotSet
from ...errors import BootstrapError, CredentialsError, RefusedError, StaleViewError
from .. import databases
from ..replies import reading
from .link import LANES, Destination, MigrationLink, find_destination
from .migrate_command import KeyCopier, cut
from .reply_errors import stale_view
from .session import MigrationSession, Pair
from .slot_states import SlotStates, raise_any

_COUNTED_AT_ONCE = 2048
# Small: where the source fails over, its replica knows nothing of the slots in flight.
_WINDOW_SLOTS = 64
_WINDOW_KEYS = 4096
_WINDOW_BYTES = 64 << 20

_Step: TypeAlias = Callable[[MigrationLink, list[int]], Awaitable[None]]


async def move(session: MigrationSession, pair: Pair, slots: SlotSet) -> None:
    """Move slots with their keys."""
    await _in_windows(_move, session, pair, slots)


async def gather(session: MigrationSession, pair: Pair, slots: SlotSet) -> None:
    """Move the source's keys of slots that the target owns or imports."""
    await _in_windows(_gather, session, pair, slots)


async def _in_windows(step: _Step, session: MigrationSession, pair: Pair, slots: SlotSet) -> None:
    async with session.turns:
        with reading(pair.source.name, "a command of a migration"):
            counts = await _count(session, pair, slots)
            destination = await find_destination(session, pair)
            await session.check(pair, slots, gathers=step is _gather)
            session.progress.keys_total += sum(counts.values())
            session.count()
            # Those with keys first: the first MIGRATE shows whether the target can be reached.
            queue = deque(sorted(windows(pair, counts), key=lambda w: not any(map(counts.get, w))))
            lane = partial(_lane, step, session, pair, destination, queue)
            if any(counts.values()):
                # One lane at first: a target that cannot be reached is tried once, not twice.
                await session.run_all([lane(until_proven=True)])
            await session.run_all(lane(until_proven=False) for _ in range(min(LANES, len(queue))))


async def _count(session: MigrationSession, pair: Pair, slots: SlotSet) -> dict[int, int]:
    """Return the source's keys by slot."""
    client = session.client(pair.source)
    occupied = await databases.occupied(client, pair.source)
    counts: dict[int, int] = {}
    for part in cut(slots, most=_COUNTED_AT_ONCE):
        counts |= await databases.count_keys(client, part, occupied)
    return counts


async def _lane(
    step: _Step,
    session: MigrationSession,
    pair: Pair,
    destination: Destination,
    queue: deque[list[int]],
    *,
    until_proven: bool,
) -> None:
    """Take windows until there are none, with connections of its own.

    With `until_proven` it ends as soon as a MIGRATE has reached the target.
    """
    source = session.pool.open(pair.source.endpoint)
    target = session.pool.open(pair.target.endpoint)
    try:
        while queue and not session.is_ending:
            link = MigrationLink(
                session=session, pair=pair, destination=destination, source=source, target=target
            )
            if until_proven and link.is_proven:
                break
            await step(link, queue.popleft())
    finally:
        await source.close()
        await target.close()


def windows(pair: Pair, counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Cut slots into windows that one lane holds open together."""
    key_bytes = pair.source.used_memory / max(1, pair.source.keys)
    most_keys = min(_WINDOW_KEYS, _WINDOW_BYTES / max(1, key_bytes))
    return cut(counts, most=_WINDOW_SLOTS, weight=counts.__getitem__, most_weight=most_keys)


async def _move(link: MigrationLink, slots: list[int]) -> None:
    """Open the slots, empty them, and make the target their owner at every primary.

    Where a refusal ends that, what no key has left yet is closed again: a slot that stays open
    sends clients to a target that may refuse their writes too.
    """
    states = SlotStates(link, slots)
    emptied: list[int] = []
    try:
        await states.open()
        copier = KeyCopier(
            link=link, target_serves=states.served_by_target, untouched=states.untouched()
        )
        emptied = await copier.empty(slots)
        still = await states.still_migrating(emptied)
        await states.give_to_target(still)
        raise_any(copier.errors)
        if len(still) < len(emptied):
            raise stale_view(link.pair.source.name, "does not migrate the slots any more")
    except (CredentialsError, RefusedError, StaleViewError) as error:
        is_unreachable = error.command == "MIGRATE" and not link.is_proven
        if is_unreachable or not isinstance(error, StaleViewError):
            with suppress(BootstrapError):
                await states.revert(emptied)
        raise


async def _gather(link: MigrationLink, slots: list[int]) -> None:
    """Bring the source's keys to the target, and close the slots at the source and at an owner."""
    states = SlotStates(link, slots)
    await states.open_source_only()
    link.source_asks = True
    copier = KeyCopier(link=link, target_serves=set(slots))
    emptied = await copier.empty(slots)
    await states.close_source(emptied)
    link.session.count(slots=len(emptied))
    raise_any(copier.errors + states.errors)
