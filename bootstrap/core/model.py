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

from .actions import (
    Action,
    AssignSlots,
    BumpEpoch,
    ClaimSlots,
    CloseSlots,
    CopyFunctions,
    Failover,
    Forget,
    GatherKeys,
    Meet,
    MoveSlots,
    Plan,
    Replicate,
    Reset,
    SetConfigEpoch,
    SetNoFailover,
)
from .planner import plan
from .situation import Policy
from .slots import SlotSet, union
from .topology import ClusterView, DesiredTopology, KnownNode, NodeId, NodeView, Role

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
        case SetConfigEpoch(node=node_id, epoch=epoch):
            _own(nodes, node_id, config_epoch=epoch)
        case AssignSlots(node=node_id, slots=slots):
            _own(nodes, node_id, slots=nodes[node_id].slots | slots)
        case Meet(node=one, target=other):
            _introduce(nodes, one, other)
        case BumpEpoch(node=node_id):
            _own(nodes, node_id, config_epoch=_next_epoch(nodes))
        case CopyFunctions(source=source, target=target):
            nodes[target] = replace(
                nodes[target],
                libraries=nodes[source].libraries,
                functions=nodes[source].functions,
            )
        case Replicate(node=node_id, primary=primary):
            _own(nodes, node_id, role=Role.REPLICA, primary_id=primary, slots=SlotSet())
            _close(nodes, [node_id], SlotSet.all())
        case SetNoFailover(node=node_id, no_failover=value):
            nodes[node_id] = replace(nodes[node_id], no_failover=value)
        case CloseSlots(node=node_id, slots=slots):
            replicas = [i for i, n in nodes.items() if n.myself.primary_id == node_id]
            _close(nodes, [node_id, *replicas], slots)
        case ClaimSlots(node=node_id, slots=slots):
            _assign(nodes, node_id, slots)
        case MoveSlots(target=target, slots=slots):
            _assign(nodes, target, slots)
            _close(nodes, [*nodes], slots)
        case GatherKeys(source=source, target=target, slots=slots):
            _close(nodes, [source, target], slots)
        case Failover(node=node_id):
            _fail_over(nodes, node_id)
        case Reset(node=node_id):
            _reset(nodes, node_id)
        case Forget(node=node_id, gone=gone):
            known = {i: k for i, k in nodes[node_id].known.items() if i != gone}
            nodes[node_id] = replace(nodes[node_id], known=known)
        case _:
            assert_never(action)


def _own(nodes: dict[NodeId, NodeView], node_id: NodeId, **changes: object) -> None:
    """Change the line of a node about itself."""
    node = nodes[node_id]
    line = replace(node.myself, **changes)  # type: ignore[arg-type]  # field names are literals above
    nodes[node_id] = replace(node, known={**node.known, node_id: line})


def _introduce(nodes: dict[NodeId, NodeView], one: NodeId, other: NodeId) -> None:
    for node_id, peer in ((one, other), (other, one)):
        line = replace(nodes[node_id].myself, address=nodes[node_id].address)
        nodes[node_id] = replace(nodes[node_id], known={**nodes[node_id].known, node_id: line})
        known = {**nodes[node_id].known, peer: replace(nodes[peer].myself, flags=frozenset())}
        nodes[node_id] = replace(nodes[node_id], known=known)


def _next_epoch(nodes: dict[NodeId, NodeView]) -> int:
    return 1 + max(max(n.current_epoch, n.myself.config_epoch) for n in nodes.values())


def _assign(nodes: dict[NodeId, NodeView], owner: NodeId, slots: SlotSet) -> None:
    for node_id, node in tuple(nodes.items()):
        if node_id != owner and node.slots & slots:
            _own(nodes, node_id, slots=node.slots - slots)
        lines = {
            i: replace(k, slots=k.slots - slots) if i not in nodes and k.slots & slots else k
            for i, k in nodes[node_id].known.items()
        }
        nodes[node_id] = replace(nodes[node_id], known=lines)
    epoch = _next_epoch(nodes)
    _own(nodes, owner, slots=nodes[owner].slots | slots, config_epoch=epoch)


def _close(nodes: dict[NodeId, NodeView], node_ids: Iterable[NodeId], slots: SlotSet) -> None:
    for node_id in node_ids:
        node = nodes[node_id]
        nodes[node_id] = replace(
            node,
            migrating={s: i for s, i in node.migrating.items() if s not in slots},
            importing={s: i for s, i in node.importing.items() if s not in slots},
        )


def _fail_over(nodes: dict[NodeId, NodeView], replica: NodeId) -> None:
    primary = nodes[replica].myself.primary_id
    if primary is None:
        return
    slots = union(k.slots for n in nodes.values() for i, k in n.known.items() if i == primary)
    for node_id, node in tuple(nodes.items()):
        if node_id != replica and primary in {node_id, node.myself.primary_id}:
            _own(nodes, node_id, role=Role.REPLICA, primary_id=replica, slots=SlotSet())
            _close(nodes, [node_id], SlotSet.all())
    _own(nodes, replica, role=Role.PRIMARY, primary_id=None)
    _assign(nodes, replica, slots)


def _reset(nodes: dict[NodeId, NodeView], node_id: NodeId) -> None:
    """Give the process a new id without peers; the other nodes keep the old id until FORGET."""
    node = nodes.pop(node_id)
    fresh = NodeId(node_id[::-1])
    line = KnownNode(
        node_id=fresh,
        address=node.address,
        role=Role.PRIMARY,
        primary_id=None,
        flags=frozenset(),
        config_epoch=0,
        link_up=True,
        slots=SlotSet(),
    )
    nodes[fresh] = replace(
        node, node_id=fresh, known={fresh: line}, current_epoch=0, keys=0, link_up=True
    )


def _gossip(nodes: tuple[NodeView, ...]) -> tuple[NodeView, ...]:
    truth = {n.node_id: n.myself for n in nodes}
    owned = union(n.slots for n in nodes)
    owners = {n.node_id for n in nodes if n.slots}
    grouped: dict[NodeId, set[NodeId]] = {}
    for node_id, line in truth.items():
        grouped.setdefault(line.primary_id or node_id, set()).add(node_id)
    shards = frozenset(frozenset(shard) for shard in grouped.values())
    return tuple(
        replace(
            n,
            shards=None if n.shards is None else shards,
            known={i: truth.get(i) or _without(k, owned) for i, k in n.known.items()},
            handshakes=frozenset(),
            state_ok=owned == SlotSet.all() and owners <= n.known.keys(),
            current_epoch=max(
                n.current_epoch, *(truth[i].config_epoch for i in n.known if i in truth)
            ),
            link_up=True,
        )
        for n in nodes
    )


def _without(gone: KnownNode, owned: SlotSet) -> KnownNode:
    """Return the line of a member that is gone; a view assigns each slot to one node."""
    return replace(gone, slots=gone.slots - owned) if gone.slots & owned else gone
