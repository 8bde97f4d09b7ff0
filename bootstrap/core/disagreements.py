"""Pairs of nodes whose views do not agree.

Rules: each function yields (observer, subject) pairs: what the observer reports about the subject
is not what the subject reports about itself. A cluster of N nodes has N * N lines, so lines that
are the same object as the subject's own (see `parsing.LineCache`) are skipped without being
compared, and observers whose lines are all right are left out (`Facts.differing`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .facts import FAILING, Facts, is_at
from .topology import Flag, KnownNode, NodeId, NodeView, Role


def unacquainted_pairs(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where member a does not know live member b."""
    for node in facts.live.values():
        if not facts.live.keys() <= node.known.keys():
            yield from ((node, n) for i, n in facts.live.items() if i not in node.known)


def stale_addresses(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where a knows b at an address that is not b's; (b, b) for its own line.

    An isolated node may not know its own address yet; it learns it from the first MEET.
    """
    for node in facts.live.values() if facts.moved else facts.differing:
        if node.is_isolated:
            continue
        for node_id, other in facts.live.items():
            line = node.known.get(node_id)
            if line is None or (line is other.myself and node_id not in facts.moved):
                continue
            if Flag.NOADDR in line.flags or not is_at(line, other):
                yield node, other


def outdated_views(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where a reports another role, primary, slots or epoch of b than b itself."""
    for node in facts.differing:
        for node_id, own in facts.truth.items():
            line = node.known.get(node_id)
            if line is not None and line is not own and not same_facts(line, own):
                yield node, facts.live[node_id]


def shard_mismatches(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where a groups b by shard id with other nodes than b's replication does.

    Left out are members without shard ids (before 7.2), for each of which a newer member makes one
    up (redis/redis#12685), and those that a's reply does not list: a server that was upgraded from
    such a version lists neither itself nor them, and no message between the servers changes that.
    """
    ids = {i for i, node in facts.live.items() if "MYSHARDID" in node.commands}
    for node in facts.staying:
        if node.shards is None or node.shards == facts.shard_ids:
            continue
        compared = ids & {i for shard in node.shards for i in shard}
        wrong = _shards_of(facts.shard_ids, compared) - _shards_of(node.shards, compared)
        misplaced = {i for shard in wrong for i in shard}
        yield from ((node, n) for i, n in facts.live.items() if i in misplaced and n is not node)


def _shards_of(
    shards: frozenset[frozenset[NodeId]], ids: Collection[NodeId]
) -> set[frozenset[NodeId]]:
    return {kept for shard in shards if (kept := shard.intersection(ids))}


def flagged(facts: Facts) -> Iterator[tuple[NodeView, NodeView]]:
    """Yield (a, b) where a reports that live member b fails."""
    for node in facts.differing:
        for node_id, other in facts.live.items():
            line = node.known.get(node_id)
            if line is not None and line.flags & FAILING:
                yield node, other


def same_facts(line: KnownNode, own: KnownNode) -> bool:
    """Return whether two lines agree on what only a node's own header carries.

    The line of a replica shows the config epoch of its primary, which travels with the primary's
    header, so it is compared for primaries only.
    """
    return (
        line.role is own.role
        and line.primary_id == own.primary_id
        and line.slots == own.slots
        and (line.config_epoch == own.config_epoch or own.role is Role.REPLICA)
    )
