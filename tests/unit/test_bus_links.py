"""What is new, and what has been the same for too long."""

from bootstrap.core.bus_links import BLOCKED_AFTER_S, BusLinks
from bootstrap.core.findings import Finding, FindingCode
from tests.support.builders import address, at, estranged, field, fresh, told, view, wanted

HEALTHY = view("3x0")
APART = field(estranged(HEALTHY, 0, 1), 0, handshakes=frozenset({address(1)}))


def test_news_are_findings_of_a_kind_and_pod_not_told_before() -> None:
    """A finding of the same kind and pod is no news, even where its detail has changed."""
    links = BusLinks()
    first = Finding(code=FindingCode.STATE_FAIL, node="a", detail="1")
    again = Finding(code=FindingCode.STATE_FAIL, node="a", detail="2")
    other = Finding(code=FindingCode.STATE_FAIL, node="b")
    assert links.news([first]) == [first]
    assert links.news([again, other]) == [other]
    assert links.news([]) == []
    assert links.news([first]) == [first]


def test_waiting_counts_from_the_first_look() -> None:
    """The time since the first observation is given in whole seconds."""
    links = BusLinks()
    assert links.waited_s(100.0) == 0
    assert links.waited_s(107.4) == 7


def test_a_handshake_that_stays_open_is_told_once() -> None:
    """With the pods and the bus port."""
    links = BusLinks()
    desired = wanted("3x0")
    assert not list(links.blocked(APART, desired, 10.0))
    assert not list(links.blocked(APART, desired, 10.0 + BLOCKED_AFTER_S / 2))
    assert links.worst() is None
    (blocked,) = links.blocked(APART, desired, 10.0 + BLOCKED_AFTER_S)
    assert blocked.node == "redis-app-1"
    assert "redis-app-0 to redis-app-1 (10.0.0.1 port 16379)" in blocked.detail
    assert not list(links.blocked(APART, desired, 20.0))
    assert links.worst() is not None


def test_a_pair_that_met_is_forgotten() -> None:
    """A pair that met and is parted again starts to count from the beginning."""
    links = BusLinks()
    desired = wanted("3x0")
    list(links.blocked(APART, desired, 0.0))
    list(links.blocked(HEALTHY, desired, 2.0))
    assert not list(links.blocked(APART, desired, BLOCKED_AFTER_S + 1))


def test_a_link_that_is_down_counts_too() -> None:
    """More than three pairs are counted."""
    links = BusLinks()
    seen = HEALTHY
    for one, other in ((0, 1), (0, 2), (1, 0), (1, 2)):
        seen = told(seen, one, other, link_up=False)
    list(links.blocked(seen, wanted("3x0"), 0.0))
    (blocked,) = links.blocked(seen, wanted("3x0"), BLOCKED_AFTER_S)
    assert blocked.detail.endswith(" and 1 more pairs")


def test_handshakes_with_others_are_not_ours() -> None:
    """An address of nobody, or of a node that is known already."""
    links = BusLinks()
    for seen in (
        field(fresh(3), 0, handshakes=frozenset({address(77)})),
        field(HEALTHY, 0, handshakes=frozenset({at(HEALTHY, 1).address})),
    ):
        list(links.blocked(seen, wanted("3x0"), 0.0))
        assert not list(links.blocked(seen, wanted("3x0"), BLOCKED_AFTER_S))
