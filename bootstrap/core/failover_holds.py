"""Which replicas a run keeps from failing over, so that it can allow it again when it ends.

Rules: `cluster-replica-no-failover` is set only while addresses are repaired, and given back by
the run that set it; where that run was killed, by the next one (`findings.failover_holds`).
"""

from __future__ import annotations

from collections.abc import Iterable

from .actions import Action, SetNoFailover
from .findings import FindingCode
from .topology import NodeId


def holds_after(holds: frozenset[NodeId], actions: Iterable[Action]) -> frozenset[NodeId]:
    """Return the replicas that are held once these actions were applied."""
    for action in actions:
        if isinstance(action, SetNoFailover):
            holds = holds | {action.node} if action.no_failover else holds - {action.node}
    return holds


def releases(holds: Iterable[NodeId]) -> tuple[SetNoFailover, ...]:
    """Return what allows these replicas to fail over again."""
    return tuple(
        SetNoFailover(node=node, no_failover=False, reason=FindingCode.FAILOVER_DISABLED)
        for node in sorted(holds)
    )
