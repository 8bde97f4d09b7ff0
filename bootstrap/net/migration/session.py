"""What all movers of slots share: the two ends of a move, its progress, the history of the run."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from ...core.slots import SlotSet
from ...core.topology import NodeId, NodeView
from .. import preconditions
from ..connection import RedisNode
from ..pool import ConnectionPool
from .reply_errors import most_severe

_PAIRS_AT_ONCE = 16
_FIRST_PAUSE_S = 0.5
_PAUSE_GROWTH = 4

Processes: TypeAlias = tuple[tuple[NodeId, str], ...]
OpenedSlot: TypeAlias = tuple[int, NodeId, NodeId]
Work: TypeAlias = Coroutine[object, object, None]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The primary that slots come from and the one that takes them, as the plan saw them."""

    source: NodeView
    target: NodeView

    @property
    def processes(self) -> Processes:
        """Return which two processes these are; one that was restarted is another one."""
        return tuple((node.node_id, node.run_id) for node in (self.source, self.target))

    def estimated_keys(self, slots: SlotSet) -> int:
        """Return about how many keys slots of the source have; counting costs a command a slot."""
        return round(self.source.keys * len(slots) / max(1, len(self.source.slots)))


@dataclass(slots=True)
class Progress:
    """How far the moves of one plan are.

    Attributes:
        keys_total: Counted when a pair starts, so it grows at first; an estimate where the server
            moves slots itself.
    """

    slots_total: int = 0
    slots_moved: int = 0
    keys_total: int = 0
    keys_moved: int = 0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started_s

    @property
    def keys_per_s(self) -> float:
        """Return the rate so far."""
        return self.keys_moved / max(self.elapsed_s, 1e-6)

    @property
    def left_s(self) -> float | None:
        """Return the seconds left at the rate so far; None before anything has moved."""
        shares = []
        if self.slots_moved and self.slots_total:
            shares.append(self.slots_moved / self.slots_total)
        if self.keys_moved and self.keys_total:
            shares.append(min(1.0, self.keys_moved / self.keys_total))
        return self.elapsed_s * (1 / min(shares) - 1) if shares else None


@dataclass(slots=True)
class MigrationHistory:
    """What one run of the program remembers of its migrations from pass to pass.

    Attributes:
        opened: Slots (with source and target) of which the target held no key when this program
            opened them, and the source's process (`run_id`) then.
        failures: How often in a row the servers' own command failed between two processes.
        by_keys: Processes between which it cannot work, so that slots go key by key.
        connected: Processes between which a MIGRATE has reached the target.
        unconnected: How often in a row the first MIGRATE between two processes did not.
        strays: Slots of which a target that does not own them may have keys, by processes: no
            server may move these by itself.
        gave_at: When a node last gave slots away, by the monotonic clock.
    """

    opened: dict[OpenedSlot, str] = field(default_factory=dict)
    failures: dict[Processes, int] = field(default_factory=lambda: defaultdict(int))
    by_keys: set[Processes] = field(default_factory=set)
    connected: set[Processes] = field(default_factory=set)
    unconnected: dict[Processes, int] = field(default_factory=lambda: defaultdict(int))
    strays: dict[Processes, SlotSet] = field(default_factory=lambda: defaultdict(SlotSet))
    gave_at: dict[NodeId, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class MigrationSession:
    """What all pairs of one plan share.

    Attributes:
        primaries: All live primaries; those that take no part are sent the new owners too.
        stop: Once set, slots in flight are finished and no others are begun.
        history: The same one for every session of a run.
        on_progress: Called after every step.
        silent: Primaries that did not answer when they were sent a new owner.
        halted: A pair failed; the others finish the slots in flight and start no more.
        turns: Bounds how many pairs move key by key at the same time.
        busy: Locks of nodes that take part in one task of their own at a time (Redis).
    """

    pool: ConnectionPool
    primaries: Mapping[NodeId, NodeView]
    stop: asyncio.Event
    history: MigrationHistory
    on_progress: Callable[[Progress], None] = lambda _: None
    progress: Progress = field(default_factory=Progress)
    silent: set[NodeId] = field(default_factory=set)
    halted: bool = False
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PAIRS_AT_ONCE))
    busy: dict[NodeId, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    @property
    def is_ending(self) -> bool:
        """Return whether no further slot may be opened."""
        return self.halted or self.stop.is_set()

    def client(self, primary: NodeView) -> RedisNode:
        """Return the shared connection to a primary."""
        return self.pool.client(primary.name)

    async def check(self, pair: Pair, slots: SlotSet, *, gathers: bool = False) -> None:
        """Make sure that both ends are as the plan saw them; `gathers`: keys are brought to it.

        Raises:
            StaleViewError: One of them is not.
        """
        at_target = preconditions.lost if gathers else preconditions.moved
        ends = ((pair.source, preconditions.moved), (pair.target, at_target))
        await preconditions.check((self.client(n), n, partial(each, slots)) for n, each in ends)

    def count(self, *, slots: int = 0, keys: int = 0) -> None:
        """Add to the progress and report it."""
        self.progress.slots_moved += slots
        self.progress.keys_moved += keys
        self.on_progress(self.progress)

    async def back_off(self, failures: int) -> None:
        """Begin no more slots, and pause; longer with every failure in a row."""
        self.halted = True
        await self.pause(_FIRST_PAUSE_S * _PAUSE_GROWTH ** (failures - 1))

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until a stop is asked for."""
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return

    async def run_all(self, works: Iterable[Work]) -> None:
        """Run all at the same time, each to its end; then raise the most severe error.

        One that fails must not cancel another in the middle of a slot.
        """

        async def watched(work: Work) -> None:
            try:
                await work
            except BaseException:
                self.halted = True
                raise

        results = await asyncio.gather(*map(watched, works), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise most_severe(errors)
