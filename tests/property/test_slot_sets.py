"""Law 1: a SlotSet is a set, and reads what it prints."""

from hypothesis import given
from hypothesis import strategies as st

from bootstrap.core.slots import SlotSet, union
from tests.support.strategies import slot_sets


@given(one=slot_sets())
def test_parse_reads_what_str_prints(one: SlotSet) -> None:
    """Ranges may be divided by spaces too, as CLUSTER NODES prints them."""
    assert SlotSet.parse(str(one)) == one
    assert SlotSet.parse(str(one).replace(",", " ")) == one


@given(one=slot_sets(), other=slot_sets())
def test_algebra_is_that_of_sets(one: SlotSet, other: SlotSet) -> None:
    """Union, intersection, difference, length, order."""
    a, b = set(one), set(other)
    assert list(one) == sorted(a)
    assert len(one) == len(a)
    assert bool(one) == bool(a)
    assert set(one | other) == a | b
    assert set(one & other) == a & b
    assert set(one - other) == a - b
    assert union([one, other]) == one | other
    assert SlotSet.of(a) == one
    assert all(first in one for first, _ in one.ranges())
    assert (one == other) == (a == b)


@given(one=slot_sets(), count=st.integers(0, 20000))
def test_lowest_and_highest_are_slices(one: SlotSet, count: int) -> None:
    """Both return slots in rising order."""
    ordered = list(one)
    assert list(one.lowest(count)) == ordered[:count]
    assert list(one.highest(count)) == ordered[max(0, len(ordered) - count) :]
