"""What follows from a view."""

from dataclasses import replace

from bootstrap.core.facts import Facts
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, NodeView, Role
from tests.support.builders import (
    absent,
    acquaint,
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
    view,
    wanted,
    with_line,
    without,
)


def ordinals(nodes: tuple[NodeView, ...]) -> list[int]:
    return [n.endpoint.ordinal for n in nodes]


def test_every_id_is_staying_leaving_or_gone() -> None:
    """The wanted number and whether a process answers decide which of the three an id is."""
    seen = without(view("3x1"), 2)
    known = facts(seen, DesiredTopology(nodes=4, replicas=1))
    assert ordinals(known.staying) == [0, 1, 3]
    assert ordinals(known.leaving) == [5, 4]
    assert known.gone == {node_id(2)}
    assert [*known.live] == [node_id(i) for i in (0, 1, 3, 5, 4)]


def test_a_leaving_pod_that_may_be_restarting_blocks_where_its_data_is_missing() -> None:
    """Such a pod is waited for where its slots, or keys moved to it, would be given up."""
    healthy = acquaint([*view("3x0").nodes, node(3, "", epoch=9)])
    owner = own(own(healthy, 0, slots=slots("1-5461")), 3, slots=slots("0"))
    source = field(field(healthy, 0, migrating={7: node_id(3)}), 0, keys=1)
    for seen, expected in ((owner, [3]), (source, [3]), (healthy, [])):
        gone = absent(seen, 3)
        silent = replace(gone, restarting=frozenset({"redis-app-3"}))
        assert [pod.ordinal for pod in facts(silent, "3x0").blocking_pods] == expected
        assert facts(gone, "3x0").blocking_pods == ()


def test_a_pod_that_is_not_wanted_and_no_member_is_left_alone() -> None:
    """Such a pod does not even count as leaving."""
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
    """Slots of a member that is gone count as well."""
    seen = without(view("2x0"), 0)
    assert len(facts(seen, "2x0").slot_groups) == 1
    assert facts(fresh(2), "2x0").slot_groups == ()


def test_slots_are_first_hand() -> None:
    """What others say of a live node counts for nothing."""
    seen = with_line(view("2x0"), 0, 1, slots=SlotSet())
    assert not facts(seen, "2x0").uncovered
    seen = with_line(view("2x0"), 1, 1, slots=slots("8192-16382"))
    assert facts(seen, "2x0").uncovered == slots("16383")


def test_slots_of_gone_are_neither_covered_nor_uncovered() -> None:
    """The views that are left still claim these slots."""
    seen = without(view("2x0"), 1)
    found = facts(seen, "2x0")
    assert found.slots_of_gone == {node_id(1): slots("8192-16383")}
    assert not found.uncovered
    assert found.owned == slots("0-8191")


def test_remembered_slots_are_those_that_somebody_still_gives_to_a_live_primary() -> None:
    """A node that lost its own nodes.conf is known by the others to have owned them."""
    seen = view("2x0")
    forgetful = with_line(seen, 1, 1, slots=SlotSet())
    assert facts(forgetful, "2x0").owner_by_peers == {node_id(1): slots("8192-16383")}
    assert facts(own(seen, 1, slots=SlotSet()), "2x0").owner_by_peers == {}
    assert facts(seen, "2x0").owner_by_peers == {}
    follower = with_line(forgetful, 1, 1, role=Role.REPLICA, primary_id=node_id(0))
    assert facts(follower, "2x0").owner_by_peers == {}
    assert facts(estranged(forgetful, 0, 1), "2x0").owner_by_peers == {}


def test_contested_are_slots_with_two_first_hand_owners() -> None:
    """Open ones are listed wherever they are open."""
    seen = with_line(view("2x0"), 1, 1, slots=slots("8191-16383"))
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


def test_replicas_are_so_by_their_own_word() -> None:
    """What the primary believes does not matter."""
    seen = with_line(view("2x1"), 0, 2, primary_id=node_id(1))
    assert ordinals(facts(seen, "2x1").replicas_of(node_id(0))) == [2]


def test_shards_have_their_primary_first_and_are_ordered_by_its_ordinal() -> None:
    """The order is that in which `status` shows shards."""
    turned = own(view("2x1"), 0, role=Role.REPLICA, primary_id=node_id(2), slots=SlotSet())
    turned = own(turned, 2, role=Role.PRIMARY, primary_id=None, slots=slots("0-8191"))
    assert [ordinals(shard) for shard in facts(turned, "2x1").shards] == [[1, 3], [2, 0]]
