"""`reconcile`: keeps the cluster healthy, and says over HTTP whether it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from ..errors import ExitCode
from ..loop.health import Health
from ..loop.reconcile import Reconciler
from ..loop.stopping import run_until, stopped_with
from ..process import cleaning, signals
from ..process.http_server import Response, serving
from ..process.summary import Summary
from . import metrics, run, wiring

if TYPE_CHECKING:
    from ..settings import Settings

# A pod that hangs is to be seen soon; a run, which waits for servers at work, is more patient.
PATIENCE_S = 3.0

_log = structlog.get_logger()


async def reconcile(settings: Settings) -> ExitCode:
    """Keep the cluster healthy until a signal.

    Raises:
        SettingsError: The HTTP address cannot be listened on; settings are wrong for a pod.
    """
    stop = asyncio.Event()
    health = Health(
        desired=wiring.desired(settings), fresh_s=3 * settings.interval_s + 2 * PATIENCE_S
    )

    async def run_once() -> Summary:
        # A run has a stop of its own: its deadline must not end the reconciler.
        async with stopped_with(stop) as run_stop:
            summary = await run.converge_until(run_stop, settings, before=nodes)
        log = _log.info if summary.exit_code is ExitCode.HEALTHY else _log.warning
        log("run.ended", **summary.fields())
        return summary

    with signals.setting(stop):
        async with (
            serving(settings.http_listen, paths(health)),
            wiring.connected(settings, acts=True, patience_s=PATIENCE_S) as nodes,
        ):
            _log.info("reconcile.started", cluster=settings.cluster, nodes=settings.nodes)
            reconciler = Reconciler(
                assessor=nodes.assessor,
                run_once=run_once,
                health=health,
                stop=stop,
                interval_s=settings.interval_s,
            )
            await run_until(stop, reconciler.run(), is_closing=lambda: reconciler.is_running)
    return ExitCode.STOPPED


def paths(health: Health) -> Mapping[str, Callable[[], Response]]:
    """Return what is served: liveness, readiness and metrics."""

    def ready() -> Response:
        state, reason = health.verdict.state, health.verdict.reason
        text = cleaning.clean(f"{state}: {reason}" if reason else state) + "\n"
        status = HTTPStatus.OK if health.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(text=text, status=status)

    return {
        "/healthz": lambda: Response(text="ok\n"),
        "/readyz": ready,
        "/metrics": lambda: Response(
            text=metrics.rendered(health), content_type=metrics.CONTENT_TYPE
        ),
    }
