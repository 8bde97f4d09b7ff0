"""Who holds keys of the slots in question, and whose copy is the last one.

Rules: keys are asked for only where a slot is not simply owned (`Facts.in_question`); a replica
counts only when its primary is gone, since it has what that one had. What a server does not show
counts as there.
"""

from __future__ import annotations

from .facts import Facts
from .slots import SlotSet
from .topology import NodeView, Role


def keys_in(facts: Facts, node: NodeView, slot: int) -> int:
    """Return how many keys of a slot in question a node holds."""
    return facts.view.slot_keys.get(node.node_id, {}).get(slot, 0)


def orphaned(facts: Facts) -> tuple[NodeView, ...]:
    """Return the replicas whose primary is gone, by their own word."""
    return tuple(n for gone in sorted(facts.gone) for n in facts.replicas_of(gone))


def slots_with_keys(facts: Facts, slots: SlotSet) -> SlotSet:
    """Return those of the slots for which a live node still holds keys that others may lack.

    A replica of a live primary has a copy of what that one has; one whose primary is gone counts,
    for it is promoted first.
    """
    holders = [n for n in facts.live.values() if n.role is Role.PRIMARY]
    return slots & SlotSet.of(
        slot
        for node in (*holders, *orphaned(facts))
        for slot, count in facts.view.slot_keys.get(node.node_id, {}).items()
        if count
    )


def last_copy_replicas(facts: Facts) -> tuple[NodeView, ...]:
    """Return orphaned replicas with the last copy of keys that a move had brought to their primary.

    Only those whose primary owned nothing, in their own view: one that lost its slots to another
    replica of its primary learns of that, and follows it, in one step.
    """
    found = []
    for node in orphaned(facts):
        primary = node.known.get(node.myself.primary_id or node.node_id)
        if primary is not None and not primary.slots and _is_last_copy(facts, node):
            found.append(node)
    return tuple(found)


def _is_last_copy(facts: Facts, node: NodeView) -> bool:
    """Return whether an orphaned replica has more keys of a slot than a promoted one."""
    promoted = [n for n in facts.live.values() if n.role is Role.PRIMARY]
    if _hides_strays(node):
        moved = any(node.myself.primary_id in n.migrating.values() for n in facts.owners)
        return moved and not any(n.keys >= node.keys for n in promoted if not n.slots)
    return any(
        not any(keys_in(facts, n, slot) >= count for n in promoted if slot not in n.slots)
        for slot, count in facts.view.slot_keys.get(node.node_id, {}).items()
    )


def slots_held_by_orphans(facts: Facts) -> SlotSet:
    """Return the slots of which a replica without primary holds, or may hold, keys."""
    nodes = orphaned(facts)
    slots = {s for n in nodes for s in facts.view.slot_keys.get(n.node_id, ())}
    lost = {n.myself.primary_id for n in nodes if n.keys and _hides_strays(n)}
    slots |= {s for n in facts.owners for s, target in n.migrating.items() if target in lost}
    return SlotSet.of(slots)


def may_hold(facts: Facts, node: NodeView, slot: int, owner: NodeView) -> bool:
    """Return whether a primary that does not own a slot in transit has, or may have, keys of it.

    One that hides them may have taken the place of a target that is gone.
    """
    hidden = _hides_strays(node) and owner.migrating.get(slot) in facts.gone
    return bool(keys_in(facts, node, slot)) or (hidden and node.keys > 0)


def rivals(facts: Facts, slot: int) -> list[NodeView]:
    """Return the owners of a contested slot, by ordinal."""
    owners = [n for n in facts.live.values() if slot in n.slots]
    return sorted(owners, key=lambda n: n.endpoint.ordinal)


def candidates(facts: Facts, slot: int) -> list[NodeView]:
    """Return the rivals with the highest config epoch among those that hold keys, if any do."""
    owners = rivals(facts, slot)
    owners = [n for n in owners if keys_in(facts, n, slot)] or owners
    highest = max(n.myself.config_epoch for n in owners)
    return [n for n in owners if n.myself.config_epoch == highest]


def _hides_strays(node: NodeView) -> bool:
    """Return whether a server does not count keys of slots that it neither owns nor imports.

    Redis does so since it moves slots by itself (clusterCanAccessKeysInSlot, 8.4), for a replica
    by what its primary owns; INFO counts them.
    """
    return node.engine == "redis" and node.version >= (8, 4, 0)
