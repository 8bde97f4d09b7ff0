"""Which pods form a shard in a new cluster."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from random import Random

from bootstrap.core.shard_assignment import assign_shards
from bootstrap.core.topology import ClusterView, NodeView
from tests.support.builders import (
    fresh,
    placed,
)


def groups(nodes: Sequence[NodeView], shards: int) -> list[list[int]]:
    return [[n.endpoint.ordinal for n in shard] for shard in assign_shards(nodes, shards)]


def test_without_places_the_first_pods_are_primaries() -> None:
    """Pod i replicates i mod M, as the seed does."""
    assert groups(fresh(6).nodes, 3) == [[0, 3], [1, 4], [2, 5]]
    assert groups(fresh(7).nodes, 3) == [[0, 3, 6], [1, 4], [2, 5]]
    assert groups(fresh(3).nodes, 3) == [[0], [1], [2]]


def test_three_zones_hold_one_primary_each_and_no_shard_twice() -> None:
    """Six pods, two a zone."""
    seen = placed(fresh(6), {i: f"z{i % 3}/n{i}" for i in range(6)})
    assigned = assign_shards(seen.nodes, 3)
    assert [len({n.place.zone for n in shard}) for shard in assigned] == [2, 2, 2]
    assert len({shard[0].place.zone for shard in assigned}) == 3


def conflicts(assigned: Sequence[Sequence[NodeView]], by: str) -> int:
    """Members beyond the first of each domain in each shard."""
    total = 0
    for shard in assigned:
        counts = Counter(getattr(n.place, by) for n in shard)
        total += sum(count - 1 for count in counts.values())
    return total


def random_layout(order: Random) -> tuple[ClusterView, int]:
    shards, replicas = order.randint(3, 8), order.randint(1, 2)
    zones, hosts = order.randint(1, 5), order.randint(1, 4)
    count = shards * (1 + replicas)
    where = {
        i: f"z{(zone := order.randrange(zones))}/z{zone}n{order.randrange(hosts)}"
        for i in range(count)
    }
    return placed(fresh(count), where), shards


def test_an_assignment_reaches_the_lower_bound_of_conflicts() -> None:
    """Sum of max(0, pods in the domain - shards), for zones and nodes at once."""
    order = Random(7)
    for _ in range(150):
        seen, shards = random_layout(order)
        assigned = assign_shards(seen.nodes, shards)
        assert sorted(n.endpoint.ordinal for shard in assigned for n in shard) == [
            *range(len(seen.nodes))
        ]
        for by in ("zone", "node"):
            counts = Counter(getattr(n.place, by) for n in seen.nodes)
            assert conflicts(assigned, by) == sum(max(0, c - shards) for c in counts.values())


def test_primaries_are_spread_over_zones_as_far_as_the_shards_allow() -> None:
    """No zone holds a majority where that can be helped: compared with every choice there is."""
    order = Random(11)
    for _ in range(60):
        seen, shards = random_layout(order)
        if shards > 5:
            continue
        assigned = assign_shards(seen.nodes, shards)
        most = max(Counter(shard[0].place.zone for shard in assigned).values())
        best = min(
            max(Counter(n.place.zone for n in choice).values()) for choice in product(*assigned)
        )
        assert most == best


def test_equal_views_are_assigned_alike() -> None:
    """Whatever the order of pods."""
    seen = placed(fresh(9), {i: f"z{i % 2}/n{i % 4}" for i in range(9)})
    assert groups(seen.nodes, 3) == groups(seen.nodes[::-1], 3)
