"""Pairs that have had no link for too long."""

from bootstrap.core.bus_links import BLOCKED_AFTER_S, BusLinks
from tests.support.builders import address, at, estranged, field, fresh, view, wanted, with_line

HEALTHY = view("3x0")
APART = field(estranged(HEALTHY, 0, 1), 0, handshakes=frozenset({address(1)}))


def test_a_handshake_that_stays_open_is_reported() -> None:
    """The finding has the pods and the bus port, and lasts as long as it is open."""
    links = BusLinks()
    desired = wanted("3x0")
    assert not links.blocked(APART, desired, 10.0)
    assert not links.blocked(APART, desired, 10.0 + BLOCKED_AFTER_S / 2)
    blocked = links.blocked(APART, desired, 10.0 + BLOCKED_AFTER_S)
    assert blocked is not None
    assert blocked.node == "redis-app-1"
    assert "redis-app-0 to redis-app-1 (10.0.0.1 port 16379)" in blocked.detail
    assert links.blocked(APART, desired, 20.0) == blocked


def test_a_pair_that_met_is_forgotten() -> None:
    """A pair that met and is parted again starts to count from the beginning."""
    links = BusLinks()
    desired = wanted("3x0")
    links.blocked(APART, desired, 0.0)
    links.blocked(HEALTHY, desired, 2.0)
    assert not links.blocked(APART, desired, BLOCKED_AFTER_S + 1)


def test_a_link_that_is_down_counts_too() -> None:
    """More than three pairs are counted."""
    links = BusLinks()
    seen = HEALTHY
    for one, other in ((0, 1), (0, 2), (1, 0), (1, 2)):
        seen = with_line(seen, one, other, link_up=False)
    links.blocked(seen, wanted("3x0"), 0.0)
    blocked = links.blocked(seen, wanted("3x0"), BLOCKED_AFTER_S)
    assert blocked is not None
    assert blocked.detail.endswith(" and 1 more pairs")


def test_handshakes_with_others_are_not_ours() -> None:
    """An address of nobody, or of a node that is known already."""
    links = BusLinks()
    for seen in (
        field(fresh(3), 0, handshakes=frozenset({address(77)})),
        field(HEALTHY, 0, handshakes=frozenset({at(HEALTHY, 1).address})),
    ):
        links.blocked(seen, wanted("3x0"), 0.0)
        assert not links.blocked(seen, wanted("3x0"), BLOCKED_AFTER_S)
