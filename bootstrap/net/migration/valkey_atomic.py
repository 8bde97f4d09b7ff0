"""Slots moved by Valkey itself (9.0 and later): the source hands them over with MIGRATESLOTS."""

from __future__ import annotations

import time

from ...core.slots import SlotSet
from ..connection import RedisNode
from .server_tasks import Task, TaskRunner, bounds, cancel_task, list_tasks
from .session import MigrationSession, Pair, PrimaryNode

_ENDS_SOON_S = 2.0
# The target has no part yet in who owns the slots.
_COPYING = frozenset(
    {
        "connecting", "sending-auth-command", "reading-auth-response", "sending-establish-command",
        "reading-establish-response", "waiting-to-snapshot", "snapshotting",
    }
)  # fmt: skip


class ValkeyAtomic:
    """Moves slots with CLUSTER MIGRATESLOTS."""

    def __init__(self, session: MigrationSession) -> None:
        self._session = session

    async def move(self, pair: Pair, slots: SlotSet) -> None:
        """Let the source hand the slots over.

        Raises:
            StaleViewError: It would not start, failed, or a task of another run was in the way.
            RefusedError: The target's memory is full.
        """
        self._session.progress.keys_total += pair.estimated_keys(slots)
        runner = TaskRunner(session=self._session, pair=pair)
        source, target = pair.source, pair.target
        past = await runner.wait_for_earlier(source, _tasks, slots)
        past |= await runner.wait_for_earlier(target, _tasks, slots)
        ranges = bounds(slots)
        await runner.start(source, "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target.node_id)

        async def find() -> Task | None:
            tasks = await _tasks(source.client)
            return next((t for t in tasks if t.task_id not in past and t.slots == slots), None)

        task = await runner.follow(source, find, _Cancellation(source).cancel)
        if task.has_succeeded:
            runner.succeeded(slots)
        elif not self._session.stop.is_set():
            raise await runner.failure(source, "CLUSTER MIGRATESLOTS", await _reason(pair, task))


class _Cancellation:
    """Cancels all tasks of a source, unless one may hand its slots over by now.

    The source would serve these again while the target takes them, and what it acknowledged
    meanwhile would be lost. So a short task is left to end in any case.
    """

    def __init__(self, source: PrimaryNode) -> None:
        self._source = source
        self._asked_at: float | None = None

    async def cancel(self) -> bool:
        """Cancel if that is safe now, and return whether it was."""
        now = time.monotonic()
        self._asked_at = now if self._asked_at is None else self._asked_at
        if now - self._asked_at < _ENDS_SOON_S:
            return False
        tasks = await _tasks(self._source.client)
        if any(not task.has_ended and task.state not in _COPYING for task in tasks):
            return False
        await cancel_task(self._source, "CANCELSLOTMIGRATIONS")
        return True


async def _reason(pair: Pair, task: Task) -> str:
    """Return why a task failed; the source may know only that the target hung up."""
    theirs = await _tasks(pair.target.client)
    message = next((t.message for t in theirs if t.task_id == task.task_id), "")
    return message or task.message or task.state


async def _tasks(client: RedisNode) -> list[Task]:
    return await list_tasks(client, "GETSLOTMIGRATIONS")
