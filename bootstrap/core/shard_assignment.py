"""Which pods form a shard, and which of them is the primary, in a cluster without owners.

Rules: pods sorted by (zone, node, ordinal), pod i to shard i mod M. Pods of one failure domain are
consecutive in that order, so a shard repeats a domain only if the domain has more than M pods: the
least possible number of repetitions, for zones and nodes at once. Without known places this is the
order of ordinals: the first M pods are primaries, and pod i replicates pod i mod M. `roles` follows
this while a cluster has the same shape, so the members of a shard meet first and replicate first.

Invariant: the result depends on places and ordinals only, never on the order of replies.
"""

from __future__ import annotations

from collections.abc import Sequence

from .topology import NodeId, NodeView


def assign_shards(nodes: Sequence[NodeView], shards: int) -> list[list[NodeView]]:
    """Assign nodes to shards, the primary first in each, shards by the primary's ordinal."""
    order = sorted(nodes, key=lambda n: (n.place.zone, n.place.node, n.ordinal))
    groups = [order[index::shards] for index in range(shards)]
    primaries = _choose_primaries(groups)
    for group, primary in zip(groups, primaries, strict=True):
        group.sort(key=lambda n: (n is not primary, n.ordinal))
    return sorted(groups, key=lambda group: group[0].ordinal)


def first_primaries(nodes: Sequence[NodeView], shards: int) -> dict[NodeId, NodeId]:
    """Return the primary of each node that is to be a replica, by their ids."""
    return {
        replica.node_id: primary.node_id
        for primary, *replicas in assign_shards(nodes, shards)
        for replica in replicas
    }


def _choose_primaries(groups: Sequence[Sequence[NodeView]]) -> list[NodeView]:
    """Choose one member per shard so that the most crowded domain has as few as possible.

    A zone with a majority of the primaries takes the quorum of the cluster with it when it fails.
    Bipartite matching of shards to domains with a rising capacity; the lowest ordinal first.
    """
    ranked = [sorted(group, key=lambda n: n.ordinal) for group in groups]
    domains = {n.place.domain for group in groups for n in group}
    capacities = range(-(-len(groups) // len(domains)), len(groups) + 1)
    assigned = next(filter(None, (_assign_domains(ranked, domains, most) for most in capacities)))
    return [
        next(n for n in group if n.place.domain == assigned[shard])
        for shard, group in enumerate(ranked)
    ]


def _assign_domains(
    ranked: Sequence[Sequence[NodeView]], domains: set[str], capacity: int
) -> dict[int, str]:
    """Return the domain of each shard's primary; empty where the capacity is too small."""
    shards_in: dict[str, list[int]] = {domain: [] for domain in domains}
    for shard in range(len(ranked)):
        if not _assign_domain(shard, ranked, shards_in, capacity, set()):
            return {}
    return {shard: domain for domain, shards in shards_in.items() for shard in shards}


def _assign_domain(
    shard: int,
    ranked: Sequence[Sequence[NodeView]],
    shards_in: dict[str, list[int]],
    capacity: int,
    tried: set[str],
) -> bool:
    """Find a domain below capacity for a shard, reassigning others (Kuhn's augmenting path)."""
    for node in ranked[shard]:
        domain = node.place.domain
        if domain in tried:
            continue
        tried.add(domain)
        if len(shards_in[domain]) < capacity:
            shards_in[domain].append(shard)
            return True
        for other in list(shards_in[domain]):
            if _assign_domain(other, ranked, shards_in, capacity, tried):
                shards_in[domain].remove(other)
                shards_in[domain].append(shard)
                return True
    return False
