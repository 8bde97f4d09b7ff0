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
    settings: Settings, *, may_change: bool = True, expect: str | None = None, verbose: bool = False
) -> Summary:
    """Run the loop until the cluster is healthy or a signal comes; return how it ended.

    Args:
        settings: Which cluster, and what it is to be.
        may_change: False for `wait`.
        expect: Fingerprint of the reviewed plan.
        verbose: Log every action.
    """
    stop = asyncio.Event()
    with signals.setting(stop):
        return await converge_until(
            stop, settings, may_change=may_change, expect=expect, verbose=verbose
        )


async def converge_until(
    stop: asyncio.Event,
    settings: Settings,
    *,
    may_change: bool = True,
    expect: str | None = None,
    verbose: bool = False,
) -> Summary:
    """Run the loop until the cluster is healthy or the event is set; see `converge`."""
    run_id = secrets.token_hex(4)
    began = time.monotonic()
    error: Exception | None = None
    with structlog.contextvars.bound_contextvars(run_id=run_id, cluster=settings.cluster):
        _log.info(
            "run.started",
            cluster=settings.cluster,
            nodes=settings.nodes,
            replicas=settings.replicas,
        )
        async with wiring.connected(settings, acts=may_change) as nodes:
            deadline = Deadline(stop, settings.timeout_s)
            progress = ProgressLog(desired=nodes.assessor.desired, verbose=verbose)
            executor = wiring.executor(nodes, progress, stop)
            loop = wiring.converger(
                nodes,
                executor,
                progress,
                deadline,
                run_id=run_id,
                may_change=may_change,
                expect=expect,
            )
            try:
                await loop.run()
            except Exception as ended:  # noqa: BLE001 - however it ends, the summary says how far it came
                error = ended
    traffic, totals = nodes.pool.access.traffic, executor.totals
    counters = Counters(
        passes=loop.passes,
        actions=totals.actions,
        slots_moved=totals.slots_moved,
        keys_moved=totals.keys_moved,
        duration_s=round(time.monotonic() - began, 3),
        commands=traffic.commands,
        write_commands=traffic.writes,
        round_trips=traffic.round_trips,
    )
    return Summary.of(
        error, phase=loop.phase, run_id=run_id, cluster=settings.cluster, counters=counters
    )
