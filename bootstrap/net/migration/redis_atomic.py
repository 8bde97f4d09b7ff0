"""Slots moved by Redis itself (8.4 and later): the target imports them with CLUSTER MIGRATION.

A node takes part in one task at a time: a target refuses a second import, and a source that is busy
turns a second target away. All slots of a task come from one source.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tenacity import stop_after_delay

from ...core.slots import SlotSet
from ...core.topology import NodeId
from ..polling import SHORTLY, poll
from ..replies import text
from .server_tasks import Task, TaskRunner, bounds
from .session import MigrationSession, Pair

_SOURCE_PATIENCE_S = 1.5
_STATUS = ("MIGRATION", "STATUS")


class RedisAtomic:
    """Moves slots with CLUSTER MIGRATION IMPORT."""

    def __init__(self, session: MigrationSession) -> None:
        self._session = session
        self._busy: dict[NodeId, asyncio.Lock] = {i: asyncio.Lock() for i in session.primaries}

    async def move(self, pair: Pair, slots: SlotSet) -> None:
        """Let the target import the slots; raises as `SlotMover.move`."""
        async with AsyncExitStack() as stack:
            # In one order for all pairs, so that no two wait for each other.
            for node_id in sorted((pair.source.node_id, pair.target.node_id)):
                await stack.enter_async_context(self._busy[node_id])
            if not self._session.is_ending:
                self._session.progress.keys_total += pair.estimated_keys(slots)
                await self._import(TaskRunner(session=self._session, pair=pair), slots)

    async def _import(self, runner: TaskRunner, slots: SlotSet) -> None:
        source, target = runner.pair.source, runner.pair.target
        for node in (target, source):
            await runner.wait_for_earlier(node, *_STATUS, "ALL")
        task_id = text(await runner.start(target, "MIGRATION", "IMPORT", *bounds(slots)))

        async def find() -> Task | None:
            return next(iter(await runner.tasks(target, *_STATUS, "ID", task_id)), None)

        async def cancel(_: float) -> bool:
            await runner.cancel(target, "MIGRATION", "CANCEL", "ID", task_id)
            return True

        async def has_ended_at_source() -> bool | None:
            tasks = await runner.tasks(source, *_STATUS, "ID", task_id)
            return all(task.has_ended for task in tasks) or None

        task = await runner.follow(target, find, cancel)
        if task.has_succeeded:
            runner.succeeded(slots)
        elif not self._session.stop.is_set():
            raise await runner.failure(target, "CLUSTER MIGRATION", task.message or task.state)
        # Only then does the source report that the slots went.
        await poll(has_ended_at_source, pause=SHORTLY, stop=stop_after_delay(_SOURCE_PATIENCE_S))
