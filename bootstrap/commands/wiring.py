"""Puts the parts together that a command needs, out of checked settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.situation import Policy
from ..core.topology import ClusterView, DesiredTopology
from ..loop.converge import Converger
from ..loop.observation import Assessor
from ..loop.progress import ProgressLog
from ..loop.run_lock import RunLock
from ..loop.stopping import Deadline
from ..net.connection import COMMAND_TIMEOUT_S, Access
from ..net.connection_lock import ConnectionLock
from ..net.discovery import DOUBT_FOR_S, Discovery, ServiceDiscovery, StaticDiscovery
from ..net.executor import Executor
from ..net.observer import Observer
from ..net.outsiders import Outsiders
from ..net.pool import ConnectionPool

if TYPE_CHECKING:
    from ..settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Connections to the nodes of one cluster, and what asks them."""

    pool: ConnectionPool
    assessor: Assessor
    discovery: Discovery
    outsiders: Outsiders


def desired(settings: Settings) -> DesiredTopology:
    """Return what the cluster is to be."""
    return DesiredTopology(nodes=settings.nodes, replicas=settings.replicas)


def policy(settings: Settings, *, acts: bool) -> Policy:
    """Return what is allowed; `acts` for plans of a run, which also improve the placement."""
    return Policy(
        allow_data_loss=settings.allow_data_loss, rebalance=settings.rebalance, separate=acts
    )


@asynccontextmanager
async def connected(
    settings: Settings,
    *,
    acts: bool,
    patience_s: float = COMMAND_TIMEOUT_S,
    before: Nodes | None = None,
) -> AsyncIterator[Nodes]:
    """Provide what asks the nodes; its connections are closed at the end.

    Args:
        settings: Which cluster.
        acts: Whether the plans are for a run, or only say what is there.
        patience_s: How long a pod may take for one answer.
        before: What has observed the cluster until now; it knows what the caches of DNS hold, and
            which addresses do not answer.
    """
    discovery = before.discovery if before else _discovery(settings)
    access = Access(
        username=settings.username, passwords=settings.passwords, tls=settings.tls_context
    )
    pool = ConnectionPool(access, discovery)
    outsiders = before.outsiders if before else Outsiders(is_tls=access.tls is not None)
    observer = Observer(
        pool=pool,
        nodes=settings.nodes,
        needs_config=acts,
        patience_s=patience_s,
        doubt_for_s=min(DOUBT_FOR_S, settings.timeout_s / 2),
        outsiders=outsiders,
    )
    assessor = Assessor(
        source=observer, desired=desired(settings), policy=policy(settings, acts=acts)
    )
    try:
        yield Nodes(pool=pool, assessor=assessor, discovery=discovery, outsiders=outsiders)
    finally:
        await pool.close()


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


def converger(
    nodes: Nodes,
    executor: Executor,
    progress: ProgressLog,
    deadline: Deadline,
    *,
    run_id: str,
    may_change: bool = True,
    expect: str | None = None,
) -> Converger:
    """Return the loop of one run."""

    def lock_on(view: ClusterView) -> ConnectionLock:
        return ConnectionLock(nodes.pool.open_once(view.lock_node().endpoint), run_id=run_id)

    return Converger(
        assessor=nodes.assessor,
        executor=executor,
        lock=RunLock(lock_on),
        progress=progress,
        deadline=deadline,
        may_change=may_change,
        expect=expect,
    )


def executor(nodes: Nodes, progress: ProgressLog, stop: asyncio.Event) -> Executor:
    """Return what applies the plans of one run."""
    return Executor(pool=nodes.pool, stop=stop, on_progress=progress.moved)
