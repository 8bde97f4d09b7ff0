"""The model of what actions do, and what tells that they did."""

from dataclasses import replace

import pytest

from bootstrap.core.actions import (
    AssignSlots,
    BumpEpoch,
    ClaimSlots,
    CloseSlots,
    CopyFunctions,
    Failover,
    FailoverMode,
    Forget,
    GatherKeys,
    Meet,
    MoveSlots,
    Replicate,
    Reset,
    SetConfigEpoch,
    SetNoFailover,
    Stage,
)
from bootstrap.core.findings import FindingCode
from bootstrap.core.model import expected, forecast
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Flag, Role
from tests.support.builders import (
    POLICY,
    acquaint,
    address,
    at,
    estranged,
    field,
    fresh,
    joined,
    line,
    node,
    node_id,
    own,
    placed,
    slots,
    view,
    wanted,
    with_line,
)

HEALTHY = view("3x1")
WHY = FindingCode.SLOT_OPEN
FIVE = slots("5")
OPEN = field(
    field(HEALTHY, 0, migrating={5: node_id(1)}), 1, importing={5: node_id(0), 6: node_id(0)}
)
GHOST = line(9, flags=frozenset({Flag.FAIL}))
HAUNTED = field(HEALTHY, 0, known={**at(HEALTHY, 0).known, GHOST.node_id: GHOST})
BARE = own(HEALTHY, 0, slots=slots("0-4"))
ID = [node_id(i) for i in range(10)]


def test_a_bump_gives_the_highest_epoch() -> None:
    """The model takes the next epoch, although the server's choice cannot be known."""
    bump = BumpEpoch(node=ID[0], reason=WHY)
    after = expected(HEALTHY, bump)
    assert at(after, 0).myself.config_epoch == 4


def test_gossip_is_done_at_once() -> None:
    """All repeat what a node says of itself; handshakes are over, state follows coverage."""
    seen = field(HEALTHY, 2, handshakes=frozenset({address(1)}), state_ok=False)
    after = expected(seen, SetNoFailover(node=ID[5], no_failover=True, reason=WHY))
    assert all(n.state_ok and not n.handshakes for n in after.nodes)
    after = expected(BARE, SetNoFailover(node=ID[5], no_failover=True, reason=WHY))
    assert not any(n.state_ok for n in after.nodes)


def test_a_move_takes_the_slots_from_whoever_had_them() -> None:
    """The move closes the slots everywhere, and leaves other slots open."""
    after = expected(OPEN, MoveSlots(source=ID[0], target=ID[1], slots=FIVE, reason=WHY))
    assert 5 not in at(after, 0).slots
    assert 5 in at(after, 1).slots
    assert at(after, 1).importing == {6: ID[0]}
    assert at(after, 5).known[ID[1]].slots == at(after, 1).slots


def test_a_claim_takes_slots_from_a_member_that_is_gone() -> None:
    """Every view shows the new owner."""
    lost = acquaint(
        [node(0, "0-9", epoch=1), node(1, epoch=2)],
        gone=[line(9, "10-16383", config_epoch=3)],
    )
    after = expected(lost, ClaimSlots(node=ID[1], slots=slots("10-16383"), reason=WHY))
    assert all(not n.known[ID[9]].slots for n in after.nodes)
    assert at(after, 1).myself.config_epoch == 4


def test_a_stale_claim_of_a_gone_member_ends_with_gossip() -> None:
    """A view gives each slot to one node."""
    ghost = replace(GHOST, slots=slots("0-3"))
    seen = field(HEALTHY, 5, known={**at(HEALTHY, 5).known, ghost.node_id: ghost})
    after = expected(seen, SetNoFailover(node=ID[5], no_failover=True, reason=WHY))
    assert not at(after, 5).known[ID[9]].slots


def test_a_failover_turns_the_shard_around() -> None:
    """A second replica follows, and slots of a primary without process move as well."""
    after = expected(view("3x2"), Failover(node=ID[6], mode=FailoverMode.COORDINATED, reason=WHY))
    assert at(after, 6).slots == slots("0-5461")
    assert at(after, 0).myself.primary_id == ID[6]
    assert at(after, 3).myself.primary_id == ID[6]
    orphan = acquaint([node(1, of=9, epoch=3)], gone=[line(9, "0-16383", config_epoch=3)])
    after = expected(orphan, Failover(node=ID[1], mode=FailoverMode.TAKEOVER, reason=WHY))
    assert at(after, 1).slots == SlotSet.all()


def test_a_failover_of_a_primary_changes_nothing() -> None:
    """A node that is a primary already stays as it is."""
    after = expected(HEALTHY, Failover(node=ID[0], mode=FailoverMode.COORDINATED, reason=WHY))
    assert at(after, 0).slots == at(HEALTHY, 0).slots


def test_a_reset_leaves_the_old_id_with_the_others() -> None:
    """Other nodes know the old id until they forget it; the process has a new one."""
    after = expected(HEALTHY, Reset(node=ID[5], reason=WHY))
    reborn = at(after, 5)
    assert reborn.node_id != ID[5]
    assert reborn.is_isolated
    assert ID[5] in at(after, 0).known


def test_a_meet_gives_addresses_and_takes_marks_away() -> None:
    """The receiver learns its own address from it."""
    seen = own(HEALTHY, 1, address=address(1, moved=True))
    seen = with_line(seen, 0, 1, flags=frozenset({Flag.FAIL}))
    after = expected(seen, Meet(node=ID[0], target=ID[1], reason=WHY))
    assert at(after, 1).myself.address == address(1)
    assert at(after, 0).known[ID[1]].address == address(1)
    assert not at(after, 0).known[ID[1]].flags
    apart = estranged(estranged(HEALTHY, 0, 1), 1, 0)
    after = expected(apart, Meet(node=ID[0], target=ID[1], reason=WHY))
    assert ID[1] in at(after, 0).known
    assert ID[0] in at(after, 1).known


def test_a_forecast_is_the_plans_that_follow() -> None:
    """The forecast goes on until there is nothing left to do."""
    stages = [step.stage for step in forecast(fresh(6), wanted("3x1"), POLICY)]
    assert stages == [Stage.FORM, Stage.REPLICATE, Stage.INTRODUCE]
    assert list(forecast(HEALTHY, wanted("3x1"), POLICY)) == []


@pytest.mark.parametrize(
    ("zones", "shape"),
    [
        ("abcabc", "3x1"),
        ("aabbcc", "3x1"),
        ("ababab", "3x1"),
        ("aaabbb", "3x1"),
        ("abcabcabc", "3x2"),
    ],
)
def test_members_of_a_new_shard_meet_and_replicate_first(zones: str, shape: str) -> None:
    """Whatever the zones, the pairs that FORM introduces are those that REPLICATE is for."""
    pods = placed(fresh(len(zones)), {i: f"{zone}/n{i}" for i, zone in enumerate(zones)})
    plans = list(forecast(pods, wanted(shape), POLICY))
    assert [plan.stage for plan in plans] == [Stage.FORM, Stage.REPLICATE, Stage.INTRODUCE]
    met = {frozenset((a.node, a.target)) for a in plans[0].actions if isinstance(a, Meet)}
    following = {
        frozenset((a.node, a.primary)) for a in plans[1].actions if isinstance(a, Replicate)
    }
    assert met == following


def test_a_forecast_ends_where_actions_do_not_help() -> None:
    """Growth ends with the move of slots; very many stages are cut."""
    grown = joined(HEALTHY, *(node(i) for i in range(6, 20)))
    steps = list(forecast(grown, wanted("10x1"), POLICY))
    assert 3 <= len(steps) < 20
    assert steps[-1].stage is Stage.REBALANCE
    collided = view("30x0")
    for number in range(30):
        collided = own(collided, number, config_epoch=1)
    assert len(list(forecast(collided, wanted("30x0"), POLICY))) == 20


def test_each_action_changes_what_it_is_for() -> None:
    """Each kind of action that changes one field changes that one."""
    fresh_pods = expected(fresh(2), SetConfigEpoch(node=ID[0], epoch=4, reason=WHY))
    assert at(fresh_pods, 0).myself.config_epoch == 4
    owning = expected(fresh(2), AssignSlots(node=ID[0], slots=FIVE, reason=WHY))
    assert at(owning, 0).slots == FIVE
    seen = field(HEALTHY, 0, libraries=2, functions=frozenset({"digest"}))
    copied = expected(seen, CopyFunctions(source=ID[0], target=ID[1], reason=WHY))
    assert (at(copied, 1).libraries, at(copied, 1).functions) == (2, frozenset({"digest"}))
    follower = expected(OPEN, Replicate(node=ID[1], primary=ID[0], reason=WHY))
    assert at(follower, 1).myself.primary_id == ID[0]
    assert at(follower, 1).role is Role.REPLICA
    assert not at(follower, 1).importing
    forgotten = expected(HAUNTED, Forget(node=ID[0], gone=ID[9], reason=WHY))
    assert ID[9] not in at(forgotten, 0).known


def test_closing_a_slot_closes_it_on_the_replicas_too() -> None:
    """Other slots and other nodes stay as they are."""
    seen = field(OPEN, 3, migrating={5: ID[1], 6: ID[1]})
    after = expected(seen, CloseSlots(node=ID[0], slots=FIVE, reason=WHY))
    assert (at(after, 0).migrating, at(after, 3).migrating) == ({}, {6: ID[1]})
    assert at(after, 1).importing == {5: ID[0], 6: ID[0]}
    gathered = expected(OPEN, GatherKeys(source=ID[1], target=ID[0], slots=FIVE, reason=WHY))
    assert (at(gathered, 0).migrating, at(gathered, 1).importing) == ({}, {6: ID[0]})


def test_a_failover_changes_its_shard_and_nothing_else() -> None:
    """The old primary and its replicas follow the new one, and slots in transit are closed."""
    seen = field(field(view("3x2"), 0, migrating={5: ID[1]}), 1, importing={9: ID[2]})
    after = expected(seen, Failover(node=ID[6], mode=FailoverMode.COORDINATED, reason=WHY))
    promoted = at(after, 6).myself
    assert (promoted.role, promoted.primary_id) == (Role.PRIMARY, None)
    assert (promoted.slots, promoted.config_epoch) == (slots("0-5461"), 4)
    for number in (0, 3):
        follower = at(after, number).myself
        assert (follower.role, follower.primary_id) == (Role.REPLICA, ID[6])
        assert follower.slots == SlotSet()
    assert at(after, 0).migrating == {}
    assert at(after, 1).importing == {9: ID[2]}
    for number in (1, 2, 4, 5, 7, 8):
        assert at(after, number).myself == at(seen, number).myself


def test_a_reset_makes_a_fresh_node() -> None:
    """Role, epochs, keys and peers are gone, and the address is the one where it answers."""
    seen = own(HEALTHY, 5, flags=frozenset({Flag.FAIL}), address=address(5, moved=True))
    seen = field(seen, 5, keys=7, link_up=False)
    reborn = at(expected(seen, Reset(node=ID[5], reason=WHY)), 5)
    assert len(reborn.node_id) == len(ID[5])
    assert reborn.myself == replace(line(5), node_id=reborn.node_id)
    assert (reborn.current_epoch, reborn.keys, reborn.link_up) == (0, 0, True)
    primary = own(seen, 5, role=Role.PRIMARY, primary_id=None, slots=slots("5"), config_epoch=9)
    again = at(expected(primary, Reset(node=ID[5], reason=WHY)), 5)
    assert again.myself == reborn.myself


def test_gossip_follows_every_action() -> None:
    """Epochs, links, shard ids and the state of the cluster are those after the exchange."""
    ids = frozenset(ID[number] for number in range(6))
    seen = field(HEALTHY, 3, link_up=False, current_epoch=0, shards=frozenset({ids}))
    seen = field(seen, 4, state_ok=False)
    after = expected(seen, SetNoFailover(node=ID[5], no_failover=True, reason=WHY))
    assert at(after, 5).no_failover is True
    assert at(after, 4).state_ok
    assert at(after, 4).shards is None
    assert (at(after, 3).link_up, at(after, 3).current_epoch) == (True, 3)
    assert at(after, 3).shards == frozenset(
        frozenset({ID[number], ID[number + 3]}) for number in range(3)
    )
    only = expected(view("1x0"), BumpEpoch(node=ID[0], reason=WHY))
    assert at(only, 0).state_ok


def test_a_replica_owns_nothing() -> None:
    """What the node owned before is owned by nobody then."""
    after = expected(HEALTHY, Replicate(node=ID[0], primary=ID[1], reason=WHY))
    assert at(after, 0).slots == SlotSet()
    assert not at(after, 1).state_ok
