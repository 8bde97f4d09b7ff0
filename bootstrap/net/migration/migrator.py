"""Moves slots: by the servers' own command where both ends have one, otherwise key by key.

Every move may be repeated, and continues where an earlier one stopped, whoever made it. It raises
- StaleViewError: the cluster changed, or the servers' own migration failed; observe again, then
  continue;
- RefusedError: a key has two values, and the other slots were finished; or the target's memory is
  full;
- CredentialsError: a command is not allowed, or MIGRATE cannot log in.

Pairs of nodes move at the same time. Slots that are open, or that both ends claim, are what an
earlier run left: no server takes those up by itself, so they go key by key, and first. So do slots
of which the target has keys already (`TaskRunner.leave_to_keys`). No node is both a source and a
target in one plan, and every target has a higher config epoch than every source
(`core.config_epochs`), so that no claim of an old owner wins over the new one's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ...core.actions import GatherKeys, MoveSlots
from ...core.slots import SlotSet
from ...core.topology import NodeId
from ...errors import NodeUnreachableError, StaleViewError
from . import key_by_key, redis_atomic, valkey_atomic
from .session import MigrationSession, Pair, Work

_QUIET_S = 1.0

SlotMover: TypeAlias = Callable[[MigrationSession, Pair, SlotSet], Work]


def mover(session: MigrationSession, pair: Pair) -> SlotMover:
    """Return the best way to move closed slots that both ends of a pair can."""
    commands = pair.source.commands & pair.target.commands
    if pair.processes in session.history.by_keys:
        return key_by_key.move
    if "MIGRATION" in commands:
        return redis_atomic.move
    return valkey_atomic.move if "MIGRATESLOTS" in commands else key_by_key.move


async def move(session: MigrationSession, moves: Sequence[MoveSlots]) -> None:
    """Move slots with their keys; less than asked when a stop was asked for."""
    pairs = _pairs(session, moves)
    await _wait_for_headers(session, {pair.target.node_id for pair in pairs})
    strays = session.history.strays
    opened = {p: slots & (_opened(p) | strays[p.processes]) for p, slots in pairs.items()}
    try:
        await _run_all(
            session,
            [key_by_key.move(session, pair, slots) for pair, slots in opened.items() if slots],
        )
        await _run_all(
            session,
            [
                mover(session, pair)(session, pair, slots - opened[pair])
                for pair, slots in pairs.items()
                if slots - opened[pair] and not session.is_ending
            ],
        )
    finally:
        now = time.monotonic()
        session.history.gave_at |= {pair.source.node_id: now for pair in pairs}


async def gather(session: MigrationSession, gathers: Sequence[GatherKeys]) -> None:
    """Bring keys to the owner of their slot, or to the target of its move."""
    pairs = _pairs(session, gathers).items()
    await _run_all(session, [key_by_key.gather(session, pair, slots) for pair, slots in pairs])


def _pairs(
    session: MigrationSession, actions: Sequence[MoveSlots] | Sequence[GatherKeys]
) -> dict[Pair, SlotSet]:
    by_ends: dict[tuple[NodeId, NodeId], SlotSet] = {}
    for action in actions:
        key = (action.source, action.target)
        by_ends[key] = by_ends.get(key, SlotSet()) | action.slots
    session.progress.slots_total += sum(map(len, by_ends.values()))
    primaries = session.primaries
    return {Pair(primaries[a], primaries[b]): slots for (a, b), slots in by_ends.items()}


async def _run_all(session: MigrationSession, works: Sequence[Work]) -> None:
    try:
        await session.run_all(works)
    except NodeUnreachableError as error:
        raise StaleViewError(node=error.node, cause=error.cause, remedy=error.remedy) from error


async def _wait_for_headers(session: MigrationSession, targets: set[NodeId]) -> None:
    """Let a node that gave slots away take none before it has read who has them now.

    The new owner sends everybody a header a slot. Where the last one arrives after its slot came
    back, Redis 7.0 gives that slot up again, whatever the epochs, and deletes its keys (seen under
    load; owner_not_claiming_slot in clusterUpdateSlotsConfigWith).
    """
    gave_at = session.history.gave_at
    last = max((gave_at.get(target, 0.0) for target in targets), default=0.0)
    wait_s = last + _QUIET_S - time.monotonic()
    if last and wait_s > 0:
        await session.pause(wait_s)


def _opened(pair: Pair) -> SlotSet:
    """Return the slots that either end has open, or that both claim."""
    return pair.source.open_slots | pair.target.open_slots | pair.target.slots
