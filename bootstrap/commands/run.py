"""`run` and `wait`: the loop until the cluster is healthy."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import structlog

from ..core.facts import Facts
from ..loop.progress import ProgressLog
from ..loop.stopping import Deadline
from ..process import exit_report, logs, signals
from ..process.summary import Counters, Summary
from . import inspect, wiring

if TYPE_CHECKING:
    from ..net.connection import Traffic
    from ..net.executor import Totals
    from ..report.run_screen import RunScreen
    from ..settings import Settings

_log = structlog.get_logger()


async def converge(
    settings: Settings,
    *,
    may_change: bool = True,
    expect: str | None = None,
    verbose: bool = False,
    shows_end: bool = False,
) -> Summary:
    """Run the loop until the cluster is healthy or a signal comes; return how it ended.

    Args:
        settings: Which cluster, and what it is to be.
        may_change: False for `wait`.
        expect: Fingerprint of the reviewed plan.
        verbose: Log every action.
        shows_end: Show the cluster at the end, where a person looks.
    """
    stop = asyncio.Event()
    screen = _screen() if logs.are_for_steps() else None
    progress = ProgressLog(desired=wiring.desired(settings), verbose=verbose, screen=screen)
    with signals.setting(stop), screen.shown() if screen else nullcontext():
        summary = await converge_until(
            stop, settings, progress=progress, may_change=may_change, expect=expect
        )
    if shows_end and screen and settings.output == "text" and sys.stdout.isatty():
        _show_end(progress, summary, settings)
    return summary


def _screen() -> RunScreen:
    from ..report.run_screen import RunScreen  # noqa: PLC0415 - rich is loaded only to draw

    return RunScreen()


def _show_end(progress: ProgressLog, summary: Summary, settings: Settings) -> None:
    """Print the table and how to connect; the last line, which follows, says how it ended."""
    if progress.seen is None:
        return
    look = inspect.looked(progress.seen, settings, progress.verdict)
    inspect.print_status(look)
    owners = Facts(look.view, look.desired).owners
    if summary.error is None and owners:
        first = owners[0]
        # Names that only other name servers know are of no use to redis-cli.
        host = first.address.ip if settings.nameservers else first.endpoint.host
        words = ["redis-cli -c -h", host, "-p", str(first.endpoint.port)]
        words += ["--tls"] if settings.tls else []
        words += ["--user", settings.username] if settings.username else []
        words += ["--askpass"] if settings.passwords else []
        exit_report.print_text(f"connect: {' '.join(words)}")


async def converge_until(
    stop: asyncio.Event,
    settings: Settings,
    *,
    progress: ProgressLog | None = None,
    may_change: bool = True,
    expect: str | None = None,
    before: wiring.Nodes | None = None,
) -> Summary:
    """Run the loop until the cluster is healthy or the event is set; see `converge`."""
    run_id = secrets.token_hex(4)
    began = time.monotonic()
    error: Exception | None = None
    with structlog.contextvars.bound_contextvars(run_id=run_id, cluster=settings.cluster):
        progress = progress or ProgressLog(desired=wiring.desired(settings))
        progress.started(settings.cluster)
        async with wiring.connected(settings, acts=may_change, before=before) as nodes:
            deadline = Deadline(stop, settings.timeout_s)
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
    return Summary.of(
        error,
        phase=loop.phase,
        run_id=run_id,
        cluster=settings.cluster,
        counters=_counters(loop.passes, executor.totals, nodes.pool.access.traffic, began),
        verdict=progress.verdict,
    )


def _counters(passes: int, totals: Totals, traffic: Traffic, began: float) -> Counters:
    return Counters(
        passes=passes,
        actions=totals.actions,
        slots_moved=totals.slots_moved,
        keys_moved=totals.keys_moved,
        duration_s=round(time.monotonic() - began, 3),
        commands=traffic.commands,
        write_commands=traffic.writes,
        round_trips=traffic.round_trips,
    )
