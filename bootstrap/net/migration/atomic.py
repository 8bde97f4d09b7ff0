"""Slots moved by the servers themselves, all keys of a range or none.

Redis (8.4 and later) is told on the target, one task at a time for a node, all slots of a task
from one source. Valkey (9.0 and later) is told on the source. Both run in the background: a run
that dies leaves the task behind, so what runs already is waited for first, never collided with.

The servers log in to each other: Valkey with its primaryauth, Redis with a secret that travels by
gossip and comes late to a new member. Where that does not work, or where the command fails again
and again, slots go key by key: MIGRATE logs in with ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...core.slots import SlotSet
from ...core.wire import Reply
from ...errors import BootstrapError
from ..connection import NodeClient, ReplyError, text, without_echo
from .session import MigrationSession, Pair, PrimaryNode, full, rejection, stale

_FIRST_POLL_S = 0.002
_LONGEST_POLL_S = 0.25
_POLL_GROWTH = 1.2
_POLL_SHARE = 0.03
_MOST_RETRIES = 10
_MOST_POLLS_AT_SOURCE = 500
_ENDS_SOON_S = 2.0
# Of Valkey: the target has no part yet in who owns the slots.
_COPYING = frozenset(
    {
        "connecting", "sending-auth-command", "reading-auth-response", "sending-establish-command",
        "reading-establish-response", "waiting-to-snapshot", "snapshotting",
    }
)  # fmt: skip
_DONE = frozenset({"completed", "success"})
_NO_LOGIN = ("NOAUTH", "WRONGPASS", "NOPERM", "AUTH to target")
_LATE = "invalid internal password"
_MOST_FAILURES = 3
_FIRST_PAUSE_S = 0.5
_PAUSE_GROWTH = 4
_ENDED = _DONE | {"failed", "canceled", "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One migration as a server tells it.

    Attributes:
        words: Its last error, empty for none.
        retries: How often the server began again by itself (Redis).
    """

    task_id: str
    slots: SlotSet
    state: str
    words: str
    retries: int

    @property
    def has_ended(self) -> bool:
        """Return whether it will not go on; Redis retries while a new secret is late."""
        return self.state in _ENDED and not (self.state == "failed" and _LATE in self.words)


async def redis_tasks(client: NodeClient, task_id: str | None = None) -> list[Task]:
    """Return the tasks that a Redis node takes part in, past ones too."""
    which = ("ID", task_id) if task_id else ("ALL",)
    return _tasks(await client.call("CLUSTER", "MIGRATION", "STATUS", *which))


async def valkey_tasks(client: NodeClient) -> list[Task]:
    """Return the migrations that a Valkey node takes part in, past ones too."""
    return _tasks(await client.call("CLUSTER", "GETSLOTMIGRATIONS"))


def _tasks(reply: Reply) -> list[Task]:
    rows = [[text(word) for word in row] for row in _rows(reply)]
    tasks = []
    for row in rows:
        fields = dict(zip(row[::2], row[1::2], strict=False))
        tasks.append(
            Task(
                task_id=fields.get("id") or fields.get("name", ""),
                slots=SlotSet.parse(fields.get("slots") or fields.get("slot_ranges", "")),
                state=fields.get("state", ""),
                words=without_echo(fields.get("last_error") or fields.get("message", "")),
                retries=int(fields.get("retries", "0")),
            )
        )
    return tasks


def _rows(reply: Reply) -> list[Sequence[Reply]]:
    if not isinstance(reply, Sequence) or isinstance(reply, (str, bytes)):
        return []
    return [row for row in reply if isinstance(row, Sequence) and not isinstance(row, (str, bytes))]


class AtomicMover:
    """Moves slots of one pair with the servers' own command."""

    def __init__(self, run: MigrationSession, pair: Pair) -> None:
        self._run = run
        self._pair = pair

    async def redis(self, slots: SlotSet) -> None:
        """Let the target import the slots (Redis).

        Raises:
            StaleViewError: It would not start, failed, or a task of another run was in the way.
            RefusedError: The target's memory is full.
        """
        source, target = self._pair.source, self._pair.target
        for party in (target, source):
            await self._settle(party, redis_tasks)
        task_id = text(await self._start(target, "MIGRATION", "IMPORT", *_bounds(slots)))

        async def look() -> Task | None:
            return next(iter(await redis_tasks(target.client, task_id)), None)

        async def cancel() -> bool:
            await _cancel(target, ("MIGRATION", "CANCEL", "ID", task_id))
            return True

        await self._follow(target, look, cancel, slots)
        await self._until_source_knows(task_id)

    async def _until_source_knows(self, task_id: str) -> None:
        """Wait until the source has ended its part: only then does it say that the slots went."""
        for _ in range(_MOST_POLLS_AT_SOURCE):
            tasks = await redis_tasks(self._pair.source.client, task_id)
            if all(task.has_ended for task in tasks):
                return
            await asyncio.sleep(_FIRST_POLL_S)

    async def valkey(self, slots: SlotSet) -> None:
        """Let the source hand the slots over (Valkey); raises as `redis`."""
        source, target = self._pair.source, self._pair.target
        before = await self._settle(source, valkey_tasks, slots)
        before |= await self._settle(target, valkey_tasks, slots)
        ranges = _bounds(slots)
        await self._start(source, "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target.node_id)

        async def look() -> Task | None:
            tasks = await valkey_tasks(source.client)
            mine = (t for t in tasks if t.task_id not in before and t.slots == slots)
            return next(mine, None)

        asked_at: list[float] = []

        async def cancel() -> bool:
            """Cancel all tasks of the source, unless one may hand its slots over by now.

            The source would serve these again while the target takes them, and what it
            acknowledged meanwhile would be lost. So a short task is let end in any case.
            """
            asked_at.append(time.monotonic())
            if asked_at[-1] - asked_at[0] < _ENDS_SOON_S:
                return False
            tasks = await valkey_tasks(source.client)
            if any(not t.has_ended and t.state not in _COPYING for t in tasks):
                return False
            await _cancel(source, ("CANCELSLOTMIGRATIONS",))
            return True

        await self._follow(source, look, cancel, slots)

    async def _settle(
        self,
        party: PrimaryNode,
        tasks: Callable[[NodeClient], Awaitable[list[Task]]],
        slots: SlotSet | None = None,
    ) -> set[str]:
        """Wait for tasks that another run left; return the ids of past ones.

        Only tasks that touch `slots` are in the way, or all of them for None.

        Raises:
            StaleViewError: There were some, so the slots may be elsewhere now.
        """
        waited, pause = False, _FIRST_POLL_S
        while True:
            known = await tasks(party.client)
            active = [t for t in known if not t.has_ended and (slots is None or t.slots & slots)]
            if not active:
                break
            waited = True
            if self._run.is_ending:
                raise stale(party, "still runs a slot migration that this run did not start")
            await asyncio.sleep(pause)
            pause = min(_LONGEST_POLL_S, pause * _POLL_GROWTH)
        if waited:
            raise stale(party, "ended a slot migration that an earlier run had started")
        return {task.task_id for task in known}

    async def _follow(
        self,
        party: PrimaryNode,
        look: Callable[[], Awaitable[Task | None]],
        cancel: Callable[[], Awaitable[bool]],
        slots: SlotSet,
    ) -> None:
        """Wait until a task has ended; cancel it, where that is safe, when the run is to stop."""
        start, cancelled = time.monotonic(), False
        while True:
            began = time.monotonic()
            task = await look()
            if task is None:
                raise stale(party, "lost a slot migration; it may have failed over or restarted")
            if task.has_ended:
                break
            if (self._run.stop.is_set() or task.retries > _MOST_RETRIES) and not cancelled:
                cancelled = await cancel()
            # A long list of past tasks is slow to read: never spend most of the time on that.
            pause = min(_LONGEST_POLL_S, max(_FIRST_POLL_S, _POLL_SHARE * (began - start)))
            await asyncio.sleep(max(pause, 2 * (time.monotonic() - began)))
        if task.state in _DONE:
            self._run.memory.failures.pop(self._pair.processes, None)
            self._run.count(slots=len(slots), keys=estimated_keys(self._pair, slots))
        elif not self._run.stop.is_set():
            raise await self._failure(party, await self._why(party, task))

    async def _start(self, party: PrimaryNode, *words: str | int) -> Reply:
        try:
            return await party.client.write("CLUSTER", *words)
        except ReplyError as error:
            # Another task, an open slot, a slot that is elsewhere: it shows at the next look.
            raise await self._failure(party, error.message) from error

    async def _why(self, party: PrimaryNode, task: Task) -> str:
        """Return what went wrong; a source of Valkey may know only that the target hung up."""
        target = self._pair.target
        if party is not target:
            theirs = await valkey_tasks(target.client)
            words = next((t.words for t in theirs if t.task_id == task.task_id), "")
        else:
            words = ""
        return words or task.words or task.state

    async def _failure(self, party: PrimaryNode, words: str) -> BootstrapError:
        """Return the error for a failure, after a pause; one that lasts is not repeated for ever.

        Full memory is the target's word for MIGRATE too, but would come after half a slot.
        """
        memory, pair = self._run.memory, self._pair
        count = memory.failures[pair.processes] = memory.failures.get(pair.processes, 0) + 1
        is_full = "OOM" in words
        if is_full and count >= _MOST_FAILURES:
            return full(pair.target, f"could not take slots of {pair.source.name}: {words}")
        if any(word in words for word in _NO_LOGIN):
            memory.by_keys.add(pair.processes)
            other = pair.source if party is pair.target else pair.target
            what = f"cannot log in at {other.name} with its primaryauth"
            return stale(party, f"{what}, slots go key by key: {words}")
        if count >= _MOST_FAILURES and not is_full:
            memory.by_keys.add(pair.processes)
            return stale(party, f"could not move slots, they go key by key: {words}")
        self._run.halted = True
        with suppress(TimeoutError):
            pause_s = _FIRST_PAUSE_S * _PAUSE_GROWTH ** (count - 1)
            await asyncio.wait_for(self._run.stop.wait(), pause_s)
        return stale(pair.target if is_full else party, f"could not move slots: {words}")


def estimated_keys(pair: Pair, slots: SlotSet) -> int:
    """Return about how many keys lie in slots of the source; to count them costs a command each."""
    view = pair.source.view
    return round(view.keys * len(slots) / max(1, len(view.slots)))


def _bounds(slots: SlotSet) -> list[int]:
    return [bound for pair in slots.ranges() for bound in pair]


async def _cancel(party: PrimaryNode, words: tuple[str, ...]) -> None:
    try:
        await party.client.write("CLUSTER", *words)
    except ReplyError as error:
        if error.code == "NOPERM":
            raise rejection(party, f"CLUSTER {words[0]}", error) from error
        # It ended by itself at the same moment.
