"""What follows from a view."""

from dataclasses import replace

from bootstrap.core.facts import Facts, same_facts
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, NodeView, Role
from tests.support.builders import (
    acquaint,
    address,
    at,
    estranged,
    facts,
    field,
    fresh,
    joined,
    line,
    node,
    node_id,
    own,
    slots,
    told,
    view,
    wanted,
    without,
)


def names(pairs: object) -> list[tuple[int, int]]:
    return [(a.endpoint.ordinal, b.endpoint.ordinal) for a, b in pairs]  # type: ignore[attr-defined]


def ordinals(nodes: tuple[NodeView, ...]) -> list[int]:
    return [n.endpoint.ordinal for n in nodes]


def test_every_id_is_staying_leaving_or_gone() -> None:
    """By the wanted number and by whether a process answers."""
    seen = without(view("3x1"), 2)
    known = facts(seen, DesiredTopology(nodes=4, replicas=1))
    assert ordinals(known.staying) == [0, 1, 3]
    assert ordinals(known.leaving) == [5, 4]
    assert known.gone == {node_id(2)}
    assert [*known.live] == [node_id(i) for i in (0, 1, 3, 5, 4)]


def test_a_pod_that_is_not_wanted_and_no_member_is_left_alone() -> None:
    """It is not even leaving."""
    seen = joined(view("3x1"), node(6))
    assert facts(seen, "3x1").leaving == ()


def test_a_leaver_that_only_it_knows_itself_to_be_a_member_still_leaves() -> None:
    """The others forgot it, it does not know."""
    seen = view("3x1")
    for who in range(4):
        for whom in (4, 5):
            seen = estranged(seen, who, whom)
    assert ordinals(facts(seen, DesiredTopology(nodes=4, replicas=1)).leaving) == [5, 4]


def test_groups_unite_nodes_that_know_each_other_through_others() -> None:
    """A chain of three is one group, a fresh pod one of its own."""
    chain = ClusterView(nodes=(*acquaint([node(0), node(1)]).nodes, node(3), node(2)))
    chain = field(chain, 2, known={node_id(2): line(2), node_id(1): line(1)})
    groups = facts(chain, "4x0").groups
    assert sorted(map(len, groups)) == [1, 3]


def test_slot_groups_count_what_anybody_says() -> None:
    """Also slots of a member that is gone."""
    seen = without(view("2x0"), 0)
    assert len(facts(seen, "2x0").slot_groups) == 1
    assert facts(fresh(2), "2x0").slot_groups == ()


def test_slots_are_first_hand() -> None:
    """What others say of a live node counts for nothing."""
    seen = told(view("2x0"), 0, 1, slots=SlotSet())
    assert not facts(seen, "2x0").uncovered
    seen = told(view("2x0"), 1, 1, slots=slots("8192-16382"))
    assert facts(seen, "2x0").uncovered == slots("16383")


def test_slots_of_gone_are_neither_covered_nor_uncovered() -> None:
    """They are claimed, by the views that are left."""
    seen = without(view("2x0"), 1)
    found = facts(seen, "2x0")
    assert found.slots_of_gone == {node_id(1): slots("8192-16383")}
    assert not found.uncovered
    assert found.owned == slots("0-8191")


def test_remembered_slots_are_those_that_somebody_still_gives_to_a_live_primary() -> None:
    """A node that lost its own nodes.conf is known by the others to have owned them."""
    seen = view("2x0")
    forgetful = told(seen, 1, 1, slots=SlotSet())
    assert facts(forgetful, "2x0").owner_by_peers == {node_id(1): slots("8192-16383")}
    assert facts(own(seen, 1, slots=SlotSet()), "2x0").owner_by_peers == {}
    assert facts(seen, "2x0").owner_by_peers == {}
    follower = told(forgetful, 1, 1, role=Role.REPLICA, primary_id=node_id(0))
    assert facts(follower, "2x0").owner_by_peers == {}
    assert facts(estranged(forgetful, 0, 1), "2x0").owner_by_peers == {}


def test_contested_are_slots_with_two_first_hand_owners() -> None:
    """Open ones are listed wherever they are open."""
    seen = told(view("2x0"), 1, 1, slots=slots("8191-16383"))
    seen = field(seen, 0, migrating={5: node_id(1)}, importing={9: node_id(1)})
    assert facts(seen, "2x0").contested == slots("8191")
    assert facts(seen, "2x0").open_slots == slots("5,9")


def test_slots_are_in_question_only_where_keys_are() -> None:
    """An empty cluster loses nothing."""
    seen = field(view("2x0"), 0, migrating={5: node_id(1)})
    assert not facts(seen, "2x0").in_question
    assert facts(field(seen, 0, keys=3), "2x0").in_question == slots("5")


def test_the_highest_epoch_is_anybodys() -> None:
    """Current epochs and config epochs."""
    assert facts(view("3x1"), "3x1").max_epoch == 3
    assert facts(field(view("3x1"), 4, current_epoch=9), "3x1").max_epoch == 9
    assert Facts(ClusterView(nodes=()), wanted("3x1")).max_epoch == 0


def test_strangers_are_one_sided() -> None:
    """In a fixed order."""
    seen = estranged(estranged(view("3x0"), 2, 0), 0, 2)
    assert names(facts(estranged(view("3x0"), 2, 0), "3x0").unacquainted_pairs()) == [(2, 0)]
    assert names(facts(seen, "3x0").unacquainted_pairs()) == [(0, 2), (2, 0)]


def test_a_moved_pod_is_misplaced_in_every_view_and_its_own() -> None:
    """Its own line is corrected only by an inbound MEET."""
    seen = own(view("3x0"), 1, address=address(1, moved=True))
    assert sorted(names(facts(seen, "3x0").stale_addresses())) == [(0, 1), (1, 1), (2, 1)]


def test_an_isolated_node_may_not_know_its_address() -> None:
    """A fresh node has none until it was met."""
    seen = own(fresh(2), 0, address=replace(address(0), ip=""))
    assert not names(facts(seen, "2x0").stale_addresses())


def test_noaddr_is_misplaced() -> None:
    """Whatever address the line shows."""
    seen = told(view("2x0"), 0, 1, flags=frozenset({Flag.NOADDR}))
    assert names(facts(seen, "2x0").stale_addresses()) == [(0, 1)]


def test_any_address_of_the_pod_will_do_unless_one_is_announced() -> None:
    """Dual stack pods have two; an announced one is the only right one."""
    seen = view("2x0")
    other = replace(address(1), ip="10.9.9.9")
    pod = replace(at(seen, 1).endpoint, addresses=("10.0.0.1", "10.9.9.9"))
    nodes = tuple(replace(n, endpoint=pod) if n.name == pod.name else n for n in seen.nodes)
    seen = own(replace(seen, nodes=nodes), 1, address=other)
    assert not names(facts(seen, "2x0").stale_addresses())
    seen = field(seen, 1, announced_ip="10.0.0.1")
    assert names(facts(seen, "2x0").stale_addresses()) == [(0, 1), (1, 1)]
    seen = own(seen, 1, address=replace(address(1), port=7000))
    assert names(facts(seen, "2x0").stale_addresses()) == [(0, 1), (1, 1)]


def test_outdated_is_what_only_headers_carry() -> None:
    """Slots, role, primary and epoch; a replica's epoch is its primary's."""
    seen = view("3x1")
    assert not names(facts(seen, "3x1").outdated_views())
    assert names(facts(told(seen, 0, 1, slots=SlotSet()), "3x1").outdated_views()) == [(0, 1)]
    assert names(facts(told(seen, 0, 1, config_epoch=7), "3x1").outdated_views()) == [(0, 1)]
    assert not names(facts(told(seen, 0, 3, config_epoch=7), "3x1").outdated_views())
    assert not names(facts(told(seen, 0, 1, link_up=False), "3x1").outdated_views())
    changed = told(seen, 0, 3, role=Role.PRIMARY, primary_id=None)
    assert names(facts(changed, "3x1").outdated_views()) == [(0, 3)]


def test_same_facts_compares_lines() -> None:
    """Ids and addresses aside."""
    assert same_facts(line(1, "1-3"), line(1, "1-3"))
    assert not same_facts(line(1, "1-3"), line(1, "1-4"))
    assert not same_facts(line(3, of=1), line(3, of=2))


def test_flagged_tells_who_says_what_of_a_live_node() -> None:
    """A gone one may fail as it likes."""
    seen = told(view("3x0"), 0, 1, flags=frozenset({Flag.PFAIL}))
    seen = told(seen, 0, 2, flags=frozenset({Flag.FAIL}))
    flagged = list(facts(without(seen, 2), "3x0").flagged())
    assert [(a.name, b.name, f) for a, b, f in flagged] == [
        ("redis-app-0", "redis-app-1", frozenset({Flag.PFAIL}))
    ]


def test_misgrouped_compares_shards_by_id_with_replication() -> None:
    """Only nodes that were asked, and never a node with itself."""
    seen = view("2x1")
    right = facts(seen, "2x1").true_shards
    assert right == {
        frozenset({node_id(0), node_id(2)}),
        frozenset({node_id(1), node_id(3)}),
    }
    assert not names(facts(field(seen, 0, shards=right), "2x1").shard_mismatches())
    wrong = frozenset({frozenset({node_id(i)}) for i in range(4)})
    assert names(facts(field(seen, 0, shards=wrong), "2x1").shard_mismatches()) == [
        (0, 1),
        (0, 2),
        (0, 3),
    ]


def test_replicas_are_so_by_their_own_word() -> None:
    """Whatever the primary believes."""
    seen = told(view("2x1"), 0, 2, primary_id=node_id(1))
    assert ordinals(facts(seen, "2x1").replicas_of(node_id(0))) == [2]
