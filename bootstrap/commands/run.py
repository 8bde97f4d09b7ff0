"""What each command does, once its settings are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import structlog

from ..core import model, planner
from ..core.actions import Plan
from ..core.findings import WAITING
from ..core.planner import Policy
from ..core.topology import ClusterView, DesiredTopology
from ..errors import ExitCode, NotConvergedError, TransientError
from ..loop.converge import Converger
from ..loop.progress import silent_cause
from ..net.connection import COMMAND_TIMEOUT_S, Access
from ..net.discovery import Discovery, ServiceDiscovery, StaticDiscovery
from ..net.lock import ConnectionLock
from ..net.observer import Observer
from ..net.pool import ConnectionPool
from ..process import exit_report, signals
from ..process.summary import Summary
from ..report import json_output

if TYPE_CHECKING:
    from ..settings import Settings

_T = TypeVar("_T")
_log = structlog.get_logger()


def _desired(settings: Settings) -> DesiredTopology:
    return DesiredTopology(nodes=settings.nodes, replicas=settings.replicas)


def _policy(settings: Settings, *, acts: bool) -> Policy:
    """Return the policy; `acts` for those that do, or show what is to be done."""
    return Policy(
        allow_data_loss=settings.allow_data_loss, rebalance=settings.rebalance, separate=acts
    )


def _access(settings: Settings) -> Access:
    return Access(username=settings.username, passwords=settings.passwords, tls=settings.tls)


def _discovery(settings: Settings) -> Discovery:
    if settings.endpoints:
        return StaticDiscovery(
            nodes=settings.nodes,
            endpoints=settings.endpoints,
            nameservers=settings.nameservers,
            timeout_s=settings.timeout_s,
        )
    return ServiceDiscovery(
        nodes=settings.nodes,
        statefulset=settings.statefulset,
        service=settings.service,
        port=settings.port,
        nameservers=settings.nameservers,
        timeout_s=settings.timeout_s,
    )


def _observer(
    settings: Settings, pool: ConnectionPool, *, patience_s: float = COMMAND_TIMEOUT_S
) -> Observer:
    return Observer(
        discovery=_discovery(settings),
        pool=pool,
        nodes=settings.nodes,
        patience_s=patience_s,
    )


async def converge(
    settings: Settings,
    summary: Summary,
    *,
    may_change: bool = True,
    expect: str | None = None,
    verbose: bool = False,
) -> None:
    """Run the loop until the cluster is healthy.

    Raises:
        BootstrapError: Why it is not; `summary` says how far it came.
    """
    pool = ConnectionPool(_access(settings))

    def lock_on(view: ClusterView) -> ConnectionLock:
        return ConnectionLock(pool.open(view.nodes[0].endpoint), run_id=summary.run_id)

    converger = Converger(
        observer=_observer(settings, pool),
        pool=pool,
        lock_on=lock_on,
        desired=_desired(settings),
        policy=_policy(settings, acts=may_change),
        timeout_s=settings.timeout_s,
        may_change=may_change,
        expect=expect,
        verbose=verbose,
        summary=summary,
    )
    structlog.contextvars.bind_contextvars(run_id=summary.run_id)
    _log.info(
        "run.started", cluster=settings.cluster, nodes=settings.nodes, replicas=settings.replicas
    )
    with signals.setting(converger.stop):
        await converger.run()


async def look(settings: Settings, policy: Policy) -> tuple[ClusterView, Plan]:
    """Look once, with shard ids, and plan.

    Raises:
        StoppedError: A signal came first.
        NotConvergedError: The deadline did.
    """
    stop = asyncio.Event()
    # Two looks: what the pods that do answer say is to be shown before the time is over.
    patience_s = min(COMMAND_TIMEOUT_S, settings.timeout_s / 3)
    pool = ConnectionPool(_access(settings))
    observer = _observer(settings, pool, patience_s=patience_s)
    try:
        with signals.setting(stop):
            seen = await _unless(
                stop, _look(observer, settings, policy), timeout_s=settings.timeout_s
            )
    finally:
        await pool.close()
    if seen is not None:
        return seen
    if stop.is_set():
        signals.interrupt()
    node, cause, remedy = silent_cause(sorted(observer.unanswered))
    raise NotConvergedError(
        node=node, cause=f"not seen after {settings.timeout_s:g} s: {cause}", remedy=remedy
    )


async def _unless(
    stop: asyncio.Event, work: Coroutine[None, None, _T], *, timeout_s: float | None = None
) -> _T | None:
    """Return the result; None when a stop or the time-out came first and the work was ended."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stopped):
            each.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


async def _look(observer: Observer, settings: Settings, policy: Policy) -> tuple[ClusterView, Plan]:
    desired = _desired(settings)
    await observer.observe()
    view = await observer.observe(shards=True)
    if slots := planner.probe_slots(view, desired):
        view = await observer.count_keys(view, slots)
    return view, planner.plan(view, desired, policy)


async def plan(settings: Settings, *, output: str, exit_code: bool) -> ExitCode:
    """Print what `run` would do and return the exit code."""
    policy = _policy(settings, acts=True)
    view, step = await look(settings, policy)
    later = list(model.forecast(view, _desired(settings), policy))[1:]
    if output == "json":
        exit_report.print_json(
            json_output.plan_as_json(step, later, view, has_work=not step.is_healthy)
        )
    else:
        from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

        exit_report.print_text(tables.rendered(tables.plan_text(step, later, view)))
    if step.refusals:
        return ExitCode.REFUSED
    if any(finding.code in WAITING for finding in step.findings):
        return ExitCode.NOT_HEALTHY
    return ExitCode.PLAN_HAS_WORK if exit_code and not step.is_healthy else ExitCode.HEALTHY


async def status(settings: Settings, *, output: str, watch: bool) -> ExitCode:
    """Print what is there and return 0 only when it is healthy."""
    if watch:
        return await _watch(settings, output=output)
    view, step = await look(settings, _policy(settings, acts=False))
    if output == "json":
        exit_report.print_json(json_output.status_as_json(view, step, _desired(settings)))
    else:
        from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

        exit_report.print_text(tables.rendered(tables.status(view, step, _desired(settings))))
    return _verdict(step)


def _verdict(step: Plan) -> ExitCode:
    if step.refusals:
        return ExitCode.REFUSED
    return ExitCode.HEALTHY if step.is_healthy else ExitCode.NOT_HEALTHY


async def _watch(settings: Settings, *, output: str) -> ExitCode:
    """Show what is there about once a second until a signal; JSON only when it has changed."""
    from ..report import tables  # noqa: PLC0415 - rich is loaded only to draw

    stop = asyncio.Event()
    pool = ConnectionPool(_access(settings))
    observer = _observer(settings, pool)
    policy = _policy(settings, acts=False)
    printed: json_output.Json = {}
    try:
        with tables.live(exit_report.print_text) as draw, signals.setting(stop):
            while not stop.is_set():
                try:
                    seen = await _unless(stop, _look(observer, settings, policy))
                except TransientError as error:
                    _log.warning("pass.failed", phase="observe", node=error.node, cause=error.cause)
                    seen = None
                if seen is not None and output == "text":
                    draw(tables.status(*seen, _desired(settings)))
                elif seen is not None:
                    new = json_output.status_as_json(*seen, _desired(settings))
                    if printed != new:
                        exit_report.print_json(printed := new)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 1.0)
    finally:
        await pool.close()
    return ExitCode.STOPPED
