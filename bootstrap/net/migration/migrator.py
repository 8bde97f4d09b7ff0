"""Moves slots: by the servers' own command where both ends have one, else key by key.

Pairs of nodes move at the same time. Slots that are open, or that both ends claim, are what an
earlier run left: no server takes those up by itself, so they go key by key, and first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from ...core.actions import GatherKeys, MoveSlots
from ...core.slots import SlotSet
from ...core.topology import NodeId
from ...errors import NodeUnreachableError, StaleViewError
from ..connection import Access
from .atomic import AtomicMover, estimated_keys
from .epochs import order_epochs
from .key_by_key import KeyMover
from .session import Connect, MigrationHistory, MigrationSession, Pair, PrimaryNode, Progress

__all__ = ["Migrator", "PrimaryNode", "Progress"]

_PAIRS_AT_ONCE = 16
_QUIET_S = 1.0
_Work = Coroutine[object, object, None]


class Migrator:
    """Carries out the moves of one plan after the other.

    Every move may be repeated, and goes on where an earlier one stopped, whoever made it.

    Attributes:
        progress: Of the last call, also of one that failed.
    """

    def __init__(
        self,
        *,
        parties: Mapping[NodeId, PrimaryNode],
        access: Access,
        connect: Connect,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None] = lambda _: None,
        memory: MigrationHistory | None = None,
    ) -> None:
        """Take what all moves have in common.

        Args:
            parties: All live primaries; those that take no part are told the new owners.
            access: MIGRATE logs in at the target with it.
            connect: Gives a further connection to a node; it is closed here.
            stop: Once set, slots in flight are finished and no others are begun.
            on_progress: Called after every step.
            memory: Hand the same one to every migrator of a run: it settles which of two copies
                of a key is the newer one, and what is not tried for ever.
        """
        self._parties = parties
        self._access = access
        self._connect = connect
        self._stop = stop
        self._on_progress = on_progress
        self._memory = memory or MigrationHistory()
        self._turns = asyncio.Semaphore(_PAIRS_AT_ONCE)
        self.progress = Progress()
        self._busy = {node_id: asyncio.Lock() for node_id in parties}

    async def move(self, moves: Sequence[MoveSlots]) -> Progress:
        """Move slots with their keys.

        Returns:
            What was moved; less than asked when `stop` was set.

        Raises:
            StaleViewError: The cluster changed; look again, then go on.
            RefusedError: A key has two values, and the other slots were finished; or the target's
                memory is full.
            CredentialsError: A command is not allowed, or MIGRATE cannot log in.
        """
        run, pairs = self._begin(moves)
        for phase in _phases(pairs):
            if not run.is_ending:
                await self._move_phase(run, phase)
        return run.progress

    async def gather(self, gathers: Sequence[GatherKeys]) -> Progress:
        """Bring keys to the owner of their slot, and close the slots; raises as `move`."""
        run, pairs = self._begin(gathers)
        await self._finish(run, [self._gather(run, pair, slots) for pair, slots in pairs.items()])
        return run.progress

    def _begin(
        self, actions: Sequence[MoveSlots] | Sequence[GatherKeys]
    ) -> tuple[MigrationSession, dict[Pair, SlotSet]]:
        ends: dict[tuple[NodeId, NodeId], SlotSet] = {}
        for action in actions:
            key = (action.source, action.target)
            ends[key] = ends.get(key, SlotSet()) | action.slots
        pairs = {
            Pair(self._parties[source], self._parties[target]): slots
            for (source, target), slots in ends.items()
        }
        run = MigrationSession(
            parties=self._parties,
            access=self._access,
            connect=self._connect,
            stop=self._stop,
            report=self._on_progress,
            memory=self._memory,
        )
        self.progress = run.progress
        run.progress.slots_total = sum(map(len, ends.values()))
        return run, pairs

    async def _finish(self, run: MigrationSession, works: Sequence[_Work]) -> None:
        try:
            await run.together(works)
        except NodeUnreachableError as error:
            raise StaleViewError(node=error.node, cause=error.cause, remedy=error.remedy) from error

    async def _move_phase(self, run: MigrationSession, pairs: Mapping[Pair, SlotSet]) -> None:
        await self._wait_for_headers({pair.target.node_id for pair in pairs})
        await self._finish(run, [order_epochs(self._parties, list(pairs))])
        try:
            await self._move_pairs(run, pairs)
        finally:
            now = time.monotonic()
            self._memory.gave_at |= {pair.source.node_id: now for pair in pairs}

    async def _wait_for_headers(self, targets: set[NodeId]) -> None:
        """Let a node that gave slots away take none before it has read who has them now.

        The new owner tells everybody with a header a slot. Where the last one arrives after its
        slot came back, Redis 7.0 gives that slot up again, whatever the epochs, and deletes its
        keys (seen under load; owner_not_claiming_slot in clusterUpdateSlotsConfigWith).
        """
        gave_at = max((self._memory.gave_at.get(target, 0.0) for target in targets), default=0.0)
        wait_s = gave_at + _QUIET_S - time.monotonic()
        if gave_at and wait_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait_s)

    async def _move_pairs(self, run: MigrationSession, pairs: Mapping[Pair, SlotSet]) -> None:
        opened = {pair: slots & _opened(pair) for pair, slots in pairs.items()}
        await self._finish(
            run, [self._by_keys(run, pair, slots) for pair, slots in opened.items() if slots]
        )
        works = []
        for pair, slots in pairs.items():
            rest = slots - opened[pair]
            if rest and not run.is_ending:
                works.append(self._move_rest(run, pair, rest))
        await self._finish(run, works)

    async def _move_rest(self, run: MigrationSession, pair: Pair, slots: SlotSet) -> None:
        """Move closed slots in the best way that both ends can."""
        both = pair.source.view.commands & pair.target.view.commands
        if pair.processes in self._memory.by_keys:
            await self._by_keys(run, pair, slots)
        elif "MIGRATION" in both:
            # One task at a time for a target; and a source that is busy turns a second one away.
            async with AsyncExitStack() as stack:
                for node_id in sorted((pair.source.node_id, pair.target.node_id)):
                    await stack.enter_async_context(self._busy[node_id])
                if not run.is_ending:
                    run.progress.keys_total += estimated_keys(pair, slots)
                    await AtomicMover(run, pair).redis(slots)
        elif "MIGRATESLOTS" in both:
            run.progress.keys_total += estimated_keys(pair, slots)
            await AtomicMover(run, pair).valkey(slots)
        else:
            await self._by_keys(run, pair, slots)

    async def _by_keys(self, run: MigrationSession, pair: Pair, slots: SlotSet) -> None:
        async with self._turns:
            await KeyMover(run, pair).move(slots)

    async def _gather(self, run: MigrationSession, pair: Pair, slots: SlotSet) -> None:
        async with self._turns:
            await KeyMover(run, pair).gather(slots)


def _opened(pair: Pair) -> SlotSet:
    """Return the slots that either end has open, or that both claim."""
    source, target = pair.source.view, pair.target.view
    return source.open_slots | target.open_slots | target.slots


def _phases(pairs: Mapping[Pair, SlotSet]) -> list[dict[Pair, SlotSet]]:
    """Split pairs so that within a phase no node gives and takes: taking raises its epoch."""
    phases: list[dict[Pair, SlotSet]] = []
    for pair, slots in pairs.items():
        for phase in phases:
            givers = {each.source.node_id for each in phase}
            takers = {each.target.node_id for each in phase}
            if pair.source.node_id not in takers and pair.target.node_id not in givers:
                phase[pair] = slots
                break
        else:
            phases.append({pair: slots})
    return phases
