"""The effect of an action on a view: the model behind forecasts.

Rules: gossip is complete at once in the model: after an action every node that knows another one
reports what that node reports about itself. Nothing fails, and nothing is lost.

Invariant: every command of `core.actions` has its effect here; tests hold the laws of planning
against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from . import actions as do
from .actions import Action, Plan
from .planner import plan
from .situation import Policy
from .slots import SlotSet, union
from .topology import (
    ClusterView,
    DesiredTopology,
    KnownNode,
    NodeId,
    NodeView,
    Role,
    ids_by_shard,
)

_FORECAST_STAGES = 20


def forecast(view: ClusterView, desired: DesiredTopology, policy: Policy) -> Iterable[Plan]:
    """Yield the plans that would follow, as far as the model can predict them."""
    for _ in range(_FORECAST_STAGES):
        step = plan(view, desired, policy)
        if not step.actions:
            return
        yield step
        for action in step.actions:
            view = expected(view, action)


def expected(view: ClusterView, action: Action) -> ClusterView:
    """Return the view after the action and the gossip that follows it."""
    nodes = view.by_id()
    _apply(nodes, action)
    return replace(view, nodes=_gossip(tuple(nodes.values())))


def _apply(nodes: dict[NodeId, NodeView], action: Action) -> None:
    match action:
        case do.SetConfigEpoch(node=node_id, epoch=epoch):
            _own(nodes, node_id, config_epoch=epoch)
        case do.AssignSlots(node=node_id, slots=slots):
            _own(nodes, node_id, slots=nodes[node_id].slots | slots)
        case do.Meet(node=one, target=other):
            _introduce(nodes, one, other)
        case do.BumpEpoch(node=node_id):
            _own(nodes, node_id, config_epoch=_next_epoch(nodes))
        case do.CopyFunctions(source=source, target=target):
            copied = nodes[source]
            nodes[target] = replace(
                nodes[target], libraries=copied.libraries, functions=copied.functions
            )
        case do.Replicate(node=node_id, primary=primary):
            _own(nodes, node_id, role=Role.REPLICA, primary_id=primary, slots=SlotSet())
            _close(nodes, [node_id], SlotSet.all())
        case do.SetNoFailover(node=node_id, no_failover=value):
            nodes[node_id] = replace(nodes[node_id], no_failover=value)
        case do.CloseSlots(node=node_id, slots=slots):
            replicas = [i for i, n in nodes.items() if n.myself.primary_id == node_id]
            _close(nodes, [node_id, *replicas], slots)
        case do.ClaimSlots(node=node_id, slots=slots):
            _assign(nodes, node_id, slots)
        case do.MoveSlots(target=target, slots=slots):
            _assign(nodes, target, slots)
            _close(nodes, [*nodes], slots)
        case do.GatherKeys(source=source, target=target, slots=slots):
            _close(nodes, [source, target], slots)
        case do.Failover(node=node_id):
            _fail_over(nodes, node_id)
        case do.Reset(node=node_id):
            _reset(nodes, node_id)
        case do.Forget(node=node_id, gone=gone):
            known = {i: k for i, k in nodes[node_id].known.items() if i != gone}
            nodes[node_id] = replace(nodes[node_id], known=known)
        case _:
            assert_never(action)


def _own(nodes: dict[NodeId, NodeView], node_id: NodeId, **changes: object) -> None:
    """Change the line of a node about itself."""
    line = replace(nodes[node_id].myself, **changes)  # type: ignore[arg-type]  # literal names above
    _know(nodes, node_id, line)


def _know(nodes: dict[NodeId, NodeView], node_id: NodeId, line: KnownNode) -> None:
    node = nodes[node_id]
    nodes[node_id] = replace(node, known={**node.known, line.node_id: line})


def _introduce(nodes: dict[NodeId, NodeView], one: NodeId, other: NodeId) -> None:
    for node_id, peer in ((one, other), (other, one)):
        _own(nodes, node_id, address=nodes[node_id].address)
        _know(nodes, node_id, nodes[peer].myself)


def _next_epoch(nodes: dict[NodeId, NodeView]) -> int:
    return 1 + max(max(n.current_epoch, n.myself.config_epoch) for n in nodes.values())


def _assign(nodes: dict[NodeId, NodeView], owner: NodeId, slots: SlotSet) -> None:
    for node_id, node in tuple(nodes.items()):
        _own(nodes, node_id, slots=node.slots - slots)
    _own(nodes, owner, slots=nodes[owner].slots | slots, config_epoch=_next_epoch(nodes))


def _close(nodes: dict[NodeId, NodeView], node_ids: Iterable[NodeId], slots: SlotSet) -> None:
    for node_id in node_ids:
        node = nodes[node_id]
        migrating = {s: i for s, i in node.migrating.items() if s not in slots}
        importing = {s: i for s, i in node.importing.items() if s not in slots}
        nodes[node_id] = replace(node, migrating=migrating, importing=importing)


def _fail_over(nodes: dict[NodeId, NodeView], replica: NodeId) -> None:
    primary = nodes[replica].myself.primary_id
    if primary is None:
        return
    slots = union(n.known[primary].slots for n in nodes.values() if primary in n.known)
    for node_id, node in tuple(nodes.items()):
        if node_id != replica and primary in {node_id, node.myself.primary_id}:
            _own(nodes, node_id, role=Role.REPLICA, primary_id=replica, slots=SlotSet())
            _close(nodes, [node_id], SlotSet.all())
    _own(nodes, replica, role=Role.PRIMARY, primary_id=None)
    _assign(nodes, replica, slots)


def _reset(nodes: dict[NodeId, NodeView], node_id: NodeId) -> None:
    """Give the process a new id without peers; the other nodes keep the old id until FORGET."""
    _own(nodes, node_id, role=Role.PRIMARY, primary_id=None, config_epoch=0, slots=SlotSet())
    node = nodes.pop(node_id)
    fresh = NodeId(node_id[::-1])
    known = {fresh: replace(node.myself, node_id=fresh, address=node.address, flags=frozenset())}
    nodes[fresh] = replace(node, node_id=fresh, known=known, current_epoch=0, keys=0)


def _gossip(nodes: tuple[NodeView, ...]) -> tuple[NodeView, ...]:
    truth = {n.node_id: n.myself for n in nodes}
    owned = union(n.slots for n in nodes)
    owners = {n.node_id for n in nodes if n.slots}
    shards = ids_by_shard(nodes)
    return tuple(
        replace(
            n,
            shards=None if n.shards is None else shards,
            # A view assigns each slot to one node, so a member that is gone loses what others own.
            known={
                i: truth.get(i) or replace(k, slots=k.slots - owned) for i, k in n.known.items()
            },
            handshakes=frozenset(),
            state_ok=owned == SlotSet.all() and owners <= n.known.keys(),
            current_epoch=max(
                n.current_epoch, *(truth[i].config_epoch for i in n.known if i in truth)
            ),
            link_up=True,
        )
        for n in nodes
    )
