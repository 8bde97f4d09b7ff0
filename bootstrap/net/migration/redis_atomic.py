"""Slots moved by Redis itself (8.4 and later): the target imports them with CLUSTER MIGRATION.

A node takes part in one task at a time: a target refuses a second import, and a source that is busy
turns a second target away. All slots of a task come from one source.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from ...core.parsing import parse_nodes
from ...core.slots import SlotSet
from ...core.topology import NodeView
from .. import databases
from ..connection import RedisNode
from ..polling import BACKGROUND, SHORTLY, wait_for
from ..replies import reading, text
from .server_tasks import Task, TaskRunner, bounds
from .session import MigrationSession, Pair

_SOURCE_PATIENCE_S = 1.5
_RECOUNT_S = 2.0
_STATUS = ("MIGRATION", "STATUS")


async def move(session: MigrationSession, pair: Pair, slots: SlotSet) -> None:
    """Let the target import the slots."""
    async with AsyncExitStack() as stack:
        # In one order for all pairs, so that no two wait for each other.
        for node_id in sorted((pair.source.node_id, pair.target.node_id)):
            await stack.enter_async_context(session.busy[node_id])
        if not session.is_ending:
            session.progress.keys_total += pair.estimated_keys(slots)
            await _import(TaskRunner(session=session, pair=pair), slots)


async def _find_strays(client: RedisNode, node: NodeView) -> SlotSet:
    """Return all slots where a target has keys of slots that are not its own: it hides of which.

    The server also counts keys of a move that failed until it has deleted them, and clients write
    while it counts. So every count within two seconds has to say so.
    """
    last_at = time.monotonic() + _RECOUNT_S

    async def find() -> SlotSet | None:
        with reading(client.name, "CLUSTER NODES"):
            reply = parse_nodes(text(await client.call("CLUSTER", "NODES")))
        own = reply.known[reply.node_id].slots | SlotSet.of(reply.importing)
        if not await databases.count_stray_keys(client, node, tuple(own)):
            return SlotSet()
        return SlotSet.all() if time.monotonic() > last_at else None

    return await wait_for(find, pause=BACKGROUND)


async def _import(runner: TaskRunner, slots: SlotSet) -> None:
    source, target = runner.pair.source, runner.pair.target
    for node in (target, source):
        await runner.wait_for_earlier(node, *_STATUS, "ALL")
    runner.leave_to_keys(slots & await _find_strays(runner.session.client(target), target))
    await runner.session.check(runner.pair, slots)
    with reading(target.name, "CLUSTER MIGRATION IMPORT"):
        task_id = text(await runner.start(target, "MIGRATION", "IMPORT", *bounds(slots)))

    async def find() -> Task | None:
        return next(iter(await runner.tasks(target, *_STATUS, "ID", task_id)), None)

    async def cancel(_: float) -> bool:
        await runner.cancel(target, "MIGRATION", "CANCEL", "ID", task_id)
        return True

    task = await runner.follow(target, find, cancel)
    await runner.finish(target, "MIGRATION", task, slots)
    # Only a source that has ended its part, too, reports that the slots went.
    ends_at = time.monotonic() + _SOURCE_PATIENCE_S

    async def has_ended_at_source() -> bool | None:
        tasks = await runner.tasks(source, *_STATUS, "ID", task_id)
        return all(t.has_ended for t in tasks) or time.monotonic() > ends_at or None

    await wait_for(has_ended_at_source, pause=SHORTLY)
