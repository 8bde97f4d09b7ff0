"""What the nodes said, as values."""

import pytest

from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Address, DesiredTopology, Flag, Place, Role, short_id
from tests.support.builders import at, fresh, line, node, node_id, view


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("10.0.0.1", 6379, 16379), "10.0.0.1:6379"),
        (Address("fd00::1", 6379, 16379), "[fd00::1]:6379"),
        (Address("", 0, 0), ":0"),
    ],
)
def test_addresses_are_shown_as_people_write_them(address: Address, shown: str) -> None:
    """An IPv6 address is shown in brackets."""
    assert str(address) == shown


def test_small_values_show_themselves() -> None:
    """Places and node ids have a short text form."""
    assert str(Place(zone="z", node="n")) == "z/n"
    assert short_id("0123456789abcdef") == "01234567"


@pytest.mark.parametrize(
    ("nodes", "replicas", "primaries"), [(6, 1, 3), (7, 1, 3), (3, 0, 3), (9, 2, 3), (1, 0, 1)]
)
def test_pods_left_over_are_replicas(nodes: int, replicas: int, primaries: int) -> None:
    """There are as many shards as can have all their replicas."""
    assert DesiredTopology(nodes=nodes, replicas=replicas).primaries == primaries


def test_ordinals_below_the_wanted_number_stay() -> None:
    """A negative one is no pod of ours."""
    desired = DesiredTopology(nodes=6, replicas=1)
    assert [n for n in (-1, 0, 5, 6) if desired.stays(n)] == [0, 5]


def test_a_node_speaks_for_itself() -> None:
    """Role, slots and open slots are its own words."""
    seen = view("3x1")
    assert at(seen, 0).role is Role.PRIMARY
    assert at(seen, 3).role is Role.REPLICA
    assert not at(seen, 0).is_isolated
    assert all(n.is_isolated for n in fresh(3).nodes)
    assert seen.by_id()[node_id(5)].name == "redis-app-5"
    busy = node(0, "1-3", migrating={1: node_id(1)}, importing={9: node_id(2)})
    assert busy.open_slots == SlotSet.of([1, 9])


def test_a_handshake_is_told_by_its_flag() -> None:
    """The id of a node in handshake is temporary."""
    assert line(0, flags=frozenset({Flag.HANDSHAKE})).is_handshake
    assert not line(0).is_handshake
