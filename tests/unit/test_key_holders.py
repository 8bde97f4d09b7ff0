"""Which nodes may have keys of a slot in transit where a server does not show them."""

from dataclasses import replace

import pytest

from bootstrap.core import key_holders
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView
from tests.support.builders import (
    acquaint,
    at,
    facts,
    field,
    node,
    node_id,
    own,
    slots,
    view,
    without,
)

SLOT = 5
A, B, C = 0, 1, 2  # A owns the slot
EMPTY, LOST = 6, 7  # primaries without slots; the second one is gone
HIDES, SHOWS = (8, 4, 0), (7, 0, 15)


def moving(version: tuple[int, int, int], *, to: int = LOST, **keys: int) -> ClusterView:
    """Return a move of the slot from A; pod 3 replicates the primary that is gone.

    Nothing was counted in the slot. The keys of `primary` are those of B, those of `empty` are of
    a primary without slots, and those of `replica` are of pod 3.
    """
    seen = acquaint([*view("3x1").nodes, node(EMPTY), node(LOST)])
    seen = own(seen, 3, primary_id=node_id(LOST))
    seen = field(seen, A, migrating={SLOT: node_id(to)})
    for number, name in ((B, "primary"), (EMPTY, "empty"), (3, "replica")):
        seen = field(seen, number, version=version, keys=keys.get(name, 0))
    return without(seen, LOST)


@pytest.mark.parametrize(
    ("version", "keys", "expected"),
    [(HIDES, 2, slots("5")), (HIDES, 0, SlotSet()), (SHOWS, 2, SlotSet()), (SHOWS, 0, SlotSet())],
)
def test_a_slot_waits_for_a_replica_that_may_hide_its_keys(
    version: tuple[int, int, int], keys: int, expected: SlotSet
) -> None:
    """A replica without any key hides none, and older servers count what they have."""
    known = facts(moving(version, replica=keys), "3x1")
    assert key_holders.slots_awaiting_promotion(known) == expected


@pytest.mark.parametrize(
    ("version", "stray", "is_importing", "expected"),
    [
        (HIDES, 2, False, True),
        (HIDES, 0, False, False),
        (HIDES, 2, True, False),
        (SHOWS, 2, False, False),
    ],
)
def test_a_primary_may_hide_keys_of_a_slot_that_it_neither_owns_nor_imports(
    version: tuple[int, int, int], stray: int, *, is_importing: bool, expected: bool
) -> None:
    """Whatever became of the target of the move; older servers show all keys."""
    seen = moving(version, to=C, primary=5)
    seen = field(seen, B, importing={SLOT: node_id(A)} if is_importing else {})
    known = facts(replace(seen, stray_keys={node_id(B): stray}), "3x1")
    assert key_holders.may_have_keys(known, at(seen, B), SLOT) is expected
    assert key_holders.hidden_holders(known) == (
        [at(seen, B)] if version == HIDES and stray else []
    )


@pytest.mark.parametrize(("elsewhere", "is_last"), [(1, True), (2, False), (3, False)])
def test_a_hidden_copy_is_the_last_one_where_no_empty_primary_has_as_many_keys(
    elsewhere: int, *, is_last: bool
) -> None:
    """A primary with as many keys was promoted with the same copy."""
    seen = moving(HIDES, replica=2, empty=elsewhere)
    found = key_holders.last_copy_replicas(facts(seen, "3x1"))
    assert found == ((at(seen, 3),) if is_last else ())
