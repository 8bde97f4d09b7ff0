"""The commands of actions that are nothing but commands to one node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from ..core.actions import (
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
    Replicate,
    Reset,
    SetConfigEpoch,
    SetNoFailover,
)
from ..core.slots import SlotSet
from ..core.topology import NodeId, NodeView
from .replies import Command, ReplyError

SLOTS_PER_COMMAND = 1000


def place_of(action: Action) -> NodeId:
    """Return the node that an action is sent to."""
    if isinstance(action, CopyFunctions):
        return action.target
    if isinstance(action, MoveSlots | GatherKeys):
        return action.source
    return action.node


def reached_by_others(action: Action) -> tuple[NodeId, ...]:
    """Return the nodes to which other servers connect because of an action.

    They go to the address that the node announces, with their password, and with keys. Moves go
    either way: Redis from 8.4 on lets the target connect to the source.
    """
    match action:
        case Meet(target=node) | Replicate(primary=node):
            return (node,)
        case MoveSlots() | GatherKeys():
            return action.source, action.target
    return ()


def commands_of(action: Action, nodes: Mapping[NodeId, NodeView]) -> list[Command]:
    """Return the commands of an action that is nothing but commands to one node."""
    match action:
        case SetConfigEpoch(epoch=epoch):
            return [("CLUSTER", "SET-CONFIG-EPOCH", epoch)]
        case AssignSlots(node=node, slots=slots):
            return _add_slots(nodes[node], slots)
        case Meet(target=target):
            return [_meet(nodes[target])]
        case BumpEpoch():
            return [("CLUSTER", "BUMPEPOCH")]
        case Replicate(primary=primary):
            return [("CLUSTER", "REPLICATE", primary)]
        case SetNoFailover(no_failover=no_failover):
            value = "yes" if no_failover else "no"
            return [("CONFIG", "SET", "cluster-replica-no-failover", value)]
        case CloseSlots(slots=slots):
            return [("CLUSTER", "SETSLOT", slot, "STABLE") for slot in slots]
        case ClaimSlots(node=node, slots=slots):
            # The epoch last: it makes the others accept the claim, which must be complete then.
            owned = [("CLUSTER", "SETSLOT", slot, "NODE", node) for slot in slots]
            return [*owned, ("CLUSTER", "BUMPEPOCH")]
        case Forget(gone=gone):
            return [("CLUSTER", "FORGET", gone)]
        case MoveSlots() | GatherKeys() | CopyFunctions() | Failover() | Reset():
            msg = f"not a plain command: {action}"
            raise AssertionError(msg)
        case _:
            assert_never(action)


def is_done_already(action: Action, reply: ReplyError) -> bool:
    """Return whether an error says that the wanted state is there.

    An emptied primary may have become a replica by itself (redis/redis#9223), a forgotten id may
    be unknown already because FORGET spreads by gossip since 7.2.
    """
    words = reply.message.lower()
    match action:
        case Forget():
            return "unknown node" in words
        case CloseSlots():
            return "only with masters" in words
        case _:
            return False


def _add_slots(node: NodeView, slots: SlotSet) -> list[Command]:
    if "ADDSLOTSRANGE" in node.commands:
        bounds = [bound for pair in slots.ranges() for bound in pair]
        return [("CLUSTER", "ADDSLOTSRANGE", *bounds)]
    numbers = list(slots)
    return [
        ("CLUSTER", "ADDSLOTS", *numbers[first : first + SLOTS_PER_COMMAND])
        for first in range(0, len(numbers), SLOTS_PER_COMMAND)
    ]


def _meet(target: NodeView) -> Command:
    """Return a MEET; with the bus port only where it is not the usual one.

    Moved pods and fresh ones are met where they answered.
    """
    address = target.address
    bus = () if address.cport in (0, address.port + 10000) else (address.cport,)
    return ("CLUSTER", "MEET", address.ip, address.port, *bus)
