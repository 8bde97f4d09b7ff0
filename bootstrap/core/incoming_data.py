"""What data each node is about to receive: slots that move to it, and copies of a primary.

Rules: the forecast is what the roles of the whole plan come to, so it is known before the first
MEET; pods that are still alone count as members. It is made only where nothing has to be repaired
first, since repairs decide who owns what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .actions import MoveSlots
from .facts import Facts
from .roles import Roles, assign_roles
from .slot_moves import move_slots
from .slots import SlotSet
from .topology import NodeId, NodeView, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingData:
    """The data that comes to the members, by id.

    Attributes:
        moves: Slots that move, until the cluster is as it is wanted.
        copies: The primary of each node that REPLICATE makes copy all data.
        successors: Replicas that take over from a primary that leaves.
        replicas: The replicas of each primary in the end.
    """

    moves: tuple[MoveSlots, ...] = ()
    copies: Mapping[NodeId, NodeId]
    successors: tuple[NodeId, ...] = ()
    replicas: Mapping[NodeId, tuple[NodeId, ...]]


def forecast(facts: Facts, *, rebalance: bool) -> IncomingData:
    """Return the data that would come to each node."""
    future = _with_members(facts)
    roles = assign_roles(future)
    replicas: dict[NodeId, tuple[NodeId, ...]] = {}
    for node_id, primary in roles.following.items():
        replicas[primary] = (*replicas.get(primary, ()), node_id)
    return IncomingData(
        moves=tuple(move_slots(_after_failovers(future, roles), roles, rebalance=rebalance)),
        copies={i: p for i, p in roles.following.items() if _copies_all(future, i, p)},
        successors=tuple(i for i in roles.failovers if future.live[i].role is Role.REPLICA),
        replicas=replicas,
    )


def _with_members(facts: Facts) -> Facts:
    """Return the facts once every pod that is alone has met the others."""
    if not any(n.is_isolated for n in facts.staying):
        return facts
    lines = {n.node_id: n.myself for n in facts.staying}
    nodes = tuple(
        replace(n, known=lines) if n.is_isolated and n.node_id in lines else n
        for n in facts.view.nodes
    )
    return Facts(replace(facts.view, nodes=nodes), facts.desired)


def _after_failovers(facts: Facts, roles: Roles) -> Facts:
    """Return the facts once each successor has the slots of the primary that it takes over from."""
    changed: dict[NodeId, NodeView] = {}
    for successor in (facts.live[i] for i in roles.failovers):
        owner = facts.live[successor.myself.primary_id or successor.node_id]
        changed[successor.node_id] = _owning(successor, owner.slots)
        changed[owner.node_id] = _owning(owner, SlotSet())
    nodes = tuple(changed.get(n.node_id, n) for n in facts.view.nodes)
    return Facts(replace(facts.view, nodes=nodes), facts.desired) if changed else facts


def _owning(node: NodeView, slots: SlotSet) -> NodeView:
    line = replace(node.myself, role=Role.PRIMARY, primary_id=None, slots=slots)
    return replace(node, known={**node.known, node.node_id: line})


def _copies_all(facts: Facts, node_id: NodeId, primary: NodeId) -> bool:
    """Return whether a node copies everything; replicas continue with the successor."""
    node, target = facts.live[node_id], facts.live[primary]
    present = node.myself.primary_id
    return present != primary and (present is None or present != target.myself.primary_id)
