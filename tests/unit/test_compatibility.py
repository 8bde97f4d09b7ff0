"""Engines and versions that can, and cannot, work in one cluster."""

import pytest

from bootstrap.core.compatibility import can_read_copy, can_share_bus, refuse_incompatible
from bootstrap.core.topology import ClusterView, DesiredTopology, NodeView
from tests.support.builders import acquaint, facts, field, fresh, joined, node, view

VERSIONS = {
    "redis 6.2": ("redis", (6, 2, 14)),
    "redis 7.0": ("redis", (7, 0, 15)),
    "redis 8.0": ("redis", (8, 0, 0)),
    "redis 8.2": ("redis", (8, 2, 1)),
    "redis 8.6": ("redis", (8, 6, 0)),
    "valkey 8.1": ("valkey", (8, 1, 1)),
    "valkey 9.1": ("valkey", (9, 1, 0)),
}
# Measured on real servers: the versions of primaries that a replica can copy.
READABLE = {
    "redis 6.2": {"redis 6.2"},
    "redis 7.0": {"redis 6.2", "redis 7.0"},
    "redis 8.0": VERSIONS.keys() - {"redis 8.6"},
    "redis 8.2": VERSIONS.keys() - {"redis 8.6"},
    "redis 8.6": VERSIONS.keys(),
    "valkey 8.1": {"redis 6.2", "redis 7.0", "valkey 8.1", "valkey 9.1"},
    "valkey 9.1": {"redis 6.2", "redis 7.0", "valkey 8.1", "valkey 9.1"},
}


def server(name: str, number: int = 0) -> NodeView:
    engine, version = VERSIONS[name]
    return node(number, engine=engine, version=version)


def causes(seen: ClusterView, desired: DesiredTopology | str) -> list[str]:
    return [refusal.cause for refusal in refuse_incompatible(facts(seen, desired))]


@pytest.mark.parametrize("reader", VERSIONS)
def test_replicas_read_copies_as_measured(reader: str) -> None:
    """Each version as replica of each other."""
    readable = {w for w in VERSIONS if can_read_copy(server(reader), server(w))}
    assert readable == READABLE[reader]


@pytest.mark.parametrize("one", VERSIONS)
def test_members_share_the_bus_as_measured(one: str) -> None:
    """Redis from 8.0 and Valkey from 8.0 do not; all others do."""
    apart = {other for other in VERSIONS if not can_share_bus(server(one), server(other))}
    newer = {name for name in VERSIONS if name not in {"redis 6.2", "redis 7.0"}}
    other_engine = {name for name in newer if name.split()[0] != one.split(maxsplit=1)[0]}
    assert apart == (other_engine if one in newer else set())


def test_a_pod_of_another_engine_is_refused_before_it_meets_anybody() -> None:
    """The refusal names the pod that is alone, whichever engine it has."""
    redis = view("3x0", engine="redis", version=(8, 6, 0))
    grown = joined(redis, node(3, engine="valkey", version=(9, 1, 0)))
    (cause,) = causes(grown, "4x0")
    assert cause.startswith("redis-app-3 runs valkey 9.1.0 and redis-app-0 redis 8.6.0")
    valkey = view("3x0", engine="valkey", version=(9, 1, 0))
    (cause,) = causes(joined(valkey, node(3, engine="redis", version=(8, 0, 0))), "4x0")
    assert cause.startswith("redis-app-3 runs redis 8.0.0")


def test_of_fresh_pods_the_fewer_are_named() -> None:
    """All are alone; the cause is the same."""
    seen = field(fresh(6), 4, engine="valkey", version=(9, 1, 0))
    for number in (0, 1, 2, 3, 5):
        seen = field(seen, number, version=(8, 6, 0))
    (cause,) = causes(seen, "3x1")
    assert cause.startswith("redis-app-4 runs valkey 9.1.0")


def test_valkey_beside_redis_7_is_how_people_move() -> None:
    """A cluster of both engines is not refused."""
    seen = view("3x0", version=(7, 0, 15))
    assert causes(joined(seen, node(3, engine="valkey", version=(9, 1, 0))), "4x0") == []


def test_a_member_that_leaves_is_no_obstacle() -> None:
    """Shrinking is how such a pod gets out again."""
    nodes = [*view("3x0", version=(8, 6, 0)).nodes, node(3, engine="valkey", version=(9, 1, 0))]
    assert causes(acquaint(nodes), "3x0") == []


def test_a_replica_that_cannot_read_the_copy_of_its_primary() -> None:
    """Both versions are named, and only while the link is down."""
    seen = field(view("3x1"), 4, version=(6, 2, 14))
    assert causes(seen, "3x1") == []
    (refusal,) = refuse_incompatible(facts(field(seen, 4, link_up=False), "3x1"))
    assert refusal.node == "redis-app-4"
    assert "runs redis 6.2.14, its primary redis-app-1 redis 7.0.15" in refusal.cause
    assert "redis-app-1" in refusal.remedy


def test_a_link_that_is_down_for_another_reason() -> None:
    """Versions are not blamed, nor is a primary that is not there."""
    assert causes(field(view("3x1"), 4, link_up=False), "3x1") == []
    orphan = field(view("3x1"), 4, link_up=False, version=(6, 2, 14))
    left = ClusterView(nodes=tuple(n for n in orphan.nodes if n.endpoint.ordinal != 1))
    assert causes(left, "3x1") == []
