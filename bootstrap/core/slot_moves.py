"""Slots from one primary to another.

Rules: the fewest moves that even out the primaries to within one slot; a source gives its highest
slots, and ranges stay in one piece where they can. The surplus slots of an uneven division stay
with the primaries that have the most now.

Invariant: no node is both a source and a target within one plan.
"""

from __future__ import annotations

from collections.abc import Iterable

from .actions import Action, MoveSlots
from .facts import Facts
from .findings import FindingCode
from .roles import Roles
from .slots import SlotSet, even_counts, union_by_key
from .topology import ClusterView, NodeId


def move_slots(facts: Facts, roles: Roles, *, rebalance: bool) -> list[MoveSlots]:
    """Return the moves that empty drained owners and, if wanted, even out the others.

    Ties break on the order of primaries, which is that of ordinals, so equal views give equal
    moves.
    """
    owned = {i: facts.live[i].slots for i in roles.primaries}
    if not owned:
        return []
    sources = [(i, facts.live[i].slots) for i in roles.drain]
    if rebalance:
        by_size = sorted(owned, key=lambda i: -len(owned[i]))
        targets = dict(zip(by_size, even_counts(len(owned)), strict=True))
    else:
        targets = _with_drained(owned, sum(len(slots) for _, slots in sources))
    sources += ((i, slots.highest(len(slots) - targets[i])) for i, slots in owned.items())
    reason = FindingCode.MEMBER_LEAVING if roles.drain else FindingCode.SLOTS_UNEVEN
    room = {i: targets[i] - len(slots) for i, slots in owned.items()}
    moves = []
    for source, slots in sources:
        left = slots
        for target, free in room.items():
            part = left.lowest(free)
            if part:
                room[target] = free - len(part)
                left -= part
                moves.append(MoveSlots(source=source, target=target, slots=part, reason=reason))
    return moves


def emptied(view: ClusterView, actions: Iterable[Action]) -> tuple[NodeId, ...]:
    """Return the nodes with keys that would own no slot after these actions.

    A server that loses its last slot to another one may become its replica at once, and deletes
    what it has (`cluster-allow-replica-migration`).
    """
    moved = union_by_key((a.source, a.slots) for a in actions if isinstance(a, MoveSlots))
    return tuple(
        node.node_id
        for node in view.nodes
        if node.keys and node.slots and not node.slots - moved.get(node.node_id, SlotSet())
    )


def _with_drained(owned: dict[NodeId, SlotSet], drained: int) -> dict[NodeId, int]:
    """Spread drained slots over the primaries with the fewest, without evening out the rest."""
    result = {i: len(slots) for i, slots in owned.items()}
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
