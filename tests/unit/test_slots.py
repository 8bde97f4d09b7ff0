"""Slots as sets."""

import pytest

from bootstrap.core.slots import SLOT_COUNT, SlotSet, even_counts, even_split, union
from tests.support.builders import slots


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("0", "0"),
        ("16383", "16383"),
        ("0-16383", "0-16383"),
        ("7000,0-5460", "0-5460,7000"),
        ("1 2 3", "1-3"),
        ("5-5", "5"),
    ],
)
def test_parse_reads_ranges_in_any_order(text: str, shown: str) -> None:
    """Adjacent slots become one range."""
    assert str(SlotSet.parse(text)) == shown


@pytest.mark.parametrize("text", ["16384", "-1", "5-3", "a", "1-b", "0-16384", "1--2"])
def test_parse_refuses_what_is_no_slot(text: str) -> None:
    """Ranges stay within 0..16383 and rise."""
    with pytest.raises(ValueError, match=r"."):
        SlotSet.parse(text)


def test_repr_is_short_for_any_set() -> None:
    """The mask as a decimal number would be longer than Python prints."""
    assert repr(SlotSet.all()) == "SlotSet.parse('0-16383')"


def test_membership_and_truth() -> None:
    """An empty set is false."""
    assert 3 in slots("0-5")
    assert 6 not in slots("0-5")
    assert not SlotSet()
    assert SlotSet.of([4])


def test_lowest_and_highest_take_what_there_is() -> None:
    """Both go past gaps, and return at most all slots."""
    some = slots("1-2,5,9-10")
    assert some.lowest(3) == slots("1-2,5")
    assert some.lowest(0) == SlotSet()
    assert some.lowest(-1) == SlotSet()
    assert some.lowest(99) == some
    assert some.highest(3) == slots("5,9-10")
    assert some.highest(0) == SlotSet()
    assert some.highest(-1) == SlotSet()
    assert some.highest(99) == some


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 500])
def test_even_split_covers_all_within_one(parts: int) -> None:
    """The surplus is with the first."""
    split = even_split(parts)
    assert union(split) == SlotSet.all()
    assert sum(map(len, split)) == SLOT_COUNT
    assert tuple(map(len, split)) == even_counts(parts)
    assert max(even_counts(parts)) - min(even_counts(parts)) <= 1
