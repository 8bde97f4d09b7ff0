"""Hash slots as sets.

Rules: a slot is 0..16383, a range is inclusive on both ends and written `first-last`, a set is
immutable. A set is one integer with a bit a slot, so union, difference and equality cost one
machine operation a word however fragmented the ranges are.

Invariant: `SlotSet.parse(str(s)) == s`; what is not a slot or a range is a `ValueError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SLOT_COUNT = 16384
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True, repr=False)
class SlotSet:
    """An immutable set of hash slots: bit `s` of the mask stands for slot `s`."""

    mask: int = 0

    @classmethod
    def all(cls) -> SlotSet:
        """Return all 16384 slots."""
        return cls((1 << SLOT_COUNT) - 1)

    @classmethod
    def span(cls, first: int, last: int) -> SlotSet:
        """Return the inclusive range `first`..`last`."""
        if not 0 <= first <= last < SLOT_COUNT:
            raise ValueError(f"not a slot range: {first}-{last}")
        return cls(((1 << (last - first + 1)) - 1) << first)

    @classmethod
    def of(cls, slots: Iterable[int]) -> SlotSet:
        """Return the set of the given slots."""
        mask = 0
        for slot in slots:
            mask |= cls.span(slot, slot).mask
        return cls(mask)

    @classmethod
    def parse(cls, text: str) -> SlotSet:
        """Read `0-5460,7000` (ranges and slots, by comma or space; empty for none)."""
        mask = 0
        for part in text.replace(",", " ").split():
            first, _, last = part.partition("-")
            mask |= cls.span(int(first), int(last or first)).mask
        return cls(mask)

    def __str__(self) -> str:
        """Return the ranges in rising order, `0-5460,7000`."""
        return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in self.ranges())

    def __repr__(self) -> str:
        """Return the ranges; as one number a set has more digits than Python prints."""
        return f"SlotSet.parse({str(self)!r})"

    def __len__(self) -> int:
        """Return how many slots there are."""
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        """Return whether there is any slot."""
        return self.mask != 0

    def __contains__(self, slot: int) -> bool:
        """Return whether the slot is in the set."""
        return bool(self.mask >> slot & 1)

    def __iter__(self) -> Iterator[int]:
        """Yield the slots in rising order."""
        for first, last in self.ranges():
            yield from range(first, last + 1)

    def __or__(self, other: SlotSet) -> SlotSet:
        """Return the union."""
        return SlotSet(self.mask | other.mask)

    def __and__(self, other: SlotSet) -> SlotSet:
        """Return the intersection."""
        return SlotSet(self.mask & other.mask)

    def __sub__(self, other: SlotSet) -> SlotSet:
        """Return the slots that are not in `other`."""
        return SlotSet(self.mask & ~other.mask)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the inclusive ranges in rising order."""
        mask, offset = self.mask, 0
        while mask:
            zeros = (mask & -mask).bit_length() - 1
            mask >>= zeros
            ones = (~mask & (mask + 1)).bit_length() - 1
            offset += zeros
            yield offset, offset + ones - 1
            mask >>= ones
            offset += ones

    def lowest(self, count: int) -> SlotSet:
        """Return the `count` lowest slots: all when there are fewer, none below one."""
        mask = 0
        for first, last in self.ranges():
            take = min(count, last - first + 1)
            if take <= 0:
                break
            mask |= SlotSet.span(first, first + take - 1).mask
            count -= take
        return SlotSet(mask)

    def highest(self, count: int) -> SlotSet:
        """Return the `count` highest slots: all when there are fewer, none below one."""
        return self - self.lowest(max(0, len(self) - count))


def union(sets: Iterable[SlotSet]) -> SlotSet:
    """Return the union of many sets."""
    return reduce(SlotSet.__or__, sets, SlotSet())


def union_by_key(pairs: Iterable[tuple[_K, SlotSet]]) -> dict[_K, SlotSet]:
    """Return the union of each key's sets, in the order in which the keys appear first."""
    unions: dict[_K, SlotSet] = {}
    for key, slots in pairs:
        unions[key] = unions.get(key, SlotSet()) | slots
    return unions


def even_counts(parts: int) -> tuple[int, ...]:
    """Return how many slots each of `parts` primaries owns when they differ by at most one.

    The first ones own the surplus; contiguous ranges cut at `i * 16384 / parts` would give it in
    some other order. A fixed order makes equal views give equal plans.
    """
    base, surplus = divmod(SLOT_COUNT, parts)
    return tuple(base + (index < surplus) for index in range(parts))


def even_split(parts: int) -> tuple[SlotSet, ...]:
    """Return `parts` contiguous ranges that cover all slots and differ by at most one."""
    ranges, first = [], 0
    for count in even_counts(parts):
        ranges.append(SlotSet.span(first, first + count - 1))
        first += count
    return tuple(ranges)
