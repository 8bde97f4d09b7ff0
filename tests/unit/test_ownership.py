"""Slots that are not simply owned: every case that `redis-cli --cluster fix` knows, and more."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootstrap.core import key_holders, open_slots, ownership, refusals
from bootstrap.core.actions import Action, ClaimSlots, CloseSlots, Failover, GatherKeys, MoveSlots
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, Role
from tests.support.builders import (
    acquaint,
    at,
    counted,
    endpoint,
    estranged,
    facts,
    field,
    joined,
    line,
    node,
    node_id,
    own,
    slots,
    view,
    with_line,
    without,
)

HEALTHY = view("3x0")
SLOT = 5
A, B, C = 0, 1, 2  # A owns the slot


def shown(actions: Sequence[Action]) -> list[str]:
    """Write actions as people would say them."""
    ordinal = {node_id(i): "ABCDEFGH"[i] for i in range(8)}
    words = []
    for action in actions:
        match action:
            case CloseSlots(node=n, slots=s):
                words.append(f"close {s} at {ordinal[n]}")
            case ClaimSlots(node=n, slots=s):
                words.append(f"claim {s} for {ordinal[n]}")
            case GatherKeys(source=a, target=b, slots=s):
                words.append(f"gather {s} {ordinal[a]}>{ordinal[b]}")
            case MoveSlots(source=a, target=b, slots=s):
                words.append(f"move {s} {ordinal[a]}>{ordinal[b]}")
            case Failover(node=n, mode=m):
                words.append(f"{m} {ordinal[n]}")
            case _:
                raise AssertionError(action)
    return words


def opened(
    migrating: dict[int, int],
    importing: dict[int, int],
    keys: dict[int, int],
    *,
    seen: ClusterView = HEALTHY,
) -> ClusterView:
    for source, target in migrating.items():
        seen = field(seen, source, migrating={SLOT: node_id(target)})
    for target, source in importing.items():
        seen = field(seen, target, importing={SLOT: node_id(source)})
    return counted(seen, {number: {SLOT: count} for number, count in keys.items()})


@pytest.mark.parametrize(
    ("migrating", "importing", "keys", "expected"),
    [
        # 1. one migrating, one importing: the move is finished
        ({A: B}, {B: A}, {A: 9, B: 2}, ["move 5 A>B"]),
        ({A: B}, {B: A}, {B: 2}, ["move 5 A>B"]),
        # 2. only importing: keys come back to the owner
        ({}, {B: A}, {B: 2}, ["gather 5 B>A"]),
        ({}, {B: A}, {}, ["close 5 at B"]),
        ({}, {B: A, C: A}, {B: 2}, ["close 5 at C", "gather 5 B>A"]),
        # 3. one migrating, several importing: to the one that the owner names
        ({A: C}, {B: A, C: A}, {A: 1}, ["close 5 at B", "move 5 A>C"]),
        # what a third node has goes where the move goes: to gather at the owner would close it
        ({A: C}, {B: A, C: A}, {A: 1, B: 1}, ["gather 5 B>C", "move 5 A>C"]),
        ({A: C}, {C: A}, {A: 1, B: 1}, ["gather 5 B>C", "move 5 A>C"]),
        # 4. only migrating: nothing has moved that would not be gathered
        ({A: B}, {}, {A: 4}, ["close 5 at A"]),
        ({A: B}, {}, {A: 4, B: 2}, ["gather 5 B>A"]),
        # migrating to one that does not import, while another does
        ({A: B}, {C: A}, {C: 3}, ["gather 5 C>A"]),
        # somebody who does not own it says migrating
        ({C: B}, {}, {}, ["close 5 at C"]),
        # the target is a node that nobody has seen
        ({A: 7}, {}, {}, ["close 5 at A"]),
        # an owner that imports what it owns
        ({}, {A: B}, {A: 1}, ["close 5 at A"]),
    ],
)
def test_open_slots(
    migrating: dict[int, int], importing: dict[int, int], keys: dict[int, int], expected: list[str]
) -> None:
    """Finished where both ends agree, else reverted; keys always come along."""
    seen = opened(migrating, importing, keys)
    assert shown(open_slots.close_open_slots(facts(seen, "3x0"))) == expected


def test_a_move_to_a_leaving_node_is_reverted() -> None:
    """Slots at a leaving node would have to move again."""
    seen = opened({A: C}, {C: A}, {A: 3, C: 1})
    known = facts(seen, DesiredTopology(nodes=2, replicas=0))
    assert shown(open_slots.close_open_slots(known)) == ["gather 5 C>A"]


def test_a_move_to_a_replica_is_reverted() -> None:
    """The target failed over meanwhile; replicas hold copies, not keys of their own."""
    seen = opened({A: 3}, {3: A}, {A: 1, 3: 1}, seen=view("3x1"))
    assert shown(open_slots.close_open_slots(facts(seen, "3x1"))) == ["close 5 at A"]


@pytest.mark.parametrize(
    ("replica", "at_primary", "expected"),
    [
        (3, {}, ["close 5 at A"]),  # a replica of the owner
        (4, {}, ["close 5 at B"]),
        (3, {"migrating": {SLOT: node_id(B)}}, ["close 5 at A"]),
    ],
)
def test_what_only_a_replica_shows_open_is_closed_at_its_primary(
    replica: int, at_primary: dict[str, object], expected: list[str]
) -> None:
    """The replica missed the close; a primary that shows the slot open is handled by itself."""
    seen = field(view("3x1"), replica, migrating={SLOT: node_id(B)})
    seen = field(seen, A, **at_primary)
    assert shown(open_slots.close_open_slots(facts(seen, "3x1"))) == expected


@pytest.mark.parametrize("primary", [9, 4])
def test_a_replica_without_primary_is_not_told_to_close(primary: int) -> None:
    """A new primary closes the slot at its replica."""
    seen = field(view("3x1"), 3, migrating={SLOT: node_id(B)})
    seen = own(seen, 3, primary_id=node_id(primary))
    assert open_slots.close_open_slots(facts(seen, "3x1")) == []


def test_open_slots_without_owner_are_adopted_first() -> None:
    """Nothing can be closed towards nobody."""
    seen = own(opened({}, {B: A}, {B: 2}), A, slots=slots("0-4,6-5461"))
    assert open_slots.close_open_slots(facts(seen, "3x0")) == []
    assert shown(ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False)) == [
        "claim 5 for B"
    ]


def test_a_move_told_to_the_target_alone_is_finished() -> None:
    """Both own the slot, the source still migrates."""
    seen = with_line(opened({A: B}, {}, {B: 2}), B, B, slots=at(HEALTHY, B).slots | slots("5"))
    assert shown(open_slots.close_open_slots(facts(seen, "3x0"))) == ["move 5 A>B"]


def test_a_move_told_to_the_source_alone_is_adopted() -> None:
    """Nobody owns the slot; the importing end has the keys."""
    seen = own(HEALTHY, A, slots=at(HEALTHY, A).slots - slots("5"))
    seen = counted(field(seen, B, importing={SLOT: node_id(A)}), {B: {SLOT: 3}})
    assert shown(ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False)) == [
        "claim 5 for B"
    ]


UNOWNED = own(HEALTHY, A, slots=at(HEALTHY, A).slots - slots("5-7"))


def test_orphans_go_to_the_node_with_most_keys() -> None:
    """The keys of other nodes are gathered there at once."""
    seen = counted(UNOWNED, {B: {5: 1, 6: 2}, C: {5: 4}})
    assert shown(ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False)) == [
        "claim 5 for C",
        "claim 6 for B",
        "gather 5 B>C",
    ]


def test_keys_weigh_more_than_importing() -> None:
    """An importing node without keys takes the slot only where nobody has any."""
    seen = field(UNOWNED, C, importing={5: node_id(A), 6: node_id(A)})
    seen = counted(seen, {B: {5: 1}})
    assert shown(ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False)) == [
        "claim 5 for B",
        "claim 6 for C",
    ]


def test_a_replicas_copy_does_not_make_it_the_owner() -> None:
    """A replica owns nothing, so it can give nothing to its copy."""
    seen = own(view("3x1"), A, slots=slots("0-4,6-5461"))
    seen = counted(seen, {3: {5: 1}})
    assert ownership.claim_uncovered_slots(facts(seen, "3x1"), allow_data_loss=False) == []


def test_lost_slots_are_spread_by_consent() -> None:
    """Evenly, over the primaries with the fewest."""
    seen = joined(without(HEALTHY, C), replace(node(50), endpoint=endpoint(C)))
    known = facts(seen, "3x0")
    assert ownership.claim_uncovered_slots(known, allow_data_loss=False) == []
    claims = ownership.claim_uncovered_slots(known, allow_data_loss=True)
    assert SlotSet(sum(c.slots.mask for c in claims if isinstance(c, ClaimSlots))) == slots(
        "10923-16383"
    )
    assert len(claims) == 1
    uneven = own(own(HEALTHY, C, slots=SlotSet()), A, slots=slots("0-5"))
    assert [
        len(c.slots)
        for c in ownership.claim_uncovered_slots(facts(uneven, "3x0"), allow_data_loss=True)
        if isinstance(c, ClaimSlots)
    ] == [5462, 5455]


def test_nothing_is_given_away_before_replicas_inherit() -> None:
    """Replicas may hold keys of slots that nobody owns."""
    seen = own(lost_primary(Flag.PFAIL), 1, slots=slots("5463-10922"))
    assert ownership.claim_uncovered_slots(facts(seen, "3x1"), allow_data_loss=True) == []
    promoted = own(seen, 3, role=Role.PRIMARY, primary_id=None, slots=slots("0-5461"))
    assert len(ownership.claim_uncovered_slots(facts(promoted, "3x1"), allow_data_loss=True)) == 1


def test_what_is_left_of_a_lost_nodes_keys_is_kept() -> None:
    """Consent is for keys that nobody has: the slot goes to whoever has some."""
    seen = joined(without(HEALTHY, C), replace(node(50), endpoint=endpoint(C)))
    seen = counted(seen, {B: {10923: 1}, A: {10923: 5}})
    assert facts(seen, "3x0").in_question == slots("10923-16383")
    actions = shown(ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=True)[:1])
    assert actions == ["claim 10923 for A"]
    assert shown(
        ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=True)[-1:]
    ) == ["gather 10923 B>A"]


def test_nobody_to_give_lost_slots_to() -> None:
    """Only replicas are left, so nothing is planned."""
    seen = own(
        own(view("2x0"), 0, role=Role.REPLICA, primary_id=node_id(9), slots=SlotSet()),
        1,
        role=Role.REPLICA,
        primary_id=node_id(9),
        slots=SlotSet(),
    )
    assert ownership.claim_uncovered_slots(facts(seen, "2x0"), allow_data_loss=True) == []


def lost_primary(
    flags: Flag | None, *, shape: str = "3x1", gone: tuple[int, ...] = (0,)
) -> ClusterView:
    seen = view(shape)
    for number in gone:
        seen = own(seen, number, flags=frozenset({flags} if flags else ()))
    return without(seen, *gone)


def test_a_replica_inherits_when_its_primary_failed() -> None:
    """The one that has read most; with a quorum by election."""
    seen = lost_primary(Flag.FAIL, shape="3x2")
    seen = field(field(seen, 3, replication_offset=5), 6, replication_offset=9)
    assert shown(ownership.promote_replicas_of_gone(facts(seen, "3x2"))) == ["force G"]
    tied = field(seen, 3, replication_offset=9)
    assert shown(ownership.promote_replicas_of_gone(facts(tied, "3x2"))) == ["force D"]
    empty = field(tied, 6, keys=1)
    assert shown(ownership.promote_replicas_of_gone(facts(empty, "3x2"))) == ["force G"]


def test_no_failover_before_the_servers_agree_on_the_failure() -> None:
    """Once they agree, the replicas elect one by themselves."""
    for flags in (None, Flag.PFAIL):
        assert ownership.promote_replicas_of_gone(facts(lost_primary(flags), "3x1")) == []


def test_takeover_where_nobody_can_vote() -> None:
    """Most primaries are gone; one suspicion is enough, there will be no agreement."""
    seen = lost_primary(Flag.PFAIL, gone=(0, 1))
    assert sorted(shown(ownership.promote_replicas_of_gone(facts(seen, "3x1")))) == [
        "takeover D",
        "takeover E",
    ]
    assert ownership.promote_replicas_of_gone(facts(lost_primary(None, gone=(0, 1)), "3x1")) == []


def half_moved(*, keys: dict[int, int], offset: int = 0) -> ClusterView:
    """Return a move of slot 5 from A to a primary without slots, which was lost with its volume.

    Its replicas are D and E, as far as they hold keys of the slot.
    """
    newcomer = node(7)
    seen = acquaint([*view("3x1").nodes, newcomer])
    seen = field(seen, A, migrating={SLOT: node_id(7)})
    for number in keys:
        if number > C:
            seen = own(seen, number, primary_id=node_id(7))
    seen = field(seen, 4, replication_offset=offset)
    return without(counted(seen, {number: {SLOT: count} for number, count in keys.items()}), 7)


def test_a_replica_is_promoted_that_alone_has_what_was_moved() -> None:
    """The primary owned nothing yet, so nobody elects; the slot stays open until then."""
    seen = half_moved(keys={A: 9, 3: 2})
    known = facts(seen, "3x1")
    assert ownership.promote_replicas_of_gone(known) == []
    assert shown(ownership.promote_last_copies(known)) == ["takeover D"]
    assert open_slots.close_open_slots(known) == []
    promoted = facts(own(seen, 3, role=Role.PRIMARY, primary_id=None), "3x1")
    assert ownership.promote_last_copies(promoted) == []
    assert shown(open_slots.close_open_slots(promoted)) == ["gather 5 D>A"]


def test_one_replica_is_promoted_of_several() -> None:
    """The one that read most; the others have nothing more than it has."""
    seen = half_moved(keys={3: 2, 4: 2}, offset=5)
    assert shown(ownership.promote_last_copies(facts(seen, "3x1"))) == ["takeover E"]
    assert shown(ownership.promote_last_copies(facts(half_moved(keys={3: 2, 4: 2}), "3x1"))) == [
        "takeover D"
    ]
    promoted = facts(own(seen, 4, role=Role.PRIMARY, primary_id=None), "3x1")
    assert ownership.promote_last_copies(promoted) == []
    assert open_slots.close_open_slots(promoted) == []  # D has to replicate again first


def test_replicas_that_need_no_rescue() -> None:
    """One is about to follow who was elected; one has no key; one does not know its primary."""
    seen = half_moved(keys={A: 9, 3: 2})
    slower = with_line(seen, 3, 7, slots=slots("9"))
    assert ownership.promote_last_copies(facts(slower, "3x1")) == []
    assert ownership.promote_last_copies(facts(half_moved(keys={A: 9, 3: 0}), "3x1")) == []
    assert ownership.promote_last_copies(facts(estranged(seen, 3, 7), "3x1")) == []


def test_servers_that_do_not_count_what_a_replica_was_moved() -> None:
    """Redis from 8.4 on: all keys count, where an owner's move led to the primary that is gone."""
    seen = half_moved(keys={3: 1, 4: 1})
    for number in range(6):
        seen = field(seen, number, version=(8, 4, 0))
    seen = replace(field(seen, 4, keys=2), slot_keys={})
    known = facts(seen, "3x1")
    assert shown(ownership.promote_last_copies(known)) == ["takeover E"]
    assert open_slots.close_open_slots(known) == []
    promoted = own(seen, 4, role=Role.PRIMARY, primary_id=None)
    assert ownership.promote_last_copies(facts(promoted, "3x1")) == []
    alone = own(promoted, 3, primary_id=node_id(A))
    alone = replace(field(alone, B, keys=1), stray_keys={node_id(B): 1, node_id(4): 2})
    assert shown(open_slots.close_open_slots(facts(alone, "3x1"))) == [
        "gather 5 B>A",
        "gather 5 E>A",
    ]
    idle = field(seen, A, migrating={})
    assert ownership.promote_last_copies(facts(idle, "3x1")) == []


def test_a_contested_slot_waits_for_the_replica_too() -> None:
    """Finishing its move closes it everywhere."""
    seen = half_moved(keys={A: 9, 3: 2})
    seen = with_line(seen, B, B, slots=at(seen, B).slots | slots("5"))
    seen = field(seen, A, migrating={SLOT: node_id(B)})
    assert open_slots.close_open_slots(facts(seen, "3x1")) == []


def test_nobody_votes_for_the_replica_of_a_primary_without_slots() -> None:
    """Somebody gives slots to the primary, but its replica never heard of that."""
    seen = with_line(lost_primary(Flag.FAIL), 3, 0, slots=SlotSet())
    assert shown(ownership.promote_replicas_of_gone(facts(seen, "3x1"))) == ["takeover D"]


def test_an_heir_that_does_not_know_its_primary_waits() -> None:
    """The replica's own line names the primary, but its table does not have it."""
    seen = lost_primary(Flag.FAIL)
    heir = at(seen, 3)
    seen = field(seen, 3, known={i: k for i, k in heir.known.items() if i != node_id(0)})
    assert ownership.promote_replicas_of_gone(facts(seen, "3x1")) == []


def test_nobody_inherits_without_replica() -> None:
    """Slots without any replica are a matter for refusals."""
    assert ownership.promote_replicas_of_gone(facts(without(HEALTHY, 0), "3x0")) == []


def contest(epochs: tuple[int, int], keys: dict[int, int]) -> ClusterView:
    seen = with_line(HEALTHY, B, B, slots=at(HEALTHY, B).slots | slots("5"))
    seen = own(own(seen, A, config_epoch=epochs[0]), B, config_epoch=epochs[1])
    return counted(seen, {number: {5: count} for number, count in keys.items()})


@pytest.mark.parametrize(
    ("epochs", "keys", "expected"),
    [
        ((3, 2), {A: 4}, []),  # the servers will settle it rightly
        ((2, 3), {A: 4}, ["claim 5 for A"]),
        ((2, 2), {A: 4}, ["claim 5 for A"]),  # tied: the servers would go by id
        ((2, 2), {B: 4}, ["claim 5 for B"]),
        ((2, 3), {}, []),
        ((2, 2), {}, ["claim 5 for A"]),
        ((2, 3), {A: 9, B: 1}, []),  # B was elected in A's place; what A has is old
        ((2, 2), {A: 9, B: 1}, []),  # refused
    ],
)
def test_contests(epochs: tuple[int, int], keys: dict[int, int], expected: list[str]) -> None:
    """A node that holds keys needs a higher epoch than a claimant that holds none."""
    assert shown(ownership.resolve_contested_slots(facts(contest(epochs, keys), "3x0"))) == expected


@pytest.mark.parametrize(
    "change", [{"flags": frozenset({Flag.PFAIL})}, {"flags": frozenset({Flag.FAIL})}, {}]
)
@pytest.mark.parametrize("who", [A, B])
def test_nobody_claims_while_the_bus_is_cut(who: int, change: dict[str, frozenset[Flag]]) -> None:
    """Clients may write to both owners then; nor is a move between the two finished."""
    seen = field(contest((2, 3), {A: 4}), A, migrating={5: node_id(B)})
    assert shown(ownership.resolve_contested_slots(facts(seen, "3x0"))) == ["claim 5 for A"]
    assert shown(open_slots.close_open_slots(facts(seen, "3x0"))) == ["move 5 A>B"]
    cut = with_line(seen, who, B if who == A else A, link_up=bool(change), **change)
    assert ownership.resolve_contested_slots(facts(cut, "3x0")) == []
    assert open_slots.close_open_slots(facts(cut, "3x0")) == []


def test_a_claim_must_not_win_other_slots() -> None:
    """A new epoch counts for all slots: clients deleted the keys of one at the elected node."""
    seen = contest((2, 3), {A: 4})
    seen = with_line(seen, B, B, slots=at(seen, B).slots | slots("5-6"))
    seen = counted(seen, {A: {5: 4, 6: 4}, B: {6: 1}})
    assert ownership.resolve_contested_slots(facts(seen, "3x0")) == []


def test_slots_that_others_remember_go_back() -> None:
    """Keys that another node holds weigh more than what others remember."""
    forgetful = with_line(HEALTHY, A, A, slots=slots("8-5461"))
    assert shown(
        ownership.claim_uncovered_slots(facts(forgetful, "3x0"), allow_data_loss=False)
    ) == ["claim 0-7 for A"]
    everywhere = counted(forgetful, {B: dict.fromkeys(range(8), 1)})
    assert shown(
        ownership.claim_uncovered_slots(facts(everywhere, "3x0"), allow_data_loss=False)
    ) == ["claim 0-7 for B"]
    moved = counted(forgetful, {B: {5: 1}})
    assert shown(ownership.claim_uncovered_slots(facts(moved, "3x0"), allow_data_loss=False)) == [
        "claim 5 for B",
        "claim 0-4,6-7 for A",
    ]


def test_keys_of_a_replica_without_primary_wait_for_its_promotion() -> None:
    """A replica owns nothing, and no other node has the keys."""
    seen = acquaint([*UNOWNED.nodes, node(3, of=9)], gone=[line(9)])
    seen = counted(seen, {3: {5: 2}})
    assert ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False) == []


def test_among_nodes_with_keys_the_one_that_imports_the_slot_takes_it() -> None:
    """Importing outranks the number of keys, which outranks the ordinal."""
    unowned = own(HEALTHY, A, slots=slots("0-4,6-5461"))

    def claimed(keys: dict[int, int], *importing: int) -> list[str]:
        seen = unowned
        for number in importing:
            seen = field(seen, number, importing={SLOT: node_id(A)})
        seen = counted(seen, {number: {SLOT: count} for number, count in keys.items()})
        actions = ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False)
        return shown([a for a in actions if isinstance(a, ClaimSlots)])

    assert claimed({B: 2, C: 9}, B) == ["claim 5 for B"]
    assert claimed({B: 2, C: 9}) == ["claim 5 for C"]
    assert claimed({B: 2, C: 2}) == ["claim 5 for B"]
    assert claimed({B: 0, C: 1}, B) == ["claim 5 for C"]


def test_lost_slots_fill_up_primaries_to_their_share() -> None:
    """A primary that has its share already gets none of the slots that are lost."""
    seen = own(own(HEALTHY, C, slots=SlotSet()), B, slots=slots("5462-5561"))
    claims = ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=True)
    shares = {c.node: len(c.slots) for c in claims if isinstance(c, ClaimSlots)}
    assert shares == {node_id(C): 5462, node_id(B): 5360}
    seen = own(seen, A, slots=slots("0-49"))
    claims = ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=True)
    shares = {c.node: len(c.slots) for c in claims if isinstance(c, ClaimSlots)}
    assert shares == {node_id(C): 5462, node_id(A): 5412, node_id(B): 5360}


def test_lost_slots_are_not_given_away_without_consent() -> None:
    """A primary that has some of their keys does not change that."""
    seen = joined(without(HEALTHY, C), replace(node(50), endpoint=endpoint(C)))
    known = facts(counted(seen, {A: {10923: 5}}), "3x0")
    assert ownership.claim_uncovered_slots(known, allow_data_loss=False) == []
    assert ownership.claim_uncovered_slots(known, allow_data_loss=True) != []


def test_a_slot_in_transit_that_is_owned_is_not_claimed() -> None:
    """Only slots without an owner get a new one."""
    seen = own(HEALTHY, C, slots=slots("10924-16383"))
    seen = field(seen, B, importing={SLOT: node_id(A)})
    seen = counted(field(seen, A, migrating={SLOT: node_id(B)}), {A: {SLOT: 1}, B: {10923: 1}})
    actions = ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=False)
    assert shown(actions) == ["claim 10923 for B"]


def test_what_others_remember_is_not_spread_as_lost() -> None:
    """Each slot has one claimant, and what nobody remembers is spread by consent."""
    forgetful = with_line(own(HEALTHY, C, slots=slots("10923-16000")), A, A, slots=slots("8-5461"))
    claims = ownership.claim_uncovered_slots(facts(forgetful, "3x0"), allow_data_loss=True)
    assert shown(claims) == ["claim 0-7,16382-16383 for A", "claim 16001-16381 for C"]


HIDING = field(
    field(field(HEALTHY, A, version=(8, 6, 0)), B, version=(8, 6, 0)), C, version=(8, 6, 0)
)


def hidden(seen: ClusterView, **keys: int) -> ClusterView:
    """Let pods have keys of slots that they do not show."""
    ordinals = {name: "ABC".index(name) for name in keys}
    for name, number in ordinals.items():
        seen = field(seen, number, keys=keys[name])
    return replace(seen, stray_keys={node_id(ordinals[n]): count for n, count in keys.items()})


def claimed(seen: ClusterView, *, consent: bool = False) -> list[str]:
    """Return what is done about slots without an owner."""
    return shown(ownership.claim_uncovered_slots(facts(seen, "3x0"), allow_data_loss=consent))


def test_keys_that_the_target_of_a_stopped_move_hides_are_gathered() -> None:
    """Somebody closed the slot at the target only; its keys are not seen there, but exist."""
    seen = hidden(opened({A: B}, {}, {A: 4}, seen=HIDING), B=2)
    assert shown(open_slots.close_open_slots(facts(seen, "3x0"))) == ["gather 5 B>A"]


def test_the_slot_of_a_move_goes_on_although_another_node_hides_keys() -> None:
    """Such keys may be of any slot, and are gathered where the move goes."""
    seen = hidden(opened({A: B}, {B: A}, {A: 4}, seen=HIDING), C=2)
    assert shown(open_slots.close_open_slots(facts(seen, "3x0"))) == ["gather 5 C>B", "move 5 A>B"]


def test_a_slot_goes_to_who_may_hide_its_keys_and_not_to_an_empty_importer() -> None:
    """Where neither has a key of it nothing is lost either; what others have is gathered."""
    unowned = own(HIDING, A, slots=slots("0-4,6-5461"))
    seen = field(unowned, B, importing={SLOT: node_id(A)})
    assert claimed(seen) == ["claim 5 for B"]
    assert claimed(hidden(seen, A=2)) == ["claim 5 for A"]
    assert claimed(hidden(seen, A=2, C=1)) == ["claim 5 for A", "gather 5 C>A"]
    with_keys = counted(hidden(seen, A=2), {B: {SLOT: 1}})
    assert claimed(with_keys) == ["claim 5 for B", "gather 5 A>B"]


def test_slots_without_a_trace_are_refused_in_the_name_of_who_may_have_their_keys() -> None:
    """With consent that one takes them, so that nothing is lost that it has."""
    seen = HIDING
    for number in (A, B, C):
        for other in (A, B, C):
            left = slots("0-4,6-5461") if other == A else at(seen, other).slots
            seen = with_line(seen, number, other, slots=left)
    seen = hidden(own(seen, A, slots=slots("0-4,6-5461")), B=3, C=1)
    (refusal,) = refusals.refuse_data_loss(facts(seen, "3x0"), allow_data_loss=False)
    assert refusal.node == "redis-app-1"
    assert refusal.cause == (
        "no node owns slots 5, and redis-app-1 has 3 keys of slots that it does not own"
    )
    assert claimed(seen) == []
    assert claimed(seen, consent=True) == ["claim 5 for B", "gather 5 C>B"]


def test_a_node_that_imports_keeps_its_last_slot_until_that_is_closed() -> None:
    """A server without slots becomes a replica and deletes what it has imported."""
    seen = own(HEALTHY, A, slots=slots("5"))
    seen = field(seen, A, migrating={5: node_id(B)}, importing={6000: node_id(B)})
    seen = field(seen, B, importing={5: node_id(A)}, migrating={6000: node_id(A)})
    seen = counted(seen, {A: {5: 1, 6000: 2}, B: {6000: 2}})
    assert shown(open_slots.close_open_slots(facts(seen, "3x0"))) == ["move 6000 B>A"]
    closed = field(field(seen, A, importing={}), B, migrating={})
    assert shown(open_slots.close_open_slots(facts(closed, "3x0"))) == ["move 5 A>B"]


@pytest.mark.parametrize("consent", [False, True])
def test_keys_on_their_way_to_a_member_that_is_gone_need_consent(*, consent: bool) -> None:
    """What had arrived there is lost with the member, as the keys of its own slots would be."""
    seen = acquaint([*HEALTHY.nodes, node(6)])
    seen = without(field(seen, A, migrating={SLOT: node_id(6)}, keys=4), 6)
    found = refusals.refuse_data_loss(facts(seen, "3x0"), allow_data_loss=consent)
    assert [refusal.node for refusal in found] == ([] if consent else ["redis-app-0"])
    assert all("was moving slots 5 to member" in refusal.cause for refusal in found)
    elsewhere = counted(seen, {A: {SLOT: 1}, B: {SLOT: 1}})
    assert refusals.refuse_data_loss(facts(elsewhere, "3x0"), allow_data_loss=False) == ()
    empty = field(seen, A, keys=0)
    assert refusals.refuse_data_loss(facts(empty, "3x0"), allow_data_loss=False) == ()


@pytest.mark.parametrize(
    ("first", "second", "best", "is_refused"),
    [
        ((100, 5), (90, 9), 3, False),  # what both say decides
        ((100, 5), (0, 5), 3, False),
        ((100, 5), (0, 6), 4, True),
        ((0, 5), (0, 6), 4, False),  # all were restarted
        ((100, 0), (0, 0), 3, False),
    ],
)
def test_a_replica_that_does_not_say_what_it_has_read_is_not_taken_for_an_old_one(
    first: tuple[int, int], second: tuple[int, int], best: int, *, is_refused: bool
) -> None:
    """Some servers start with offset 0 whatever is in their files; then a person decides."""
    seen = own(view("3x1"), 4, primary_id=node_id(A))
    for number, (offset, keys) in ((3, first), (4, second)):
        seen = field(seen, number, replication_offset=offset, keys=keys)
    seen = field(without(seen, A), B, keys=9)
    known = facts(seen, "3x1")
    assert key_holders.freshest(known.successors_of(node_id(A))) == at(seen, best)
    found = refusals.refuse_data_loss(known, allow_data_loss=False)
    assert [refusal.node for refusal in found] == (["redis-app-4"] if is_refused else [])
