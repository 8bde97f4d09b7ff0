"""A small world to try plans in: views, and the keys that lie where.

`model.expected` says what an action makes of the views; this adds what servers do by themselves
(`rest`: gossip, elections' votes, contests settled by epoch) and follows every key, so that laws
can say "no key is lost" and "all keys end where their slot is".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from bootstrap.core import model
from bootstrap.core.actions import (
    Action,
    ClaimSlots,
    Failover,
    GatherKeys,
    MoveSlots,
    Plan,
    Replicate,
)
from bootstrap.core.planner import plan
from bootstrap.core.situation import Policy
from bootstrap.core.slots import SlotSet, union
from bootstrap.core.topology import (
    ClusterView,
    DesiredTopology,
    Flag,
    KnownNode,
    NodeId,
    NodeView,
    Role,
)
from tests.support.builders import POLICY

Keys = Mapping[NodeId, Mapping[int, frozenset[int]]]


@dataclass(frozen=True, kw_only=True)
class World:
    """Views, what is wanted, and the keys of each primary; replicas hold copies, not counted."""

    view: ClusterView
    desired: DesiredTopology
    policy: Policy = POLICY
    keys: Keys = field(default_factory=dict)

    def look(self) -> ClusterView:
        """Return what the program would see: key counts, and slots in question counted."""
        nodes = tuple(replace(n, keys=self._count(n)) for n in self.view.nodes)
        seen = replace(self.view, nodes=nodes, slot_keys={})
        asked = plan(seen, self.desired, self.policy).probe_slots
        counts: dict[NodeId, dict[int, int]] = {}
        for node in nodes:
            mine = self.keys.get(_holder(node), {})
            counts[node.node_id] = {s: len(mine[s]) for s in mine if s in asked}
        return replace(seen, slot_keys=counts)

    def plan(self) -> Plan:
        """Return the next stage."""
        return plan(self.look(), self.desired, self.policy)

    def after(self, action: Action) -> World:
        """Return the world after an action."""
        keys = _move_keys(self, action)
        return replace(self, view=model.expected(self.view, action), keys=keys)

    def rest(self) -> World:
        """Return the world after a while without us: what servers do by themselves."""
        nodes = _settle_contests(self.view.by_id())
        alive = {i: n.myself for i, n in nodes.items()}
        covered = union(n.slots for n in nodes.values()) == SlotSet.all()
        keys = {
            i: {s: k for s, k in held.items() if not _has_lost(self.view, nodes, i, s)}
            for i, held in self.keys.items()
        }
        settled = tuple(
            replace(
                n,
                known={i: _line(n, k, alive) for i, k in n.known.items()},
                handshakes=frozenset(),
                state_ok=covered,
                link_up=n.role is Role.PRIMARY or n.myself.primary_id in nodes,
            )
            for n in nodes.values()
        )
        return replace(self, view=replace(self.view, nodes=settled), keys=keys)

    def all_keys(self) -> frozenset[int]:
        """Return every key that some process still has, first-hand or as a copy."""
        alive = {n.node_id for n in self.view.nodes}
        alive |= {n.myself.primary_id for n in self.view.nodes if n.myself.primary_id}
        held = (k for i, each in self.keys.items() if i in alive for k in each.values())
        return frozenset().union(*held)

    def strays(self) -> list[tuple[NodeId, int]]:
        """Return (node, slot) where keys lie at a live node that does not own the slot."""
        nodes = self.view.by_id()
        return [
            (node_id, slot)
            for node_id, each in self.keys.items()
            for slot, held in each.items()
            if held and node_id in nodes and slot not in nodes[node_id].slots
        ]

    def _count(self, node: NodeView) -> int:
        return sum(map(len, self.keys.get(_holder(node), {}).values()))


def _holder(node: NodeView) -> NodeId:
    return node.myself.primary_id or node.node_id


def _line(node: NodeView, line: KnownNode, alive: Mapping[NodeId, KnownNode]) -> KnownNode:
    """Return what a node says of another after a while: the truth, or that it fails."""
    own = alive.get(line.node_id)
    if own is None:
        owned = union(k.slots for k in alive.values())
        return replace(line, flags=frozenset({Flag.FAIL}), link_up=False, slots=line.slots - owned)
    address = own.address if line.node_id == node.node_id else line.address
    return replace(own, address=address)


def _settle_contests(nodes: dict[NodeId, NodeView]) -> dict[NodeId, NodeView]:
    """Let the higher config epoch win; the loser of its last slot follows the winner."""
    settled = dict(nodes)
    by_epoch = sorted(
        (n for n in nodes.values() if n.role is Role.PRIMARY and n.slots),
        key=lambda n: (-n.myself.config_epoch, n.node_id),
    )
    taken = SlotSet()
    for node in by_epoch:
        left = node.slots - taken
        if left != node.slots:
            winner = next(n for n in by_epoch if n.slots & node.slots)
            mine = replace(node.myself, slots=left)
            if not left:
                mine = replace(mine, role=Role.REPLICA, primary_id=winner.node_id)
            settled[node.node_id] = replace(node, known={**node.known, node.node_id: mine})
        taken |= node.slots
    return settled


def _has_lost(
    before: ClusterView, after: Mapping[NodeId, NodeView], node_id: NodeId, slot: int
) -> bool:
    """Return whether the servers delete the keys: the node owned the slot and lost the contest."""
    old = before.by_id().get(node_id)
    return old is not None and slot in old.slots and slot not in after[node_id].slots


def _move_keys(world: World, action: Action) -> Keys:
    keys = {i: dict(each) for i, each in world.keys.items()}
    match action:
        case (
            MoveSlots(source=source, target=target, slots=slots)
            | GatherKeys(source=source, target=target, slots=slots)
        ):
            _carry(keys, source, target, slots)
        case ClaimSlots(node=node_id, slots=slots):
            for other in world.view.nodes:
                if other.node_id != node_id:
                    for slot in slots & other.slots:
                        keys.get(other.node_id, {}).pop(slot, None)
        case Failover(node=node_id):
            old = world.view.by_id()[node_id].myself.primary_id
            if old is not None:
                _carry(keys, old, node_id, SlotSet.all())
        case Replicate(node=node_id):
            keys.pop(node_id, None)
        case _:
            pass
    return keys


def _carry(
    keys: dict[NodeId, dict[int, frozenset[int]]], source: NodeId, target: NodeId, slots: SlotSet
) -> None:
    there = keys.setdefault(target, {})
    for slot in [s for s in keys.get(source, {}) if s in slots]:
        there[slot] = there.get(slot, frozenset()) | keys[source].pop(slot)


def steps(world: World, most: int = 60) -> Iterator[tuple[World, Plan]]:
    """Yield worlds and their plans until nothing is left to do, at most `most` of them."""
    for _ in range(most):
        step = world.plan()
        yield world, step
        if step.refusals or step.is_healthy:
            return
        if not step.actions:
            rested = world.rest()
            if rested.plan() == step:
                return
            world = rested
            continue
        for action in step.actions:
            world = world.after(action)
