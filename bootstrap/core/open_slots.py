"""Slots in transit: what finishes or reverts each of them.

Rules: the owner is who reports the slot first-hand; keys are gathered at the owner, or at the
target of its move, before a slot is closed; a move is finished where both ends have the slot open
and the target is to stay, otherwise it is reverted. The cases are those of
clusterManagerFixOpenSlot in redis-cli.c, decided here instead of asked.

Invariant: a slot is not closed anywhere while a node that does not own it may have keys of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import config_epochs, key_holders, slot_moves
from .actions import Action, CloseSlots, GatherKeys, MoveSlots, merge_slots
from .facts import Facts
from .findings import FindingCode
from .slots import SlotSet
from .topology import NodeId, NodeView, Role

_Step = CloseSlots | GatherKeys | MoveSlots
_WHY = FindingCode.SLOT_OPEN


def close_open_slots(facts: Facts) -> list[Action]:
    """Return what finishes or reverts every slot in transit.

    A slot of which a replica without primary has keys waits until that replica is promoted, or
    replicates again: once the slot is closed, no client would ask for its keys.
    """
    steps: list[_Step] = []
    ready = facts.open_slots - key_holders.slots_awaiting_promotion(facts)
    for slot in ready - facts.contested:
        owner = next((n for n in facts.owners if slot in n.slots), None)
        if owner is not None:
            steps += _close(facts, slot, owner)
    for slot in ready & facts.contested:
        if facts.see_each_other(key_holders.owners_of_contested(facts, slot)):
            steps += _finish_contested(facts, slot)
    merged = merge_slots(steps)
    moves = [step for step in merged if isinstance(step, MoveSlots)]
    # A node that lost its last slot would delete what it imports, so it keeps that one for now.
    kept = {i for i in slot_moves.emptied(facts.view, moves) if facts.live[i].importing}
    moves = [move for move in moves if move.source not in kept]
    others = [step for step in merged if not isinstance(step, MoveSlots)]
    others.sort(key=lambda step: isinstance(step, GatherKeys))
    return [*others, *config_epochs.one_way(moves)]


def _close(facts: Facts, slot: int, owner: NodeView) -> Iterator[_Step]:
    """Yield what closes one open slot with one owner."""
    slots = SlotSet.of([slot])
    target = _target_to_finish(facts, slot, owner)
    gathered = False
    for node in facts.live.values():
        if node is owner or node is target:
            continue
        if node.role is Role.PRIMARY and key_holders.may_have_keys(facts, node, slot):
            receiver = target or owner  # to gather at the owner would close the slot there
            yield GatherKeys(source=node.node_id, target=receiver.node_id, slots=slots, reason=_WHY)
            gathered = True
        elif slot in node.open_slots and (closer := _closer(facts, node, slot)):
            yield CloseSlots(node=closer, slots=slots, reason=_WHY)
    if target is not None:
        yield MoveSlots(source=owner.node_id, target=target.node_id, slots=slots, reason=_WHY)
    elif slot in owner.open_slots and not gathered:  # gathering closes the slot when it is done
        yield CloseSlots(node=owner.node_id, slots=slots, reason=_WHY)


def _target_to_finish(facts: Facts, slot: int, owner: NodeView) -> NodeView | None:
    """Return the target of the owner's move where the move is to be finished."""
    target = _target(facts, slot, owner)
    if target is None or slot not in target.importing or target.role is Role.REPLICA:
        return None
    return target if facts.stays(target) else None


def _target(facts: Facts, slot: int, owner: NodeView) -> NodeView | None:
    target = facts.live.get(owner.migrating.get(slot, owner.node_id))
    return None if target is owner else target


def _closer(facts: Facts, node: NodeView, slot: int) -> NodeId | None:
    """Return the node to send SETSLOT STABLE to for a slot that the given node shows open.

    Only servers whose primaries pass SETSLOT on (Valkey from 8.0) show open slots on replicas,
    and a replica may have missed its primary's. A replica is not sent the command itself; its
    primary is, which passes it on.
    """
    if node.role is Role.PRIMARY:
        return node.node_id
    primary = facts.primary_of(node)
    if primary is None or primary.role is Role.REPLICA or slot in primary.open_slots:
        return None
    return primary.node_id


def _finish_contested(facts: Facts, slot: int) -> Iterator[MoveSlots]:
    """Yield the rest of a move whose target owns the slot while its source still migrates it."""
    for source in facts.owners:
        target = _target(facts, slot, source)
        if target is not None and slot in target.slots:
            yield MoveSlots(
                source=source.node_id,
                target=target.node_id,
                slots=SlotSet.of([slot]),
                reason=_WHY,
            )
