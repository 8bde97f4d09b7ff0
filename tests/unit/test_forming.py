"""From single nodes to one cluster."""

from dataclasses import replace

from bootstrap.core import forming, introductions
from bootstrap.core.actions import (
    Action,
    AssignSlots,
    CopyFunctions,
    Meet,
    Replicate,
    SetConfigEpoch,
    SetNoFailover,
    Stage,
)
from bootstrap.core.facts import Facts
from bootstrap.core.findings import FindingCode
from bootstrap.core.planner import Policy, plan
from bootstrap.core.roles import assign_roles
from bootstrap.core.slots import SlotSet, even_split
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, Role
from tests.support.builders import (
    acquaint,
    address,
    at,
    counted,
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

HEALTHY = view("3x1")
ORDINAL = {node_id(i): i for i in range(500)}


def meets(actions: list[Action]) -> list[tuple[int, int]]:
    return [(ORDINAL[a.node], ORDINAL[a.target]) for a in actions if isinstance(a, Meet)]


def epochs(actions: list[Action]) -> list[tuple[int, int]]:
    return [(ORDINAL[a.node], a.epoch) for a in actions if isinstance(a, SetConfigEpoch)]


def assigned(actions: list[Action]) -> dict[int, str]:
    return {ORDINAL[a.node]: str(a.slots) for a in actions if isinstance(a, AssignSlots)}


def introduced(seen: ClusterView, desired: DesiredTopology | str) -> list[Action]:
    known = facts(seen, desired)
    return (forming.form if forming.may_assign_first_slots(known) else introductions.introduce)(
        known
    )


def test_a_fresh_start_is_one_plan() -> None:
    """Epochs, slots, then every shard meets, lower ordinal first."""
    actions = introduced(fresh(6), "3x1")
    assert epochs(actions) == [(i, i + 1) for i in range(6)]
    assert assigned(actions) == {i: str(s) for i, s in enumerate(even_split(3))}
    assert meets(actions) == [(0, 3), (1, 4), (2, 5)]
    kinds = [type(a) for a in actions]
    assert kinds == sorted(kinds, key=[SetConfigEpoch, AssignSlots, Meet].index)


def test_the_rest_of_a_broken_start_is_the_same() -> None:
    """What was done is kept: slots, epochs, links."""
    done = acquaint([node(0, str(even_split(3)[0]), epoch=1), node(1, epoch=2)])
    actions = introduced(joined(done, node(2)), "3x0")
    assert assigned(actions) == {1: str(even_split(3)[1]), 2: str(even_split(3)[2])}
    assert epochs(actions) == [(2, 3)]
    assert meets(actions) == [(0, 2), (1, 2)]


def test_slots_that_others_own_already_are_filled_up() -> None:
    """Another cut than ours is kept; the last takes the rest."""
    odd = joined(acquaint([node(0, "100-200", epoch=1), node(1, epoch=2)]), node(2))
    given = assigned(introduced(odd, "3x0"))
    assert sum(len(slots(s)) for s in given.values()) == 16384 - 101
    assert set(given) == {0, 1, 2}
    one = assigned(introduced(acquaint([node(0, "0-99", epoch=1), node(1, of=0)]), "1x1"))
    assert one == {0: "100-16383"}


def test_owners_of_another_cut_keep_what_they_have() -> None:
    """Primaries without slots join them, no more than are wanted."""
    other = acquaint([node(0, "9000-9099", epoch=1), *(node(i, epoch=i + 1) for i in (1, 2, 3))])
    given = assigned(introduced(other, "2x1"))
    assert set(given) == {0, 1}
    assert sum(len(slots(s)) for s in given.values()) == 16384 - 100


def test_fewer_primaries_than_wanted_take_all() -> None:
    """The others are replicas, for now."""
    few = acquaint([node(0, "0-99", epoch=1), node(1, of=0)])
    assert assigned(introduced(few, "2x0")) == {0: "100-16383"}


def test_nothing_is_assigned_where_something_could_be_lost() -> None:
    """Keys, or a member that is gone."""
    bare = own(HEALTHY, 0, slots=SlotSet())
    assert assigned(introduced(bare, "3x1")) == {0: "0-5461"}
    assert assigned(introduced(field(bare, 1, keys=1), "3x1")) == {}
    assert assigned(introduced(without(bare, 5), "3x1")) == {}


def test_newcomers_get_an_epoch_above_the_clusters() -> None:
    """Only while they are alone and have none; members are left alone."""
    seen = joined(HEALTHY, node(6), node(7, epoch=9))
    assert epochs(introduced(seen, "4x1")) == [(6, 10)]
    shaking = joined(HEALTHY, node(6, handshakes=frozenset({address(0)})), node(7))
    assert epochs(introduced(shaking, "4x1")) == [(7, 4)]


def test_only_missing_pairs_meet() -> None:
    """One MEET heals both directions."""
    one_sided = estranged(HEALTHY, 4, 1)
    assert meets(introduced(one_sided, "3x1")) == [(1, 4)]
    assert meets(introduced(estranged(one_sided, 1, 4), "3x1")) == [(1, 4)]
    assert introduced(HEALTHY, "3x1") == []


def test_a_handshake_under_way_is_not_repeated() -> None:
    """On whichever side it shows."""
    apart = estranged(estranged(HEALTHY, 4, 1), 1, 4)
    for who, to in ((1, 4), (4, 1)):
        shaking = field(apart, who, handshakes=frozenset({address(to)}))
        assert meets(introduced(shaking, "3x1")) == []


def test_a_moved_pod_is_met_by_everybody_and_by_one_for_itself() -> None:
    """A MEET to the pod corrects its own line; failovers are held meanwhile."""
    moved = own(HEALTHY, 0, address=address(0, moved=True))
    actions = introduced(moved, "3x1")
    assert sorted(meets(actions)) == [(i, 0) for i in range(1, 6)]
    holds = [a for a in actions if isinstance(a, SetNoFailover)]
    assert [(ORDINAL[h.node], h.no_failover) for h in holds] == [(3, True)]
    assert actions.index(holds[0]) == 0


def test_failovers_are_held_only_where_that_can_be_seen() -> None:
    """Not where CONFIG is closed to us, nor twice."""
    moved = own(HEALTHY, 0, address=address(0, moved=True))
    for value in (None, True):
        actions = introduced(field(moved, 3, no_failover=value), "3x1")
        assert not [a for a in actions if isinstance(a, SetNoFailover)]


def test_a_lone_moved_node_has_nobody_to_meet_it() -> None:
    """A cluster of one node needs no MEET."""
    lone = acquaint([node(0, "0-16383", epoch=1)], gone=[line(7)])
    moved = own(lone, 0, address=address(0, moved=True))
    assert meets(introduced(moved, "1x0")) == []


def test_without_replicas_all_meet_at_once() -> None:
    """Every pair once, lower ordinal first."""
    assert meets(introduced(fresh(3), "3x0")) == [(0, 1), (0, 2), (1, 2)]


def test_shards_that_met_are_replicated_before_others_meet() -> None:
    """Replicas of a shard do not wait for the handshakes of other shards."""
    seen = fresh(6)
    for number, share in enumerate(even_split(3)):
        seen = own(seen, number, slots=share)
    met = field(seen, 3, known={n.node_id: n.myself for n in (at(seen, 3), at(seen, 0))})
    met = field(met, 0, known={n.node_id: n.myself for n in (at(met, 3), at(met, 0))})
    met = field(met, 1, handshakes=frozenset({at(met, 4).address}))
    assert plan(met, wanted("3x1"), Policy()).stage is Stage.REPLICATE
    assert replicated(met) == [(3, 0)]
    assert meets(introduced(met, "3x1")) == [(2, 5)]
    after = own(met, 3, role=Role.REPLICA, primary_id=node_id(0))
    assert len(meets(introduced(after, "3x1"))) == 15 - 2


def test_a_large_cluster_meets_sparsely_and_leaves_the_rest_to_gossip() -> None:
    """All are connected; nobody else is sent while handshakes are open, and a bound holds then."""
    seen = fresh(250)
    sent = meets(introduced(seen, "250x0"))
    assert {(i, i + 1) for i in range(249)} <= set(sent)
    assert len(sent) < 5 * 250
    nearly = view("250x0")
    for number in range(250):
        near = {number + sign * hop for hop in introductions.HOPS for sign in (1, -1)} | {number}
        ids = {node_id(n) for n in near if 0 <= n < 250}
        known = {i: line for i, line in at(nearly, number).known.items() if i in ids}
        nearly = field(nearly, number, known=known)
    rest = meets(introduced(nearly, "250x0"))
    assert len(rest) <= introductions.MEETS_PER_PLAN
    assert max(sum(a == i for a, _ in rest) for i in range(250)) == introductions.MEETS_PER_NODE
    spreading = field(nearly, 7, handshakes=frozenset({at(nearly, 9).address}))
    assert meets(introduced(spreading, "250x0")) == []


def replicated(seen: ClusterView, desired: DesiredTopology | str = "3x1") -> list[tuple[int, int]]:
    known = facts(seen, desired)
    actions = forming.replicate(known, assign_roles(known))
    return [(ORDINAL[a.node], ORDINAL[a.primary]) for a in actions if isinstance(a, Replicate)]


def emptied(seen: ClusterView, *numbers: int) -> ClusterView:
    for number in numbers:
        seen = own(seen, number, role=Role.PRIMARY, primary_id=None)
    return seen


def test_slotless_primaries_become_replicas() -> None:
    """Such primaries go, by ordinal, to the shards where a replica is missing."""
    assert replicated(emptied(HEALTHY, 3, 4, 5)) == [(3, 0), (4, 1), (5, 2)]
    assert replicated(HEALTHY) == []


def test_a_replica_that_dials_an_old_address_is_told_its_primary_again() -> None:
    """The bus knows the primary's new address, but replication does not."""
    lost = field(field(HEALTHY, 4, link_up=False), 4, primary_ip="10.9.9.9")
    syncing = field(field(HEALTHY, 4, link_up=False), 4, primary_ip=address(1).ip)

    assert replicated(lost) == [(4, 1)]
    assert replicated(syncing) == []


def test_a_node_replicates_only_what_it_sees_as_a_primary() -> None:
    """The node's own view must show the primary as one, and so must the primary's view."""
    blind = emptied(HEALTHY, 5)
    assert replicated(estranged(blind, 5, 2)) == []
    assert replicated(with_line(blind, 5, 2, role=Role.REPLICA, primary_id=node_id(0))) == []


def test_a_node_with_keys_is_nobodys_replica() -> None:
    """Replication would delete the keys."""
    assert replicated(field(emptied(HEALTHY, 5), 5, keys=1)) == []


def test_a_replica_without_link_keeps_its_primary() -> None:
    """The replica may hold the newest copy of what its primary lost."""
    crowded = own(own(HEALTHY, 4, primary_id=node_id(0)), 5, primary_id=node_id(0))
    assert replicated(crowded) == [(4, 1), (5, 2)]
    assert replicated(field(crowded, 4, link_up=False)) == [(5, 2)]


def test_a_replica_with_keys_that_a_move_brought_is_kept() -> None:
    """The primary owned nothing yet, and has lost its link or its volume."""
    moving = own(emptied(HEALTHY, 5), 4, primary_id=node_id(5))
    assert replicated(moving) == [(4, 1), (5, 2)]
    cut = counted(field(moving, 4, link_up=False), {4: {3: 1}})
    assert replicated(cut) == [(5, 2)]
    gone = without(cut, 5)
    assert replicated(gone) == []
    assert replicated(replace(gone, slot_keys={})) == [(4, 1)]


def test_reasons_tell_new_replicas_from_moved_ones() -> None:
    """The log shows why a node becomes a replica."""
    known = facts(emptied(HEALTHY, 5), "3x1")
    (action,) = forming.replicate(known, assign_roles(known))
    assert isinstance(action, Replicate)
    assert action.reason is FindingCode.PRIMARY_COUNT
    known = facts(own(HEALTHY, 5, primary_id=node_id(4)), "3x1")
    (action,) = forming.replicate(known, assign_roles(known))
    assert isinstance(action, Replicate)
    assert action.reason is FindingCode.REPLICA_COUNT


def test_an_outdated_view_is_nudged_by_the_node_it_is_wrong_about() -> None:
    """Slots travel only in a node's own header."""
    seen = with_line(HEALTHY, 0, 1, slots=SlotSet())
    assert meets(introductions.refresh_views(facts(seen, "3x1"))) == [(1, 0)]
    shaking = field(seen, 1, handshakes=frozenset({address(0)}))
    assert meets(introductions.refresh_views(facts(shaking, "3x1"))) == []


def test_disagreement_on_shards_is_nudged_from_both_sides() -> None:
    """On Valkey the receiver sends the PING that carries the id."""
    right = facts(HEALTHY, "3x1").shard_ids
    pair = frozenset({node_id(0), node_id(3)})
    wrong = (right - {pair}) | {frozenset({node_id(0)}), frozenset({node_id(3)})}
    seen = field(view("3x1", commands=frozenset({"MYSHARDID"})), 5, shards=wrong)
    assert sorted(meets(introductions.refresh_views(facts(seen, "3x1")))) == [
        (0, 5),
        (3, 5),
        (5, 0),
        (5, 3),
    ]
    shaking = field(seen, 5, handshakes=frozenset({address(0)}))
    assert (5, 0) not in meets(introductions.refresh_views(facts(shaking, "3x1")))


def test_an_heir_is_not_nudged() -> None:
    """The MEET would cost it the votes that are on their way."""
    seen = with_line(with_line(HEALTHY, 1, 3, primary_id=node_id(2)), 2, 1, config_epoch=9)
    seen = without(own(seen, 0, flags=frozenset({Flag.FAIL})), 0)
    assert meets(introductions.refresh_views(facts(seen, "3x1"))) == [(1, 2)]


def test_holds_are_released() -> None:
    """On replicas, and on those that have become primaries since."""
    for number in (4, 1):
        actions = introductions.allow_failovers(
            facts(field(HEALTHY, number, no_failover=True), "3x1")
        )
        assert actions == [
            SetNoFailover(
                node=node_id(number), no_failover=False, reason=FindingCode.FAILOVER_DISABLED
            )
        ]


def test_functions_are_copied_onto_new_primaries() -> None:
    """The source is a slot owner that has the functions."""
    seen = acquaint([*view("2x0").nodes, node(2, epoch=3)])
    assert forming.copy_functions(facts(seen, "3x0")) == []
    seen = field(seen, 1, libraries=2)
    assert forming.copy_functions(facts(seen, "3x0")) == [
        CopyFunctions(source=node_id(1), target=node_id(2), reason=FindingCode.FUNCTIONS_MISSING)
    ]


def test_a_node_that_came_back_empty_takes_the_place_of_the_lost_one() -> None:
    """A replica where one is missing."""
    back = acquaint([*without(HEALTHY, 4).nodes, replace(node(4), node_id=node_id(4))])
    assert replicated(back) == [(4, 1)]
    assert at(back, 4).role is Role.PRIMARY
    assert Facts(back, wanted("3x1")).gone == frozenset()


def test_members_that_had_forgotten_each_other_are_introduced_again() -> None:
    """A FORGET travels with pings for 60 s, so *healthy* has to last a while after that."""
    apart = estranged(estranged(HEALTHY, 0, 1), 1, 0)
    meeting = introductions.introduce(facts(apart, "3x1"))
    assert introductions.reintroduces_members(apart, meeting)
    down = apart
    for number in range(6):
        down = field(down, number, state_ok=False)
    assert not introductions.reintroduces_members(down, meeting)
    newcomer = joined(HEALTHY, node(6))
    desired = DesiredTopology(nodes=7, replicas=1)
    assert not introductions.reintroduces_members(newcomer, introduced(newcomer, desired))
    moved = own(HEALTHY, 0, address=address(0, moved=True))
    assert not introductions.reintroduces_members(moved, introduced(moved, "3x1"))


def test_an_epoch_is_set_only_where_a_server_takes_one() -> None:
    """SET-CONFIG-EPOCH is refused where there is an epoch already, or a handshake."""
    for change in (
        {"current_epoch": 4},
        {"handshakes": frozenset({address(1)})},
    ):
        assert epochs(introduced(field(fresh(2), 0, **change), "2x0")) == [
            (1, 5 if "current_epoch" in change else 1)
        ]
    used = own(fresh(2), 0, config_epoch=4)
    assert epochs(introduced(used, "2x0")) == [(1, 5)]


def test_uncovered_slots_fill_up_owners_that_have_less_than_their_share() -> None:
    """An owner with more than its share gets none, others are filled up to it in order."""
    seen = acquaint([node(0, "0-9999", epoch=1), node(1, "10000-10099", epoch=2), node(2)])
    assert assigned(introduced(seen, "3x0")) == {1: "10100-15461", 2: "15462-16383"}


def test_a_handshake_in_the_other_direction_does_not_refresh_a_view() -> None:
    """Only the node that is seen wrong sends its header with a MEET of its own."""
    seen = with_line(view("3x0"), 0, 1, slots=slots("5462-5470"))
    assert len(introductions.refresh_views(facts(seen, "3x0"))) == 1
    shaking = field(seen, 0, handshakes=frozenset({address(1)}))
    assert len(introductions.refresh_views(facts(shaking, "3x0"))) == 1
    shaking = field(seen, 1, handshakes=frozenset({address(0)}))
    assert introductions.refresh_views(facts(shaking, "3x0")) == []


def test_shard_ids_are_refreshed_from_both_sides() -> None:
    """A handshake of one side leaves the MEET of the other."""
    ids = frozenset(node_id(number) for number in range(4))
    seen = field(view("2x1", commands=frozenset({"MYSHARDID"})), 3, shards=frozenset({ids}))

    def meets(seen: ClusterView) -> set[tuple[str, str]]:
        actions = introductions.refresh_views(facts(seen, "2x1"))
        return {(a.node, a.target) for a in actions if isinstance(a, Meet)}

    others = ids - {node_id(3)}
    both = {(node_id(3), i) for i in others} | {(i, node_id(3)) for i in others}
    assert meets(seen) == both
    shaking = field(seen, 0, handshakes=frozenset({address(3)}))
    assert meets(shaking) == both - {(node_id(0), node_id(3))}


def test_holds_are_those_of_the_actions_in_order() -> None:
    """A hold that is released is none any more, and others stay."""
    why = FindingCode.ADDRESS_STALE
    hold = SetNoFailover(node=node_id(3), no_failover=True, reason=why)
    release = replace(hold, no_failover=False)
    before = frozenset({node_id(4)})
    assert introductions.holds_after(before, [hold]) == {node_id(3), node_id(4)}
    assert introductions.holds_after(before, [hold, release]) == before
    assert introductions.holds_after(before, [release, hold]) == {node_id(3), node_id(4)}
