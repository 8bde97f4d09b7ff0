"""Whether a cluster has stopped changing, so that a person or another tool is not interrupted.

Rules: what still changes from one observation to the next is left alone: slots that redis-cli
moves, an election, a rollout. Open slots are left alone for longer, since a tool that moves a big
key changes nothing that can be seen meanwhile. Only pods on new addresses are not waited for:
nothing but a restart makes them, and the servers cannot repair it themselves.

What must be seen twice is decided by `confirmations`.

Invariant: `since` is the time of the first observation that equals the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

from .actions import Plan, Stage
from .findings import FindingCode
from .topology import ClusterView, NodeId, NodeView

STILL_S = 4.0
STILL_WITH_OPEN_SLOTS_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stillness:
    """What was observed last, and since when. Times are seconds of any steady clock."""

    signature: tuple[object, ...] = ()
    since: float = 0.0

    def after(self, view: ClusterView, *, now: float) -> Stillness:
        """Return the stillness after one more observation."""
        signature = _signature(view)
        same = signature == self.signature
        return Stillness(signature=signature, since=self.since if same else now)

    def allows(self, plan: Plan, view: ClusterView, *, now: float) -> bool:
        """Return whether a plan may be applied now."""
        if plan.stage is Stage.INTRODUCE and _has_new_addresses(plan):
            return True
        moving = any(node.migrating or node.importing for node in view.nodes)
        return now - self.since >= (STILL_WITH_OPEN_SLOTS_S if moving else STILL_S)


def _has_new_addresses(plan: Plan) -> bool:
    return any(finding.code is FindingCode.ADDRESS_STALE for finding in plan.findings)


def _signature(view: ClusterView) -> tuple[object, ...]:
    """Return what a person, a tool or the servers themselves change: not load, and no key.

    Where slots are open their keys count: MIGRATE changes nothing else.
    """
    asked = {(slot, target) for n in view.nodes for slot, target in n.migrating.items()}
    nodes = [
        (
            node.node_id,
            node.run_id,
            node.address,
            node.known,
            node.migrating,
            node.importing,
            node.state_ok,
            node.link_up,
            _keys_to_move(node, view, asked),
        )
        for node in sorted(view.nodes, key=lambda n: (n.name, n.node_id))
    ]
    absent = sorted((each.name, each.phase) for each in view.absent)
    return (*nodes, *absent)


def _keys_to_move(
    node: NodeView, view: ClusterView, asked: set[tuple[int, NodeId]]
) -> list[tuple[int, int]]:
    """Return how many keys of open slots a node has that clients do not add to.

    Where a slot is migrating, what clients create goes to its target (ASK), so elsewhere its keys
    only become fewer. All other keys of a node change with the load, as long as there is any.
    """
    counts = view.slot_keys.get(node.node_id, {})
    slots = sorted(node.migrating.keys() | node.importing.keys())
    return [(s, counts.get(s, 0)) for s in slots if (s, node.shard_primary) not in asked]
