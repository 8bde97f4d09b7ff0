"""Slots in transit: what finishes or reverts each of them.

Rules: the owner is who reports the slot first-hand; keys are gathered at the owner before a slot is
closed; a move is finished where both ends have the slot open and the target is to stay, otherwise
it is reverted. The cases are those of clusterManagerFixOpenSlot in redis-cli.c, decided here
instead of asked.

Invariant: a slot is not closed anywhere while a node that does not own it may have keys of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from . import config_epochs, key_holders
from .actions import Action, CloseSlots, GatherKeys, MoveSlots
from .facts import Facts
from .findings import FindingCode
from .slots import SlotSet
from .topology import NodeId, NodeView, Role


@dataclass(slots=True)
class _Decisions:
    """What is done with the slots so far, as masks."""

    moves: defaultdict[tuple[NodeId, NodeId], int] = field(default_factory=lambda: defaultdict(int))
    gathers: defaultdict[tuple[NodeId, NodeId], int] = field(
        default_factory=lambda: defaultdict(int)
    )
    closes: defaultdict[NodeId, int] = field(default_factory=lambda: defaultdict(int))


def close_open_slots(facts: Facts) -> list[Action]:
    """Return what finishes or reverts every slot in transit.

    A slot of which a replica without primary has keys waits until that replica is promoted, or
    replicates again: once the slot is closed, no client would ask for its keys.
    """
    decisions = _Decisions()
    ready = facts.open_slots - key_holders.slots_awaiting_promotion(facts)
    for slot in ready - facts.contested:
        owner = next((n for n in facts.owners if slot in n.slots), None)
        if owner is not None:
            _decide(facts, slot, owner, decisions)
    for slot in ready & facts.contested:
        if facts.see_each_other(key_holders.owners_of_contested(facts, slot)):
            _finish_contested(facts, slot, decisions)
    reason = FindingCode.SLOT_OPEN
    moves = [
        MoveSlots(source=source, target=target, slots=SlotSet(mask), reason=reason)
        for (source, target), mask in decisions.moves.items()
    ]
    return [
        *(CloseSlots(node=i, slots=SlotSet(m), reason=reason) for i, m in decisions.closes.items()),
        *(
            GatherKeys(source=source, target=target, slots=SlotSet(mask), reason=reason)
            for (source, target), mask in decisions.gathers.items()
        ),
        *config_epochs.one_way(moves),
    ]


def _decide(facts: Facts, slot: int, owner: NodeView, decisions: _Decisions) -> None:
    """Decide one open slot with one owner."""
    bit = 1 << slot
    target = _target_to_finish(facts, slot, owner)
    gathered = False
    for node in facts.live.values():
        if node is owner or node is target:
            continue
        if node.role is Role.PRIMARY and key_holders.may_have_keys(facts, node, slot, owner):
            decisions.gathers[node.node_id, owner.node_id] |= bit
            gathered = True
        elif slot in node.open_slots and (closer := _closer(facts, node, slot)):
            decisions.closes[closer] |= bit
    if target is not None:
        decisions.moves[owner.node_id, target.node_id] |= bit
    elif slot in owner.open_slots and not gathered:  # gathering closes the slot when it is done
        decisions.closes[owner.node_id] |= bit


def _target_to_finish(facts: Facts, slot: int, owner: NodeView) -> NodeView | None:
    """Return the target of the owner's move where the move is to be finished."""
    target = facts.live.get(owner.migrating.get(slot, owner.node_id))
    if (
        target is not None
        and target is not owner
        and slot in target.importing
        and target.role is Role.PRIMARY
        and facts.desired.stays(target.ordinal)
    ):
        return target
    return None


def _closer(facts: Facts, node: NodeView, slot: int) -> NodeId | None:
    """Return the node to send SETSLOT STABLE to for a slot that the given node shows open.

    Only servers whose primaries pass SETSLOT on (Valkey from 8.0) show open slots on replicas,
    and a replica may have missed its primary's. A replica is not sent the command itself; its
    primary is, which passes it on.
    """
    if node.role is Role.PRIMARY:
        return node.node_id
    primary = facts.live.get(node.myself.primary_id or node.node_id)
    if primary is None or primary.role is Role.REPLICA or slot in primary.open_slots:
        return None
    return primary.node_id


def _finish_contested(facts: Facts, slot: int, decisions: _Decisions) -> None:
    """Finish a move whose target owns the slot already while its source still migrates."""
    for source in facts.owners:
        target = facts.live.get(source.migrating.get(slot, source.node_id))
        if target is not None and target is not source and slot in target.slots:
            decisions.moves[source.node_id, target.node_id] |= 1 << slot
