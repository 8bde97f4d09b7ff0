"""The one way from asking the nodes to a plan, used by every command."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from ..core import planner
from ..core.actions import Plan
from ..core.situation import Policy
from ..core.topology import ClusterView, DesiredTopology, NodeId


class ViewSource(Protocol):
    """What asks the nodes; `net.observer.Observer`, or synthetic views in tests of the loop."""

    @property
    def unanswered(self) -> AbstractSet[str]:
        """Pods that were asked and have not answered."""

    async def observe(self, *, shards: bool = False) -> ClusterView:
        """Return what every pod says now."""

    async def count_keys(self, view: ClusterView, slots: tuple[int, ...]) -> ClusterView:
        """Return the view with the number of keys in these slots."""

    async def count_stray_keys(self, view: ClusterView, nodes: tuple[NodeId, ...]) -> ClusterView:
        """Return the view with the number of these nodes' keys of slots that are not theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the nodes said, and what follows from it."""

    view: ClusterView
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessor:
    """Asks the nodes and plans."""

    source: ViewSource
    desired: DesiredTopology
    policy: Policy

    async def observe(self, *, shards: bool) -> Observation:
        """Ask every node, with `shards` also for shard ids (7.2); count keys where needed, plan."""
        view = await self.source.observe(shards=shards)
        plan = planner.plan(view, self.desired, self.policy)
        if plan.probe_slots:
            view = await self.source.count_keys(view, tuple(plan.probe_slots))
            plan = planner.plan(view, self.desired, self.policy)
        if plan.emptied:
            view = await self.source.count_stray_keys(view, plan.emptied)
            plan = planner.plan(view, self.desired, self.policy)
        return Observation(view=view, plan=plan)
