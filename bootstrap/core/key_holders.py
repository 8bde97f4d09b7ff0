"""Which nodes have keys of the slots in question, and which copy is the last one.

Rules: keys are counted only where a slot is not simply owned (`Facts.in_question`); a replica is
counted only when its primary is gone, since it has the keys that its primary had. Where a server
does not show what it has, it may have keys.
"""

from __future__ import annotations

from collections.abc import Collection

from .facts import Facts
from .slots import SlotSet
from .topology import NodeView, Role


def keys_in(facts: Facts, node: NodeView, slot: int) -> int:
    """Return how many keys of a slot in question a node has."""
    return facts.view.slot_keys.get(node.node_id, {}).get(slot, 0)


def replicas_of_gone(facts: Facts) -> tuple[NodeView, ...]:
    """Return the replicas that report a primary that is gone."""
    return tuple(n for gone in sorted(facts.gone) for n in facts.replicas_of(gone))


def slots_with_keys(facts: Facts, slots: SlotSet) -> SlotSet:
    """Return those of the slots of which a live node has keys that others may lack.

    A replica of a live primary has a copy of the primary's keys; a replica whose primary is gone
    counts, for it is promoted first.
    """
    return slots & SlotSet.of(
        slot
        for node in (*facts.primaries, *replicas_of_gone(facts))
        for slot, count in facts.view.slot_keys.get(node.node_id, {}).items()
        if count
    )


def freshest(replicas: Collection[NodeView]) -> NodeView | None:
    """Return the replica of one primary that has read most; an empty one may have read as much."""
    known, unknown = best_of(replicas)
    if known and unknown:
        return unknown if unknown.keys > known.keys else known
    return known or unknown


def best_of(replicas: Collection[NodeView]) -> tuple[NodeView | None, NodeView | None]:
    """Return the best of the replicas that say how much they have read, and of the others.

    A server whose files do not have its offset reports 0 after a start, whatever it has read.
    """

    def order(node: NodeView) -> tuple[int, int, int]:
        return (node.replication_offset, node.keys, -node.ordinal)

    known = [n for n in replicas if n.replication_offset]
    unknown = [n for n in replicas if not n.replication_offset]
    return max(known, key=order, default=None), max(unknown, key=order, default=None)


def last_copy_replicas(facts: Facts) -> tuple[NodeView, ...]:
    """Return replicas with the last copy of keys that a move had brought to their primary.

    Only those whose primary is gone and owned nothing, in their own view: a replica whose primary
    lost its slots to another replica learns of that and follows the new primary in one step.
    """
    return tuple(
        node
        for node in replicas_of_gone(facts)
        if (primary := node.known.get(node.shard_primary))
        and not primary.slots
        and _has_last_copy(facts, node)
    )


def _has_last_copy(facts: Facts, node: NodeView) -> bool:
    """Return whether a replica without primary has more keys of a slot than any primary."""
    if hides_unowned_keys(node):
        was_target = any(node.myself.primary_id in n.migrating.values() for n in facts.owners)
        return was_target and not any(n.keys >= node.keys for n in facts.primaries if not n.slots)
    return any(
        not any(keys_in(facts, n, slot) >= count for n in facts.primaries if slot not in n.slots)
        for slot, count in facts.view.slot_keys.get(node.node_id, {}).items()
    )


def slots_awaiting_promotion(facts: Facts) -> SlotSet:
    """Return the slots of which a replica whose primary is gone has, or may have, keys."""
    nodes = replicas_of_gone(facts)
    slots = {s for n in nodes for s in facts.view.slot_keys.get(n.node_id, ())}
    lost = {n.myself.primary_id for n in nodes if n.keys and hides_unowned_keys(n)}
    slots |= {s for n in facts.owners for s, target in n.migrating.items() if target in lost}
    return SlotSet.of(slots)


def may_have_keys(facts: Facts, node: NodeView, slot: int) -> bool:
    """Return whether a primary that does not own a slot has, or may have, keys of it."""
    hidden = slot not in node.importing and hidden_keys(facts, node)
    return bool(keys_in(facts, node, slot) or hidden)


def hidden_keys(facts: Facts, node: NodeView) -> int:
    """Return how many keys a primary has of slots that it does not show.

    They may be of any slot that it neither owns nor imports: where a move was stopped at this end
    only, where it took the place of the target, or where it does not own the slot any more.
    """
    hides = hides_unowned_keys(node) and node.role is Role.PRIMARY
    return facts.view.stray_keys.get(node.node_id, 0) if hides else 0


def hidden_holders(facts: Facts) -> list[NodeView]:
    """Return the primaries with keys that they do not show, those with most keys first."""
    holders = [n for n in facts.primaries if hidden_keys(facts, n)]
    return sorted(holders, key=lambda n: (-hidden_keys(facts, n), n.ordinal))


def owners_of_contested(facts: Facts, slot: int) -> list[NodeView]:
    """Return the owners of a contested slot, by ordinal."""
    return sorted((n for n in facts.live.values() if slot in n.slots), key=lambda n: n.ordinal)


def strongest_owners(facts: Facts, slot: int) -> list[NodeView]:
    """Return the owners with the highest config epoch, of those with keys if any have keys."""
    owners = owners_of_contested(facts, slot)
    owners = [n for n in owners if keys_in(facts, n, slot)] or owners
    highest = max(n.myself.config_epoch for n in owners)
    return [n for n in owners if n.myself.config_epoch == highest]


def hides_unowned_keys(node: NodeView) -> bool:
    """Return whether a server does not count keys of slots that it neither owns nor imports.

    Redis does not since it moves slots by itself (clusterCanAccessKeysInSlot, 8.4); a replica goes
    by what its primary owns. INFO counts these keys.
    """
    return node.engine == "redis" and node.version >= (8, 4, 0)
