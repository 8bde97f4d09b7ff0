"""Slots moved by Valkey itself (9.0 and later): the source hands them over with MIGRATESLOTS."""

from __future__ import annotations

from dataclasses import replace

from ...core.slots import SlotSet
from ...core.topology import NodeView
from .. import databases
from ..connection import RedisNode
from .server_tasks import Task, TaskRunner, bounds
from .session import MigrationSession, Pair

_LIST = "GETSLOTMIGRATIONS"
_ENDS_SOON_S = 2.0
# The target has no part yet in who owns the slots.
_COPYING = frozenset(
    {
        "connecting", "sending-auth-command", "reading-auth-response", "sending-establish-command",
        "reading-establish-response", "waiting-to-snapshot", "snapshotting",
    }
)  # fmt: skip


async def _find_strays(client: RedisNode, node: NodeView, slots: SlotSet) -> SlotSet:
    """Return of which slots a target has keys, in any database."""
    occupied = await databases.occupied(client, node)
    counts = await databases.count_keys(client, tuple(slots), occupied, timeout_s=60.0)
    return SlotSet.of(slot for slot, count in counts.items() if count)


async def move(session: MigrationSession, pair: Pair, slots: SlotSet) -> None:
    """Let the source hand the slots over."""
    session.progress.keys_total += pair.estimated_keys(slots)
    runner = TaskRunner(session=session, pair=pair)
    source, target = pair.source, pair.target
    past = await runner.wait_for_earlier(source, _LIST, slots=slots)
    past |= await runner.wait_for_earlier(target, _LIST, slots=slots)
    ranges = bounds(slots)
    runner.leave_to_keys(await _find_strays(session.client(target), target, slots))
    await session.check(pair, slots)
    await runner.start(source, "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target.node_id)

    async def find() -> Task | None:
        tasks = await runner.tasks(source, _LIST)
        return next((t for t in tasks if t.task_id not in past and t.slots == slots), None)

    async def cancel(wanted_s: float) -> bool:
        """Cancel all tasks of the source, unless one may hand its slots over by now.

        The source would serve these again while the target takes them, and what it acknowledged
        meanwhile would be lost. So a short task is left to end in any case.
        """
        if wanted_s < _ENDS_SOON_S:
            return False
        tasks = await runner.tasks(source, _LIST)
        if any(not task.has_ended and task.state not in _COPYING for task in tasks):
            return False
        await runner.cancel(source, "CANCELSLOTMIGRATIONS")
        return True

    task = await runner.follow(source, find, cancel)
    if not task.has_succeeded and not session.stop.is_set():
        # The source may know only that the target hung up.
        theirs = await runner.tasks(target, _LIST)
        message = next((t.message for t in theirs if t.task_id == task.task_id), "")
        task = replace(task, message=message or task.message)
    await runner.finish(source, "MIGRATESLOTS", task, slots)
