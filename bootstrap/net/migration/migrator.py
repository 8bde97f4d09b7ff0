"""Moves slots: by the servers' own command where both ends have one, otherwise key by key.

Pairs of nodes move at the same time. Slots that are open, or that both ends claim, are what an
earlier run left: no server takes those up by itself, so they go key by key, and first. No node is
both a source and a target in one plan, and every target has a higher config epoch than every source
(`core.config_epochs`), so that no claim of an old owner wins over the new one's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...core.actions import GatherKeys, MoveSlots
from ...core.slots import SlotSet
from ...core.topology import NodeId
from ...errors import NodeUnreachableError, StaleViewError
from .key_by_key import KeyByKey
from .redis_atomic import RedisAtomic
from .session import MigrationSession, Pair, SlotMover, Work
from .valkey_atomic import ValkeyAtomic

_QUIET_S = 1.0


class Migrator:
    """Carries out the moves of one plan.

    Every move may be repeated, and continues where an earlier one stopped, whoever made it.
    """

    def __init__(self, session: MigrationSession) -> None:
        self._session = session
        self._key_by_key = KeyByKey(session)
        self._redis_atomic = RedisAtomic(session)
        self._valkey_atomic = ValkeyAtomic(session)

    def mover(self, pair: Pair) -> SlotMover:
        """Return the best way to move closed slots that both ends of a pair can."""
        if pair.processes in self._session.history.by_keys:
            return self._key_by_key
        commands = pair.source.commands & pair.target.commands
        if "MIGRATION" in commands:
            return self._redis_atomic
        return self._valkey_atomic if "MIGRATESLOTS" in commands else self._key_by_key

    async def move(self, moves: Sequence[MoveSlots]) -> None:
        """Move slots with their keys; less than asked when a stop was asked for."""
        pairs = self._pairs(moves)
        await self._wait_for_headers({pair.target.node_id for pair in pairs})
        opened = {pair: slots & _opened(pair) for pair, slots in pairs.items()}
        try:
            await self._run_all(
                [self._key_by_key.move(pair, slots) for pair, slots in opened.items() if slots]
            )
            await self._run_all(
                [
                    self.mover(pair).move(pair, slots - opened[pair])
                    for pair, slots in pairs.items()
                    if slots - opened[pair] and not self._session.is_ending
                ]
            )
        finally:
            now = time.monotonic()
            self._session.history.gave_at |= {pair.source.node_id: now for pair in pairs}

    async def gather(self, gathers: Sequence[GatherKeys]) -> None:
        """Bring keys to the owner of their slot, and close the slots; raises as `move`."""
        pairs = self._pairs(gathers)
        await self._run_all([self._key_by_key.gather(pair, slots) for pair, slots in pairs.items()])

    def _pairs(self, actions: Sequence[MoveSlots] | Sequence[GatherKeys]) -> dict[Pair, SlotSet]:
        by_ends: dict[tuple[NodeId, NodeId], SlotSet] = {}
        for action in actions:
            key = (action.source, action.target)
            by_ends[key] = by_ends.get(key, SlotSet()) | action.slots
        self._session.progress.slots_total += sum(map(len, by_ends.values()))
        primaries = self._session.primaries
        return {
            Pair(primaries[source], primaries[target]): slots
            for (source, target), slots in by_ends.items()
        }

    async def _run_all(self, works: Sequence[Work]) -> None:
        try:
            await self._session.run_all(works)
        except NodeUnreachableError as error:
            raise StaleViewError(node=error.node, cause=error.cause, remedy=error.remedy) from error

    async def _wait_for_headers(self, targets: set[NodeId]) -> None:
        """Let a node that gave slots away take none before it has read who has them now.

        The new owner sends everybody a header a slot. Where the last one arrives after its slot
        came back, Redis 7.0 gives that slot up again, whatever the epochs, and deletes its keys
        (seen under load; owner_not_claiming_slot in clusterUpdateSlotsConfigWith).
        """
        gave_at = self._session.history.gave_at
        last = max((gave_at.get(target, 0.0) for target in targets), default=0.0)
        wait_s = last + _QUIET_S - time.monotonic()
        if last and wait_s > 0:
            await self._session.pause(wait_s)


def _opened(pair: Pair) -> SlotSet:
    """Return the slots that either end has open, or that both claim."""
    return pair.source.open_slots | pair.target.open_slots | pair.target.slots
