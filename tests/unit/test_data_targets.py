"""Nodes that are about to receive data, and whether they can take it."""

from typing import Any

from bootstrap.core.actions import Refusal
from bootstrap.core.data_targets import incoming, refuse_unfit_targets
from bootstrap.core.findings import FindingCode
from bootstrap.core.planner import Policy, plan
from bootstrap.core.slots import SLOT_COUNT
from bootstrap.core.topology import ClusterView, DesiredTopology
from tests.support.builders import (
    absent,
    acquaint,
    facts,
    field,
    fresh,
    joined,
    node,
    node_id,
    own,
    placed,
    slots,
    view,
    wanted,
)

MIB = 1 << 20
FAILED_SAVE = frozenset({"rdb_last_bgsave_status"})
# Three primaries with 60 MiB of keys each, and a fourth pod that is alone.
FULL = view("3x0", keys=600, data_bytes=60 * MIB, used_memory=62 * MIB)
GROWING = joined(FULL, node(3, used_memory=MIB))
SHRUNK = DesiredTopology(nodes=2, replicas=0)


def refusals(
    seen: ClusterView, desired: DesiredTopology | str, *, rebalance: bool = True
) -> tuple[Refusal, ...]:
    data = incoming(facts(seen, desired), rebalance=rebalance)
    return refuse_unfit_targets(facts(seen, desired), data) if data else ()


def test_healthy_targets_are_not_refused() -> None:
    """Nothing is refused where no slot is to move, or where nobody has keys."""
    assert refusals(GROWING, "4x0") == ()
    assert refusals(field(FULL, 0, persistence_errors=FAILED_SAVE), "3x0") == ()
    assert refusals(field(fresh(6), 0, persistence_errors=FAILED_SAVE), "3x1") == ()


def test_a_new_pod_whose_last_save_failed_is_refused_before_it_is_met() -> None:
    """The pod, the INFO field and the command are named, and nothing is planned."""
    seen = field(GROWING, 3, persistence_errors=FAILED_SAVE)
    (refusal,) = plan(seen, wanted("4x0"), Policy()).refusals
    assert refusal.node == "redis-app-3"
    assert "is to take slots" in refusal.cause
    assert "rdb_last_bgsave_status:err" in refusal.cause
    assert "run BGSAVE there" in refusal.remedy
    assert not plan(seen, wanted("4x0"), Policy()).actions


def test_errors_of_the_aof_count_too() -> None:
    """Each is named with the command that clears it."""
    errors = frozenset({"aof_last_write_status", "aof_last_bgrewrite_status"})
    found = refusals(field(GROWING, 3, persistence_errors=errors), "4x0")
    assert [r.node for r in found] == ["redis-app-3"] * 2
    assert all("run BGREWRITEAOF there" in r.remedy for r in found)


def test_sources_are_not_asked() -> None:
    """Moving slots away from a full disk is right."""
    assert refusals(field(GROWING, 0, persistence_errors=FAILED_SAVE), "4x0") == ()


def test_a_replica_of_a_target_has_to_save_too() -> None:
    """A replica gets every key that its primary gets."""
    seen = view("3x1", keys=600)
    seen = joined(seen, node(6), node(7))
    for number in (6, 7):
        (refusal,) = refusals(field(seen, number, persistence_errors=FAILED_SAVE), "4x1")
        assert refusal.node == f"redis-app-{number}"
    uneven = own(own(view("2x1", keys=9), 0, slots=slots("0-99")), 1, slots=slots("100-16383"))
    (refusal,) = refusals(field(uneven, 2, persistence_errors=FAILED_SAVE), "2x1")
    assert refusal.cause.startswith("redis-app-2 replicates redis-app-0, which is to take slots")
    assert refusals(field(uneven, 2, persistence_errors=FAILED_SAVE), "2x1", rebalance=False) == ()


def test_a_pod_that_is_to_copy_all_data() -> None:
    """A replica of a primary that has no part in any move."""
    seen = joined(view("3x0", keys=600), node(3), node(4), node(5))
    (refusal,) = refusals(field(seen, 5, persistence_errors=FAILED_SAVE), "3x1")
    assert refusal.node == "redis-app-5"
    assert refusal.cause.startswith("redis-app-5 is to copy the data of redis-app-")


def test_a_replica_that_is_to_become_primary() -> None:
    """The replica takes over from a primary that leaves, and takes no slots from others."""
    seen = acquaint(
        [
            node(0, "0-8191", epoch=1, keys=9),
            node(1, of=2, epoch=2, keys=9, persistence_errors=FAILED_SAVE),
            node(2, "8192-16383", epoch=2, keys=9),
        ]
    )
    (refusal,) = refusals(seen, SHRUNK)
    assert refusal.cause.startswith("redis-app-1 is to become primary, but its last RDB save")


def test_more_data_than_a_target_has_room_for() -> None:
    """A quarter of three primaries of 60 MiB comes: 45 MiB."""
    assert refusals(field(GROWING, 3, max_memory=46 * MIB), "4x0") == ()
    (refusal,) = refusals(field(GROWING, 3, max_memory=45 * MIB), "4x0")
    assert refusal.node == "redis-app-3"
    assert "45.0 MiB of data come to redis-app-3, which has room for 44.0 MiB" in refusal.cause
    assert "would refuse writes (noeviction)" in refusal.cause
    assert "maxmemory" in refusal.remedy


def test_a_policy_that_evicts_is_named() -> None:
    """Nobody would hear of the keys that go."""
    seen = field(GROWING, 3, max_memory=4 * MIB, eviction_policy="allkeys-lru")
    (refusal,) = refusals(seen, "4x0")
    assert "would evict keys (allkeys-lru)" in refusal.cause


def test_shrinking_into_too_little_memory() -> None:
    """Each staying primary needs room for its part."""
    seen = FULL
    for number in (0, 1):
        seen = field(seen, number, max_memory=93 * MIB)
    assert refusals(seen, SHRUNK) == ()
    (refusal,) = refusals(field(seen, 1, max_memory=91 * MIB), SHRUNK)
    assert refusal.node == "redis-app-1"


def test_a_replica_needs_room_for_the_data_of_its_primary() -> None:
    """Without room the replica would evict keys or refuse writes as soon as it is elected."""
    seen = joined(FULL, node(3), node(4), node(5, used_memory=MIB))
    assert refusals(field(seen, 5, max_memory=61 * MIB), "3x1") == ()
    (refusal,) = refusals(field(seen, 5, max_memory=60 * MIB), "3x1")
    assert refusal.node == "redis-app-5"
    assert "60.0 MiB" in refusal.cause


def test_a_replica_of_a_target_needs_room_for_what_comes_and_what_is_there() -> None:
    """The limit of the primary may be higher than that of its replica."""
    full = {"keys": 600, "data_bytes": 60 * MIB, "used_memory": 61 * MIB}
    seen = own(own(view("2x1", **full), 0, slots=slots("0-99")), 1, slots=slots("100-16383"))
    assert refusals(field(seen, 2, max_memory=92 * MIB), "2x1") == ()
    (refusal,) = refusals(field(seen, 2, max_memory=90 * MIB), "2x1")
    assert refusal.node == "redis-app-2"
    assert refusals(field(seen, 3, max_memory=MIB), "2x1") == ()


def test_a_replica_that_becomes_primary_needs_room_for_what_it_has() -> None:
    """The limit did not count while the node was a replica (replica-ignore-maxmemory)."""
    full: dict[str, Any] = {"keys": 9, "data_bytes": 9 * MIB, "used_memory": 10 * MIB}
    nodes = [
        node(0, "0-8191", epoch=1, **full),
        node(1, of=2, epoch=2, **full, max_memory=10 * MIB),
        node(2, "8192-16383", epoch=2, **full),
    ]
    assert refusals(acquaint(nodes), SHRUNK) == ()
    (refusal,) = refusals(field(acquaint(nodes), 1, max_memory=9 * MIB), SHRUNK)
    assert refusal.node == "redis-app-1"


def test_slots_that_an_heir_gives_away_count_with_the_size_of_its_primary() -> None:
    """The heir owns none yet."""
    full: dict[str, Any] = {"keys": 9, "data_bytes": 16 * MIB, "used_memory": 16 * MIB}
    nodes = [
        node(0, "0-3", epoch=1, keys=9, max_memory=7 * MIB),
        node(1, of=2, epoch=2, **full),
        node(2, "4-16383", epoch=2, **full),
    ]
    (refusal,) = refusals(acquaint(nodes), SHRUNK)
    assert "about 8.0 MiB" in refusal.cause


def test_a_target_that_wants_more_replicas_than_it_will_have() -> None:
    """The target would refuse all writes to the slots that it took."""
    assert refusals(field(view("3x1", keys=9), 0, min_replicas_to_write=2), "3x1") == ()
    seen = field(joined(view("3x1", keys=9), node(6), node(7)), 6, min_replicas_to_write=1)
    assert refusals(seen, "4x1") == ()
    (refusal,) = refusals(field(seen, 6, min_replicas_to_write=2), "4x1")
    assert refusal.node == "redis-app-6"
    assert "min-replicas-to-write" in refusal.cause


def test_copies_and_keys_that_a_server_cannot_read() -> None:
    """An older pod beside newer members, as replica and as target of slots."""
    seen = view("3x0", keys=9)
    older = joined(seen, node(3), node(4), node(5, version=(6, 2, 14)))
    (refusal,) = refusals(older, "3x1")
    assert "runs redis 6.2.14, its primary redis-app-" in refusal.cause
    found = refusals(joined(seen, node(3, version=(6, 2, 14))), "4x0")
    assert {r.node for r in found} == {"redis-app-3"}
    assert "cannot read the keys that would move to it" in found[0].cause
    assert len(found) == 1


def test_copies_of_servers_without_keys_are_checked_before_the_first_change() -> None:
    """An empty file of a later version cannot be loaded either; slots without keys can move."""
    members = view("3x0", version=(8, 6, 0))
    older = joined(members, *(node(number, version=(7, 0, 15)) for number in (3, 4, 5)))
    found = plan(older, wanted("3x1"), Policy())
    assert {refusal.node for refusal in found.refusals} == {f"redis-app-{n}" for n in (3, 4, 5)}
    assert not found.actions
    assert refusals(joined(members, node(3, version=(7, 0, 15))), "4x0") == ()
    new = fresh(6, version=(7, 0, 15))
    assert refusals(new, "3x1") == ()
    (refusal,) = plan(field(new, 1, version=(8, 6, 0)), wanted("3x1"), Policy()).refusals
    assert (refusal.node, "redis-app-1" in refusal.cause) == ("redis-app-4", True)
    assert refusals(field(new, 4, version=(8, 6, 0)), "3x1") == ()


def test_repairs_come_first() -> None:
    """While repairs are pending nobody knows which data will come where."""
    seen = field(GROWING, 3, persistence_errors=FAILED_SAVE)
    assert refusals(own(seen, 0, slots=slots("0-9")), "4x0") == ()
    assert refusals(field(seen, 0, migrating={5: node_id(1)}), "4x0") == ()
    assert refusals(absent(seen, 2), "4x0") == ()


def test_placement_is_left_as_it_is_where_a_replica_cannot_take_a_copy() -> None:
    """Placement is no part of a healthy cluster, so it is no reason to refuse."""
    apart = Policy(separate=True)
    seen = placed(view("3x1", keys=9), {number: f"zone-{number % 3}" for number in range(6)})
    assert plan(seen, wanted("3x1"), apart).actions
    for number in (3, 4, 5):
        seen = field(seen, number, persistence_errors=FAILED_SAVE)
    assert plan(seen, wanted("3x1"), apart).is_healthy


def test_a_copy_that_may_be_dropped_under_writes_is_noticed() -> None:
    """Below a tenth of the data, for new replicas and for the servers' own slot migration."""
    seen = joined(view("3x0", keys=600, data_bytes=60 * MIB), node(3), node(4), node(5))
    seen = field(seen, 1, replica_buffer=5 * MIB)
    assessed = plan(seen, wanted("3x1"), Policy())
    (notice,) = assessed.notices
    assert (notice.code, notice.node) == (FindingCode.REPLICA_BUFFER_SMALL, "redis-app-1")
    assert "60.0 MiB once 5.0 MiB of writes" in notice.detail
    assert assessed.actions
    refused = plan(field(seen, 2, persistence_errors=FAILED_SAVE), wanted("3x1"), Policy())
    assert (bool(refused.refusals), refused.notices) == (False, assessed.notices)
    refused = plan(field(seen, 4, persistence_errors=FAILED_SAVE), wanted("3x1"), Policy())
    assert (bool(refused.refusals), refused.notices) == (True, ())
    assert plan(field(seen, 1, replica_buffer=6 * MIB), wanted("3x1"), Policy()).notices == ()
    assert plan(field(seen, 1, replica_buffer=0), wanted("3x1"), Policy()).notices == ()
    growing = field(GROWING, 1, replica_buffer=MIB)
    assert plan(growing, wanted("4x0"), Policy()).notices == ()
    own_migration = field(growing, 1, commands=frozenset({"MIGRATION"}))
    (notice,) = plan(own_migration, wanted("4x0"), Policy()).notices
    assert "15.0 MiB once 1.0 MiB" in notice.detail


def test_a_healthy_cluster_has_no_such_notice() -> None:
    """Nothing copies anything; a link that is down is explained by the limit."""
    seen = view("3x1", keys=600, data_bytes=60 * MIB, replica_buffer=MIB)
    assert plan(seen, wanted("3x1"), Policy()).notices == ()
    (finding,) = plan(field(seen, 4, link_up=False), wanted("3x1"), Policy()).findings
    assert finding.code is FindingCode.REPLICA_LINK_DOWN
    assert "redis-app-4; redis-app-1 drops a copy of its 60.0 MiB" in finding.detail


def test_a_target_may_be_filled_to_the_last_byte() -> None:
    """Half of the slots move with half of the bytes; a copy takes all of them."""
    alone = view("1x0", keys=9, data_bytes=SLOT_COUNT)
    taken = SLOT_COUNT // 2
    for room, refused in ((taken, 0), (taken - 1, 1)):
        seen = joined(alone, node(1, used_memory=1000, max_memory=1000 + room))
        assert len(refusals(seen, "2x0")) == refused
    for room, refused in ((SLOT_COUNT, 0), (SLOT_COUNT - 1, 1)):
        assert len(refusals(joined(alone, node(1, max_memory=room)), "1x1")) == refused


def test_a_buffer_of_a_tenth_of_what_moves_is_not_noticed() -> None:
    """A buffer that is one byte smaller is noticed."""
    shard = view("1x1", keys=9, data_bytes=20 * SLOT_COUNT, commands=frozenset({"MIGRATION"}))
    for limit, noticed in ((SLOT_COUNT, 0), (SLOT_COUNT - 1, 1)):
        seen = joined(field(shard, 0, replica_buffer=limit), node(2), node(3))
        assert len(plan(seen, wanted("2x1"), Policy()).notices) == noticed


def test_keys_in_a_database_that_a_target_does_not_have() -> None:
    """A server ends itself when it copies one; as replica and as target of slots."""
    seen = view("3x0", keys=9, databases=16, highest_database=3)
    for few in (1, 3):
        (refusal,) = refusals(joined(seen, node(3, databases=few)), "4x0")
        assert refusal.node == "redis-app-3"
        assert "in database 3" in refusal.cause
        found = refusals(joined(seen, *(node(n, databases=few) for n in (3, 4, 5))), "3x1")
        assert {r.node for r in found} == {"redis-app-3", "redis-app-4", "redis-app-5"}
    for enough in (0, 4, 16):
        assert refusals(joined(seen, node(3, databases=enough)), "4x0") == ()
