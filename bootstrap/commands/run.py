"""`run` and `wait`: the loop until the cluster is healthy."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import structlog

from ..loop.progress import ProgressLog
from ..loop.stopping import Deadline
from ..process import signals
from ..process.summary import Counters, Summary
from . import wiring

if TYPE_CHECKING:
    from ..settings import Settings

_log = structlog.get_logger()


async def converge(
    settings: Settings,
    *,
    may_change: bool = True,
    expect: str | None = None,
    verbose: bool = False,
    stop: asyncio.Event | None = None,
) -> Summary:
    """Run the loop until the cluster is healthy, and return how it ended.

    Args:
        settings: Which cluster, and what it is to be.
        may_change: False for `wait`.
        expect: Fingerprint of the reviewed plan.
        verbose: Log every action.
        stop: Ends the run; set by signals where none is given.
    """
    run_id = secrets.token_hex(4)
    began = time.monotonic()
    structlog.contextvars.bind_contextvars(run_id=run_id)
    _log.info(
        "run.started", cluster=settings.cluster, nodes=settings.nodes, replicas=settings.replicas
    )
    async with wiring.connected(settings, acts=may_change) as nodes:
        deadline = Deadline(stop or asyncio.Event(), settings.timeout_s)
        progress = ProgressLog(desired=nodes.assessor.desired, verbose=verbose)
        executor = wiring.executor(nodes, progress, deadline.stop)
        loop = wiring.converger(
            nodes,
            executor,
            progress,
            deadline,
            run_id=run_id,
            may_change=may_change,
            expect=expect,
        )
        error: Exception | None = None
        try:
            if stop is None:
                with signals.setting(deadline.stop):
                    await loop.run()
            else:
                await loop.run()
        except Exception as ended:  # noqa: BLE001 - however a run ends, its summary says how far it came
            error = ended
    traffic = nodes.pool.access.traffic
    return Summary.of(
        error,
        phase=loop.phase,
        run_id=run_id,
        counters=Counters(
            passes=loop.passes,
            actions=executor.totals.actions,
            slots_moved=executor.totals.slots_moved,
            keys_moved=executor.totals.keys_moved,
            duration_s=round(time.monotonic() - began, 3),
            commands=traffic.commands,
            write_commands=traffic.writes,
            round_trips=traffic.round_trips,
        ),
    )
