"""Pairs of nodes whose views do not agree."""

from dataclasses import replace

from bootstrap.core import disagreements
from bootstrap.core.disagreements import same_facts
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Flag, Role
from tests.support.builders import (
    address,
    at,
    estranged,
    facts,
    field,
    fresh,
    line,
    node_id,
    own,
    view,
    with_line,
    without,
)

SHARD_IDS = frozenset({"MYSHARDID"})


def names(pairs: object) -> list[tuple[int, int]]:
    return [(a.endpoint.ordinal, b.endpoint.ordinal) for a, b in pairs]  # type: ignore[attr-defined]


def test_strangers_are_one_sided() -> None:
    """Pairs are listed in a fixed order, one for each direction."""
    seen = estranged(estranged(view("3x0"), 2, 0), 0, 2)
    assert names(disagreements.unacquainted_pairs(facts(estranged(view("3x0"), 2, 0), "3x0"))) == [
        (2, 0)
    ]
    assert names(disagreements.unacquainted_pairs(facts(seen, "3x0"))) == [(0, 2), (2, 0)]


def test_a_moved_pod_is_misplaced_in_every_view_and_its_own() -> None:
    """Only a MEET from another node corrects the line that a node has of itself."""
    seen = own(view("3x0"), 1, address=address(1, moved=True))
    assert sorted(names(disagreements.stale_addresses(facts(seen, "3x0")))) == [
        (0, 1),
        (1, 1),
        (2, 1),
    ]


def test_an_isolated_node_may_not_know_its_address() -> None:
    """A fresh node has none until it was met."""
    seen = own(fresh(2), 0, address=replace(address(0), ip=""))
    assert not names(disagreements.stale_addresses(facts(seen, "2x0")))


def test_noaddr_is_misplaced() -> None:
    """Whatever address the line shows."""
    seen = with_line(view("2x0"), 0, 1, flags=frozenset({Flag.NOADDR}))
    assert names(disagreements.stale_addresses(facts(seen, "2x0"))) == [(0, 1)]


def test_any_address_of_the_pod_will_do_unless_one_is_announced() -> None:
    """Dual stack pods have two; an announced one is the only right one."""
    seen = view("2x0")
    other = replace(address(1), ip="10.9.9.9")
    pod = replace(at(seen, 1).endpoint, addresses=("10.0.0.1", "10.9.9.9"))
    nodes = tuple(replace(n, endpoint=pod) if n.name == pod.name else n for n in seen.nodes)
    seen = own(replace(seen, nodes=nodes), 1, address=other)
    assert not names(disagreements.stale_addresses(facts(seen, "2x0")))
    seen = field(seen, 1, announced_ip="10.0.0.1")
    assert names(disagreements.stale_addresses(facts(seen, "2x0"))) == [(0, 1), (1, 1)]
    seen = own(seen, 1, address=replace(address(1), port=7000))
    assert names(disagreements.stale_addresses(facts(seen, "2x0"))) == [(0, 1), (1, 1)]


def test_outdated_is_what_only_headers_carry() -> None:
    """Slots, role, primary and epoch; a replica's epoch is its primary's."""
    seen = view("3x1")
    assert not names(disagreements.outdated_views(facts(seen, "3x1")))
    assert names(
        disagreements.outdated_views(facts(with_line(seen, 0, 1, slots=SlotSet()), "3x1"))
    ) == [(0, 1)]
    assert names(
        disagreements.outdated_views(facts(with_line(seen, 0, 1, config_epoch=7), "3x1"))
    ) == [(0, 1)]
    assert not names(
        disagreements.outdated_views(facts(with_line(seen, 0, 3, config_epoch=7), "3x1"))
    )
    assert not names(
        disagreements.outdated_views(facts(with_line(seen, 0, 1, link_up=False), "3x1"))
    )
    changed = with_line(seen, 0, 3, role=Role.PRIMARY, primary_id=None)
    assert names(disagreements.outdated_views(facts(changed, "3x1"))) == [(0, 3)]


def test_same_facts_compares_lines() -> None:
    """Ids and addresses do not count."""
    assert same_facts(line(1, "1-3"), line(1, "1-3"))
    assert not same_facts(line(1, "1-3"), line(1, "1-4"))
    assert not same_facts(line(3, of=1), line(3, of=2))


def test_flagged_tells_who_says_what_of_a_live_node() -> None:
    """A gone one may fail as it likes."""
    seen = with_line(view("3x0"), 0, 1, flags=frozenset({Flag.PFAIL}))
    seen = with_line(seen, 0, 2, flags=frozenset({Flag.FAIL}))
    assert names(disagreements.flagged(facts(without(seen, 2), "3x0"))) == [(0, 1)]


def test_misgrouped_compares_shards_by_id_with_replication() -> None:
    """Only nodes that were asked, and never a node with itself."""
    seen = view("2x1", commands=SHARD_IDS)
    right = facts(seen, "2x1").shard_ids
    assert right == {
        frozenset({node_id(0), node_id(2)}),
        frozenset({node_id(1), node_id(3)}),
    }
    assert not names(disagreements.shard_mismatches(facts(field(seen, 0, shards=right), "2x1")))
    wrong = frozenset({frozenset({node_id(i)}) for i in range(4)})
    assert names(disagreements.shard_mismatches(facts(field(seen, 0, shards=wrong), "2x1"))) == [
        (0, 1),
        (0, 2),
        (0, 3),
    ]


def test_members_without_shard_ids_are_not_compared() -> None:
    """A newer member makes up an id for each of them, which no MEET changes."""
    wrong = frozenset({frozenset({node_id(i)}) for i in range(4)})
    for older in (0, 1, 2, 3):
        seen = field(view("2x1", commands=SHARD_IDS), 3, shards=wrong)
        seen = field(seen, older, commands=frozenset())
        mates = {older, (older + 2) % 4}
        found = {b for _, b in names(disagreements.shard_mismatches(facts(seen, "2x1")))}
        assert found == {0, 1, 2} - mates
    grouped = frozenset({frozenset({node_id(i)}) for i in (0, 2)})
    mixed = field(view("2x1"), 3, commands=SHARD_IDS, shards=grouped)
    assert not names(disagreements.shard_mismatches(facts(mixed, "2x1")))


def test_a_reply_that_does_not_list_a_member_says_nothing_of_it() -> None:
    """A server that was upgraded from 7.0 does not list itself."""
    listed = frozenset({frozenset({node_id(0)}), frozenset({node_id(1), node_id(3)})})
    seen = field(view("2x1", commands=SHARD_IDS), 2, shards=listed)
    assert not names(disagreements.shard_mismatches(facts(seen, "2x1")))
