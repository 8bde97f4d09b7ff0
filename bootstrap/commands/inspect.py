"""`plan` and `status`: what is there, and what `run` would do; nothing is changed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from ..core import model
from ..core.actions import Plan
from ..core.findings import WAITING
from ..errors import ExitCode, NotConvergedError, TransientError
from ..loop import stopping
from ..loop.observation import Observation
from ..loop.timeout_cause import silent_cause
from ..net.connection import COMMAND_TIMEOUT_S
from ..process import exit_report, signals
from ..report import json_output
from . import wiring

if TYPE_CHECKING:
    from ..settings import Settings

WATCH_EVERY_S = 1.0
_log = structlog.get_logger()


async def observe(settings: Settings, *, acts: bool) -> Observation:
    """Observe once, with shard ids, and plan.

    Raises:
        StoppedError: A signal came first.
        NotConvergedError: The deadline came first.
    """
    deadline = stopping.Deadline(asyncio.Event(), settings.timeout_s)
    # Two rounds: what the pods that do answer say is to be shown before the time is over.
    patience_s = min(COMMAND_TIMEOUT_S, settings.timeout_s / 3)
    async with wiring.connected(settings, acts=acts, patience_s=patience_s) as nodes:
        with signals.setting(deadline.stop), deadline.running():
            seen = await stopping.run_until(deadline.stop, _observe(nodes))
        unanswered = sorted(nodes.assessor.source.unanswered)
    if seen is not None:
        return seen
    if not deadline.is_over:
        signals.interrupt()
    silent = silent_cause(unanswered)
    raise NotConvergedError(
        node=silent.node,
        cause=f"not observed after {settings.timeout_s:g} s: {silent.cause}",
        remedy=silent.remedy,
    )


async def _observe(nodes: wiring.Nodes) -> Observation:
    """Observe on new connections, then with shard ids, which are asked for on known ones only."""
    await nodes.assessor.source.observe()
    return await nodes.assessor.observe(shards=True)


async def plan(settings: Settings, *, output: str, exit_code: bool) -> ExitCode:
    """Print what `run` would do and return the exit code."""
    seen = await observe(settings, acts=True)
    step = seen.plan
    forecast = model.forecast(
        seen.view, wiring.desired(settings), wiring.policy(settings, acts=True)
    )
    later = list(forecast)[1:]
    if output == "json":
        exit_report.print_json(
            json_output.plan_as_json(step, later, seen.view, has_work=not step.is_healthy)
        )
    else:
        from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

        exit_report.print_text(tables.rendered(tables.plan_text(step, later, seen.view)))
    if step.refusals:
        return ExitCode.REFUSED
    if any(finding.code in WAITING for finding in step.findings):
        return ExitCode.NOT_HEALTHY
    return ExitCode.PLAN_HAS_WORK if exit_code and not step.is_healthy else ExitCode.HEALTHY


async def status(settings: Settings, *, output: str, watch: bool) -> ExitCode:
    """Print what is there and return 0 only when it is healthy."""
    if watch:
        return await _watch(settings, output=output)
    seen = await observe(settings, acts=False)
    desired = wiring.desired(settings)
    if output == "json":
        exit_report.print_json(json_output.status_as_json(seen.view, seen.plan, desired))
    else:
        from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

        exit_report.print_text(tables.rendered(tables.status(seen.view, seen.plan, desired)))
    return _verdict(seen.plan)


def _verdict(step: Plan) -> ExitCode:
    if step.refusals:
        return ExitCode.REFUSED
    return ExitCode.HEALTHY if step.is_healthy else ExitCode.NOT_HEALTHY


async def _watch(settings: Settings, *, output: str) -> ExitCode:
    """Show what is there about once a second until a signal; JSON only when it has changed."""
    from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

    stop = asyncio.Event()
    printed: json_output.Json = {}
    async with wiring.connected(settings, acts=False) as nodes:
        desired = nodes.assessor.desired
        with tables.live(exit_report.print_text) as draw, signals.setting(stop):
            while not stop.is_set():
                try:
                    seen = await stopping.run_until(stop, _observe(nodes))
                except TransientError as error:
                    _log.warning("pass.failed", phase="observe", node=error.node, cause=error.cause)
                    seen = None
                if seen is not None and output == "text":
                    draw(tables.status(seen.view, seen.plan, desired))
                elif seen is not None:
                    new = json_output.status_as_json(seen.view, seen.plan, desired)
                    if printed != new:
                        exit_report.print_json(printed := new)
                await stopping.pause(stop, WATCH_EVERY_S)
    return ExitCode.STOPPED
