"""`plan` and `status`: what is there, and what `run` would do; nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import structlog

from ..core import model
from ..core.actions import Plan
from ..core.topology import ClusterView
from ..core.verdict import Verdict, verdict
from ..errors import ExitCode, NotConvergedError, TransientError
from ..loop import stopping
from ..loop.observation import Observation
from ..loop.timeout_cause import silent_cause
from ..process import exit_report, signals
from ..report import json_output
from ..report.layout import Look
from . import wiring

if TYPE_CHECKING:
    from ..settings import Settings

# A pod that hangs is to be seen soon, while somebody looks; a plan that it blocks can wait longer.
STATUS_PATIENCE_S = 1.5
PLAN_PATIENCE_S = 3.0
WATCH_EVERY_S = 1.0
REDRAW_EVERY_S = 0.5
_T = TypeVar("_T")
Draw = Callable[[Look, datetime, str], None]
_log = structlog.get_logger()


async def observe(settings: Settings, *, acts: bool) -> Look:
    """Observe once, with shard ids, and plan.

    Raises:
        StoppedError: A signal came first.
        NotConvergedError: The deadline came first.
    """
    deadline = stopping.Deadline(asyncio.Event(), settings.timeout_s)
    # Two rounds: what the pods that do answer say is to be shown before the time is over.
    patience_s = min(PLAN_PATIENCE_S if acts else STATUS_PATIENCE_S, settings.timeout_s / 3)
    async with wiring.connected(settings, acts=acts, patience_s=patience_s) as nodes:
        with signals.setting(deadline.stop), deadline.running():
            seen = await stopping.run_until(deadline.stop, _observe(nodes))
        unanswered = sorted(nodes.assessor.source.unanswered)
    if seen is not None:
        return looked(seen, settings)
    if not deadline.is_over:
        signals.interrupt()
    silent = silent_cause(unanswered)
    raise NotConvergedError(
        node=silent.node,
        cause=f"not observed after {settings.timeout_s:g} s: {silent.cause}",
        remedy=silent.remedy,
    )


async def _observe(nodes: wiring.Nodes) -> Observation:
    """Observe twice: of a pod with several addresses the first one may be that of another pod."""
    await nodes.assessor.source.observe()
    return await nodes.assessor.observe(shards=True)


def looked(seen: Observation, settings: Settings, before: Verdict | None = None) -> Look:
    """Return an observation with its verdict and the time."""
    now = datetime.now(UTC)
    return Look(
        view=seen.view,
        plan=seen.plan,
        desired=wiring.desired(settings),
        verdict=verdict(seen.plan, seen.view).after(before, now.isoformat(timespec="seconds")),
        at=now.astimezone(),
    )


async def plan(settings: Settings, *, output: str, exit_code: bool) -> ExitCode:
    """Print what `run` would do and return the exit code."""
    look = await observe(settings, acts=True)
    step, policy = look.plan, wiring.policy(settings, acts=True)
    later = list(model.forecast(look.view, look.desired, policy))[1:]
    if output == "json":
        exit_report.print_json(json_output.plan_as_json(look, later))
    else:
        from ..report import plan_tables, tables  # noqa: PLC0415 - rich is loaded only to draw

        screen = tables.console()
        drawn = plan_tables.plan(look, later, _after(look.view, [step, *later]), screen)
        exit_report.print_text(tables.rendered(drawn, screen))
    if step.refusals:
        return ExitCode.REFUSED
    if step.is_waiting:
        return ExitCode.NOT_HEALTHY
    return ExitCode.PLAN_HAS_WORK if exit_code and not step.is_healthy else ExitCode.HEALTHY


def _after(view: ClusterView, steps: list[Plan]) -> ClusterView:
    """Return the view that is likely after the steps."""
    for action in (action for step in steps for action in step.actions):
        view = model.expected(view, action)
    return view


async def status(settings: Settings, *, output: str, watch: bool) -> ExitCode:
    """Print what is there and return 0 only when it is healthy."""
    if watch:
        return await _watch(settings, output=output)
    look = await observe(settings, acts=False)
    if output == "json":
        exit_report.print_json(json_output.status_as_json(look))
    else:
        print_status(look)
    if look.plan.refusals:
        return ExitCode.REFUSED
    return ExitCode.HEALTHY if look.is_healthy else ExitCode.NOT_HEALTHY


def print_status(look: Look) -> None:
    """Print an observation as tables."""
    from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

    screen = tables.console()
    exit_report.print_text(tables.rendered(tables.status(look, screen), screen))


async def _watch(settings: Settings, *, output: str) -> ExitCode:
    """Show what is there about once a second until a signal; JSON only when it has changed."""
    from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

    stop = asyncio.Event()
    async with wiring.connected(settings, acts=False, patience_s=STATUS_PATIENCE_S) as nodes:
        with signals.setting(stop):
            if output == "json":
                watch = _Watch(nodes=nodes, settings=settings, draw=_printed_changes())
                await stopping.run_until(stop, watch.run())
            else:
                with tables.live(exit_report.print_text) as draw:
                    watch = _Watch(nodes=nodes, settings=settings, draw=draw)
                    await stopping.run_until(stop, watch.run())
    return ExitCode.STOPPED


def _printed_changes() -> Draw:
    printed: json_output.Json = {}

    def print_changed(look: Look, _now: datetime, _late: str) -> None:
        nonlocal printed
        if printed != (new := json_output.status_as_json(look)):
            exit_report.print_json(printed := new)

    return print_changed


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Observes again and again; what is shown meanwhile says how old it is, and what is late."""

    nodes: wiring.Nodes
    settings: Settings
    draw: Draw
    _look: Look | None = None
    _failure: str = ""

    async def run(self) -> None:
        """Observe and draw until it is cancelled."""
        while True:
            began = stopping.now()
            try:
                seen = await self._drawing(self.nodes.assessor.observe(shards=True))
                before = self._look.verdict if self._look else None
                self._look, self._failure = looked(seen, self.settings, before), ""
            except TransientError as error:
                self._failure = f"the last observation failed: {error}"
                _log.warning("pass.failed", phase="observe", node=error.node, cause=error.cause)
            await self._drawing(asyncio.sleep(max(0.1, began + WATCH_EVERY_S - stopping.now())))

    async def _drawing(self, work: Awaitable[_T]) -> _T:
        """Return the result of the work, and draw until there is one."""
        task, began = asyncio.ensure_future(work), stopping.now()
        try:
            while not task.done():
                if self._look is not None:
                    late = self._failure or self._late(self._look, stopping.now() - began)
                    self.draw(self._look, datetime.now().astimezone(), late)
                await asyncio.wait({task}, timeout=REDRAW_EVERY_S)
        finally:
            task.cancel()
        return await task

    def _late(self, look: Look, waited_s: float) -> str:
        """Return which pods are silent since this observation began."""
        known = {absent.name for absent in look.view.absent}
        names = sorted(self.nodes.assessor.source.unanswered - known)
        is_late = names and waited_s >= REDRAW_EVERY_S
        return f"{', '.join(names)}: no answer for {waited_s:.1f} s" if is_late else ""
