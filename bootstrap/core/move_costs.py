"""What moving slots costs, estimated before it is done.

Rules: keys are taken to be spread evenly over the slots of a source, which is what hashing does to
any large number of keys without hash tags.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .actions import MoveSlots, Plan
from .topology import ClusterView


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveCost:
    """How much is moved.

    Attributes:
        bytes: Of memory at the sources.
    """

    slots: int
    keys: int
    bytes: int


def move_cost(plans: Iterable[Plan], view: ClusterView) -> MoveCost:
    """Return what all slot moves of the plans cost, by the share of slots that a source gives.

    A source that owns nothing yet, because an earlier stage is to give it slots, counts as empty.
    """
    nodes = view.by_id()
    slots, keys, size = 0, 0.0, 0.0
    for move in (a for plan in plans for a in plan.actions if isinstance(a, MoveSlots)):
        slots += len(move.slots)
        source = nodes.get(move.source)
        if source is not None and source.slots and source.keys:
            share = len(move.slots) / len(source.slots)
            keys += share * source.keys
            size += share * source.used_memory
    return MoveCost(slots=slots, keys=round(keys), bytes=round(size))
