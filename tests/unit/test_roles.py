"""Who is primary, who replicates whom, and where."""

from collections import Counter
from collections.abc import Sequence

import pytest

from bootstrap.core.roles import Roles, assign_roles
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, NodeId, Place, Role
from tests.support.builders import (
    acquaint,
    facts,
    field,
    joined,
    node,
    node_id,
    own,
    placed,
    slots,
    view,
)

ORDINAL = {node_id(i): i for i in range(64)}


def roles(seen: ClusterView, desired: DesiredTopology | str) -> Roles:
    return assign_roles(facts(seen, desired))


def numbers(ids: Sequence[NodeId]) -> list[int]:
    return [ORDINAL[i] for i in ids]


def following(found: Roles) -> dict[int, int]:
    return {ORDINAL[a]: ORDINAL[b] for a, b in sorted(found.following.items())}


def test_roles_that_are_there_stay() -> None:
    """After a failover the roles stay, although the ordinals suggest others."""
    turned = own(view("3x1"), 0, role=Role.REPLICA, primary_id=node_id(3), slots=SlotSet())
    turned = own(turned, 3, role=Role.PRIMARY, primary_id=None, slots=slots("0-5461"))
    found = roles(turned, "3x1")
    assert numbers(found.primaries) == [1, 2, 3]
    assert following(found) == {0: 3, 4: 1, 5: 2}
    assert not [*found.new, *found.drain, *found.failovers, *found.convert]


def test_growth_takes_empty_members_as_primaries() -> None:
    """Lowest ordinal first without zones; others fill up as replicas."""
    seen = acquaint([*view("3x1").nodes, node(6, epoch=4), node(7, epoch=5)])
    found = roles(seen, "4x1")
    assert numbers(found.new) == [6]
    assert following(found) == {3: 0, 4: 1, 5: 2, 7: 6}


def test_growth_prefers_the_least_crowded_zone() -> None:
    """The new primary and its replica are in different zones."""
    seen = acquaint([*view("3x1").nodes, node(6, epoch=4), node(7, epoch=5)])
    zones = {0: "a/1", 1: "b/2", 2: "a/3", 3: "b/4", 4: "a/5", 5: "b/6", 6: "a/7", 7: "b/8"}
    found = roles(placed(seen, zones), "4x1")
    assert numbers(found.new) == [7]
    assert following(found)[6] == 7


def test_isolated_nodes_have_no_role_yet() -> None:
    """Isolated nodes are introduced before they get a role."""
    found = roles(joined(view("3x1"), node(6), node(7)), "4x1")
    assert found.new == ()
    assert found.convert == ()
    assert 6 not in following(found)


def test_too_many_primaries_are_drained() -> None:
    """Leaving ones first, then those with the fewest slots, then the highest ordinal."""
    assert numbers(roles(view("4x0"), "3x0").drain) == [3]
    merged = DesiredTopology(nodes=4, replicas=1)
    assert numbers(roles(view("4x0"), merged).drain) == [3, 2]
    small = own(own(view("4x0"), 0, slots=slots("0")), 1, slots=slots("1-8191"))
    assert numbers(roles(small, merged).drain) == [0, 3]


def test_a_leaver_hands_over_to_a_replica_that_stays() -> None:
    """Less work than moving its slots; only in sync, the lowest ordinal."""
    seen = acquaint(
        [
            node(0, "0-8191", epoch=1),
            node(1, of=4, epoch=2),
            node(2, of=4, epoch=2),
            node(3, of=0, epoch=1),
            node(4, "8192-16383", epoch=2),
        ]
    )
    desired = DesiredTopology(nodes=4, replicas=1)
    found = roles(seen, desired)
    assert numbers(found.failovers) == [1]
    assert numbers(found.primaries) == [0, 1]
    assert following(found) == {2: 1, 3: 0}
    behind = roles(field(seen, 1, link_up=False), desired)
    assert numbers(behind.failovers) == [2]


def test_a_leaver_without_heir_is_drained() -> None:
    """A staying empty node takes its place."""
    seen = acquaint([node(0, "0-8191", epoch=1), node(1, epoch=3), node(2, "8192-16383", epoch=2)])
    found = roles(seen, "2x0")
    assert numbers(found.drain) == [2]
    assert numbers(found.new) == [1]


def test_replicas_become_primaries_where_nodes_are_too_few() -> None:
    """The replica with the highest ordinal of the shard with most replicas is taken."""
    found = roles(view("2x2"), "3x1")
    assert numbers(found.convert) == [5]
    assert following(found) == {2: 0, 3: 1, 4: 0}
    assert roles(joined(view("2x2"), node(6), node(7)), "4x1").convert == ()


def test_heirs_and_converts_are_of_the_least_crowded_zone() -> None:
    """A zone with most primaries takes the quorum along; the ordinal comes after that."""
    zones = {0: "a/0", 1: "b/1", 2: "a/2", 3: "b/3", 4: "b/4", 5: "c/5"}
    seen = acquaint(
        [
            node(0, "0-8191", epoch=1),
            *(node(i, of=6, epoch=2) for i in (2, 5)),
            *(node(i, of=0, epoch=1) for i in (1, 3, 4)),
            node(6, "8192-16383", epoch=2),
        ]
    )
    found = roles(placed(seen, zones), "3x1")
    assert numbers(found.failovers) == [5]
    assert numbers(found.convert) == [4]
    found = roles(placed(seen, {**zones, 4: "a/4"}), "3x1")
    assert numbers(found.convert) == [3]


def test_an_heir_is_not_converted() -> None:
    """A replica that inherits slots becomes a primary anyway."""
    seen = acquaint(
        [
            node(0, of=3, epoch=2),
            node(1, "0-8191", epoch=1),
            node(2, of=1, epoch=1),
            node(3, "8192-16383", epoch=2),
        ]
    )
    found = roles(seen, "3x0")
    assert numbers(found.failovers) == [0]
    assert numbers(found.convert) == [2]


def test_too_many_replicas_go_where_some_lack() -> None:
    """A replica of a replica gets a primary as well."""
    crowded = own(own(view("3x1"), 4, primary_id=node_id(0)), 5, primary_id=node_id(0))
    assert following(roles(crowded, "3x1")) == {3: 0, 4: 1, 5: 2}
    chained = own(view("3x1"), 5, primary_id=node_id(3))
    assert following(roles(chained, "3x1"))[5] == 2


def test_a_replica_left_over_goes_where_one_is_missing() -> None:
    """Seven pods: one shard may have two replicas, none may have none."""
    seen = view("3x1")
    seen = acquaint([*own(seen, 5, primary_id=node_id(0)).nodes, node(6, of=1, epoch=2)])
    found = following(roles(seen, DesiredTopology(nodes=7, replicas=1)))
    assert sorted(Counter(found.values()).values()) == [1, 1, 2]
    assert sum(found[i] != {3: 0, 4: 1, 5: 0, 6: 1}[i] for i in found) == 1


def test_places_do_not_pile_replicas_up() -> None:
    """Counts come before domains: nobody has two more than another."""
    followers = [node(i, of=0, epoch=1) for i in range(2, 8)]
    seen = acquaint([*view("2x0").nodes, *followers])
    crowd = placed(seen, {0: "a/1", 1: "b/2", **dict.fromkeys(range(2, 8), "a/1")})
    found = following(roles(crowd, DesiredTopology(nodes=8, replicas=2)))
    assert max(Counter(found.values()).values()) == 3


def test_replicas_of_a_drained_node_watch_until_it_is_empty() -> None:
    """Replicas keep a copy of the keys that are still there."""
    found = roles(view("3x1"), DesiredTopology(nodes=6, replicas=2))
    drained = numbers(found.drain)
    assert drained == [2]
    assert 5 not in following(found)


def test_replicas_are_swapped_out_of_their_primaries_domain() -> None:
    """Replicas are swapped as long as that separates one from its primary."""
    where = {0: "a/1", 1: "b/2", 2: "a/1", 3: "b/2"}
    found = roles(placed(view("2x1"), where), "2x1")
    assert following(found) == {2: 1, 3: 0}
    hopeless = roles(placed(view("2x1"), dict.fromkeys(range(4), "a/1")), "2x1")
    assert following(hopeless) == {2: 0, 3: 1}


def test_a_new_replica_avoids_its_primarys_domain() -> None:
    """The domain decides among shards that lack the same number of replicas."""
    seen = own(
        own(view("2x1"), 2, role=Role.PRIMARY, primary_id=None),
        3,
        role=Role.PRIMARY,
        primary_id=None,
    )
    found = roles(placed(seen, {0: "a/1", 1: "b/2", 2: "a/3", 3: "b/4"}), "2x1")
    assert following(found) == {2: 1, 3: 0}


def test_no_owner_no_roles() -> None:
    """Nothing is settled without slots."""
    seen = acquaint([node(0, of=1), node(1, of=0)])
    assert following(roles(seen, DesiredTopology(nodes=2, replicas=1))) == {}


def test_of_two_leavers_the_one_without_a_successor_is_drained() -> None:
    """The other one can leave without moving a slot, also when it has fewer."""
    seen = acquaint(
        [
            node(0, "0-5461", epoch=1),
            node(1, of=3, epoch=2),
            node(2, of=0, epoch=1),
            node(3, "5462-5469", epoch=2),
            node(4, "5470-16383", epoch=3),
        ]
    )
    found = roles(seen, "2x0")
    assert numbers(found.drain) == [4]
    assert numbers(found.failovers) == [1]


def test_sharing_a_node_is_worse_than_sharing_a_zone() -> None:
    """A node fails more often than a zone."""
    one = Place(zone="a", node="1")
    assert one.overlap(Place(zone="b", node="2")) == 0
    assert one.overlap(Place(zone="a", node="2")) == 1
    assert one.overlap(Place(zone="b", node="1")) == 2
    assert one.overlap(one) == 3
    assert Place().overlap(Place()) == 0
    seen = emptied(emptied(view("2x1"), 2), 3)
    found = roles(placed(seen, {0: "a/1", 1: "b/2", 2: "a/2", 3: "b/1"}), "2x1")
    assert following(found) == {2: 0, 3: 1}


def emptied(seen: ClusterView, number: int) -> ClusterView:
    return own(seen, number, role=Role.PRIMARY, primary_id=None)


def test_swapping_goes_on_while_it_takes_members_of_a_domain_apart() -> None:
    """A swap can make another one useful that was not before."""
    places = {0: "b/1", 1: "c/2", 2: "a/1", 3: "b/0", 4: "a/1", 5: "a/2"}
    found = roles(placed(view("2x2"), places), "2x2")
    assert following(found) == {2: 1, 3: 1, 4: 0, 5: 0}


def test_a_shard_that_lacks_a_replica_comes_before_one_without_conflicts() -> None:
    """The wanted number is reached first, although the new replica shares a zone."""
    seen = acquaint([*view("2x0").nodes, node(2, of=0, epoch=1), node(3, of=9, epoch=1)])
    seen = placed(seen, {0: "a/1", 1: "b/2", 2: "c/3", 3: "b/4"})
    found = following(roles(seen, DesiredTopology(nodes=5, replicas=1)))
    assert Counter(found.values()) == {0: 1, 1: 1}


def test_a_shard_with_the_most_replicas_gets_no_further_one() -> None:
    """The surplus is spread before failure domains count."""
    replicas = [node(i, of=0 if i < 5 else 1, epoch=1) for i in range(2, 7)]
    seen = acquaint([*view("2x0").nodes, *replicas, node(7, of=9, epoch=1)])
    seen = placed(seen, {0: "a/0", 1: "b/1", 7: "b/7", **{i: f"c{i}/{i}" for i in range(2, 7)}})
    found = following(roles(seen, DesiredTopology(nodes=8, replicas=2)))
    assert Counter(found.values()) == {0: 3, 1: 3}


def test_an_heir_is_not_converted_before_another_replica() -> None:
    """An heir with the highest ordinal becomes a primary without a RESET."""
    seen = acquaint(
        [
            node(0, "0-8191", epoch=1),
            node(1, of=0, epoch=1),
            node(2, of=3, epoch=2),
            node(3, "8192-16383", epoch=2),
        ]
    )
    found = roles(seen, "3x0")
    assert (numbers(found.failovers), numbers(found.convert)) == ([2], [1])


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        ((0, 0, 0, 0, 1, 1), [5, 4]),
        ((0, 0, 0, 1, 1, 1), [7, 4]),
        ((1, 1, 1, 1, 0, 0), [5, 4]),
        ((0, 1, 1, 1, 1, 1), [7, 6]),
    ],
)
def test_converts_are_of_the_shards_with_the_most_replicas(
    shards: tuple[int, ...], expected: list[int]
) -> None:
    """The count of a shard falls with each replica that is taken from it."""
    followers = [node(i, of=shard, epoch=shard + 1) for i, shard in enumerate(shards, 2)]
    found = roles(acquaint([*view("2x0").nodes, *followers]), "4x1")
    assert numbers(found.convert) == expected


@pytest.mark.parametrize(
    ("zones", "expected"),
    [("abaabaab", [7, 3]), ("acaabaab", [7, 4])],
)
def test_a_convert_makes_its_zone_more_crowded(zones: str, expected: list[int]) -> None:
    """The next one is of a zone with fewer primaries, and of any zone where they are equal."""
    followers = [node(i, of=i // 5, epoch=i // 5 + 1) for i in range(2, 8)]
    seen = acquaint([*view("2x0").nodes, *followers])
    places = {i: f"{zone}/{i}" for i, zone in enumerate(zones)}
    assert numbers(roles(placed(seen, places), "4x1").convert) == expected


@pytest.mark.parametrize(
    ("zones", "expected"), [("abaab", [2, 4]), ("bcaab", [2, 3]), ("aabbb", [2, 3])]
)
def test_a_new_primary_makes_its_zone_more_crowded(zones: str, expected: list[int]) -> None:
    """The next one is of a zone with fewer primaries, and of any zone where they are equal."""
    seen = acquaint([*view("2x0").nodes, *(node(i, epoch=i) for i in (2, 3, 4))])
    places = {i: f"{zone}/{i}" for i, zone in enumerate(zones)}
    assert numbers(roles(placed(seen, places), "4x1").new) == expected


def test_a_shard_that_has_what_is_wanted_gives_no_replica_away() -> None:
    """A shard without a replica waits for the pod that is missing, wherever the others are."""
    seen = acquaint([*view("3x0").nodes, node(3, of=0, epoch=1), node(4, of=1, epoch=2)])
    seen = placed(seen, {0: "a/0", 1: "b/1", 2: "c/2", 3: "a/3", 4: "a/4"})
    assert following(roles(seen, "3x1")) == {3: 0, 4: 1}
