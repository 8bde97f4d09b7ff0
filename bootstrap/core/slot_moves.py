"""Slots from one primary to another, and members out of the cluster.

Rules: the fewest moves that even the primaries out to within one slot; a donor gives its highest
slots and ranges stay whole where they can; a member leaves when it owns nothing and nobody
replicates it, and is forgotten by every node within one plan, inside the 60 s ban.
"""

from __future__ import annotations

from .actions import Action, Failover, Forget, MoveSlots, Reset
from .facts import Facts
from .findings import FindingCode
from .roles import Roles
from .slots import SlotSet, even_counts
from .topology import NodeId, Role


def promote(facts: Facts, roles: Roles) -> list[Action]:
    """Return failovers to staying replicas, which spare moving a leaving primary's slots."""
    return [
        Failover(node=node_id, takeover=False, reason=FindingCode.MEMBER_LEAVING)
        for node_id in roles.failovers
        if facts.live[node_id].role is Role.REPLICA
    ]


def move_slots(facts: Facts, roles: Roles, *, rebalance: bool) -> list[MoveSlots]:
    """Return the moves that empty drained owners and, if wanted, even out the others.

    Ties break on the order of primaries, which is that of ordinals, so equal views give equal
    moves. The surplus slots stay with the primaries that hold the most now.
    """
    held = {i: facts.live[i].slots if i in facts.live else SlotSet() for i in roles.primaries}
    if not held:
        return []
    targets = _target_counts(held) if rebalance else {i: len(held[i]) for i in held}
    donors = [(i, facts.live[i].slots) for i in roles.drain if facts.live[i].slots]
    if not rebalance and donors:
        drained = sum(len(slots) for _, slots in donors)
        targets = _with_drained(targets, drained)
    donors += [
        (i, slots.highest(len(slots) - targets[i]))
        for i, slots in held.items()
        if len(slots) > targets[i]
    ]
    reason = FindingCode.MEMBER_LEAVING if roles.drain else FindingCode.SLOTS_UNEVEN
    room = {i: targets[i] - len(slots) for i, slots in held.items()}
    moves = []
    for source, slots in donors:
        left = slots
        for target, free in room.items():
            part = left.lowest(max(0, free))
            if part:
                room[target] = free - len(part)
                left -= part
                moves.append(MoveSlots(source=source, target=target, slots=part, reason=reason))
    return moves


def _target_counts(held: dict[NodeId, SlotSet]) -> dict[NodeId, int]:
    by_size = sorted(held, key=lambda i: -len(held[i]))
    return dict(zip(by_size, even_counts(len(held)), strict=True))


def _with_drained(targets: dict[NodeId, int], drained: int) -> dict[NodeId, int]:
    """Spread drained slots over the primaries with the fewest, without evening out the rest."""
    result = dict(targets)
    while drained:
        low = min(result.values())
        lowest = [i for i, count in result.items() if count == low]
        higher = min((count for count in result.values() if count > low), default=None)
        step = drained if higher is None else min(drained, (higher - low) * len(lowest))
        share, rest = divmod(step, len(lowest))
        for index, node_id in enumerate(lowest):
            result[node_id] += share + (index < rest)
        drained -= step
    return result


def forget_gone(facts: Facts) -> list[Action]:
    """Return FORGETs of members without a process that own nothing and that nobody replicates."""
    claiming = {i for n in facts.live.values() for i, k in n.known.items() if k.slots}
    needed = {n.myself.primary_id for n in facts.live.values()}
    return [
        Forget(node=node.node_id, gone=gone, reason=FindingCode.MEMBER_GONE)
        for gone in sorted(facts.gone - claiming - needed)
        for node in facts.live.values()
        if gone in node.known
    ]


def leave(facts: Facts) -> list[Action]:
    """Return RESETs of drained members that leave, then FORGETs of their old ids everywhere.

    RESET HARD first: it gives the process a new id, so that no live process has the id that is
    forgotten, and a run that dies in between leaves a member without a process, which the next
    run forgets.
    """
    replicated = {n.myself.primary_id for n in facts.staying}
    leavers = [
        n
        for n in facts.leaving
        if not n.slots and n.node_id not in replicated and not (n.role is Role.PRIMARY and n.keys)
    ]
    return retire(facts, [n.node_id for n in leavers], FindingCode.MEMBER_LEAVING)


def retire(facts: Facts, node_ids: list[NodeId], reason: FindingCode) -> list[Action]:
    """Return the RESETs and FORGETs that take these live members out of the cluster."""
    resets: list[Action] = [Reset(node=node_id, reason=reason) for node_id in node_ids]
    forgets: list[Action] = [
        Forget(node=node.node_id, gone=gone, reason=reason)
        for gone in node_ids
        for node in facts.live.values()
        if gone in node.known and node.node_id not in node_ids
    ]
    return resets + forgets
