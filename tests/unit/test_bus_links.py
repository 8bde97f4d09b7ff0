"""What is new, and what has been the same for too long."""

from bootstrap.core.bus_links import STUCK_AFTER_S, Watch
from bootstrap.core.findings import Finding, FindingCode
from tests.support.builders import address, at, estranged, field, fresh, told, view, wanted

HEALTHY = view("3x0")
APART = field(estranged(HEALTHY, 0, 1), 0, handshakes=frozenset({address(1)}))


def test_news_are_findings_of_a_kind_and_pod_not_told_before() -> None:
    """The detail may change."""
    watch = Watch()
    first = Finding(code=FindingCode.STATE_FAIL, node="a", detail="1")
    again = Finding(code=FindingCode.STATE_FAIL, node="a", detail="2")
    other = Finding(code=FindingCode.STATE_FAIL, node="b")
    assert watch.news([first]) == [first]
    assert watch.news([again, other]) == [other]
    assert watch.news([]) == []
    assert watch.news([first]) == [first]


def test_waiting_counts_from_the_first_look() -> None:
    """In whole seconds."""
    watch = Watch()
    assert watch.waited_s(100.0) == 0
    assert watch.waited_s(107.4) == 7


def test_a_handshake_that_stays_open_is_told_once() -> None:
    """With the pods and the bus port."""
    watch = Watch()
    desired = wanted("3x0")
    assert not list(watch.stuck(APART, desired, 10.0))
    assert not list(watch.stuck(APART, desired, 10.0 + STUCK_AFTER_S / 2))
    assert watch.worst() is None
    (stuck,) = watch.stuck(APART, desired, 10.0 + STUCK_AFTER_S)
    assert stuck.node == "redis-app-1"
    assert "redis-app-0 to redis-app-1 (10.0.0.1 port 16379)" in stuck.detail
    assert not list(watch.stuck(APART, desired, 20.0))
    assert watch.worst() is not None


def test_a_pair_that_met_is_forgotten() -> None:
    """It begins again."""
    watch = Watch()
    desired = wanted("3x0")
    list(watch.stuck(APART, desired, 0.0))
    list(watch.stuck(HEALTHY, desired, 2.0))
    assert not list(watch.stuck(APART, desired, STUCK_AFTER_S + 1))


def test_a_link_that_is_down_counts_too() -> None:
    """More than three pairs are counted."""
    watch = Watch()
    seen = HEALTHY
    for one, other in ((0, 1), (0, 2), (1, 0), (1, 2)):
        seen = told(seen, one, other, link_up=False)
    list(watch.stuck(seen, wanted("3x0"), 0.0))
    (stuck,) = watch.stuck(seen, wanted("3x0"), STUCK_AFTER_S)
    assert stuck.detail.endswith(" and 1 more pairs")


def test_handshakes_with_others_are_not_ours() -> None:
    """An address of nobody, or of a node that is known already."""
    watch = Watch()
    for seen in (
        field(fresh(3), 0, handshakes=frozenset({address(77)})),
        field(HEALTHY, 0, handshakes=frozenset({at(HEALTHY, 1).address})),
    ):
        list(watch.stuck(seen, wanted("3x0"), 0.0))
        assert not list(watch.stuck(seen, wanted("3x0"), STUCK_AFTER_S))
