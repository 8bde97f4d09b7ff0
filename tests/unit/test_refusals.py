"""Every refusal, and what is just short of it."""

from dataclasses import replace

from bootstrap.core import ownership
from bootstrap.core.actions import Failover, Refusal
from bootstrap.core.key_holders import slots_with_keys
from bootstrap.core.planner import Policy
from bootstrap.core.situation import Situation
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology, Flag, Outsider, Role
from tests.support.builders import (
    absent,
    acquaint,
    at,
    counted,
    endpoint,
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


def refusals(
    seen: ClusterView, desired: DesiredTopology | str = "3x1", *, consent: bool = False
) -> tuple[Refusal, ...]:
    return Situation(facts(seen, desired), Policy(allow_data_loss=consent)).refusals


def test_whole_and_fresh_clusters_are_not_refused() -> None:
    """A healthy cluster and pods without a cluster are the two ordinary cases."""
    assert refusals(HEALTHY) == ()
    assert refusals(fresh(6)) == ()


def test_cluster_mode_off() -> None:
    """The refusal names the pod, even while others are absent."""
    seen = field(absent(fresh(6), 0), 3, cluster_enabled=False)
    assert [r.node for r in refusals(seen)] == ["redis-app-3"]


def test_too_old_a_server() -> None:
    """Redis 6.2 is the oldest version that is accepted."""
    assert refusals(field(HEALTHY, 1, version=(6, 2, 0))) == ()
    (refusal,) = refusals(field(HEALTHY, 1, version=(6, 0, 16)))
    assert refusal.node == "redis-app-1"
    assert "redis 6.0.16" in refusal.cause


def test_two_pods_with_one_id() -> None:
    """A copied volume; both are named."""
    copy = replace(at(HEALTHY, 1), endpoint=endpoint(6), run_id="other")
    (refusal,) = refusals(joined(HEALTHY, copy))
    assert "redis-app-1" in refusal.cause
    assert "redis-app-6" in refusal.cause
    assert refusal.node == "redis-app-1"
    assert "node id" in refusal.cause


def test_one_process_behind_two_names() -> None:
    """The run id tells it from a copy."""
    again = replace(at(HEALTHY, 1), endpoint=endpoint(6))
    (refusal,) = refusals(joined(HEALTHY, again))
    assert "same process" in refusal.cause
    assert refusal.node == "redis-app-1"


def test_keys_on_a_node_of_no_cluster() -> None:
    """Joining would lose them; a replica that lost its peers is no such case."""
    (refusal,) = refusals(field(fresh(6), 2, keys=7))
    assert refusal.node == "redis-app-2"
    assert "7 keys" in refusal.cause
    alone = own(field(fresh(6), 2, keys=7), 2, role=Role.REPLICA, primary_id=node_id(9))
    assert not [r for r in refusals(alone) if "in no cluster" in r.cause]


def test_two_clusters_that_own_slots() -> None:
    """The slots of the two clusters overlap."""
    other = acquaint([node(3, "0-8191"), node(4, "8192-16383")])
    (refusal,) = refusals(joined(view("3x0"), *other.nodes), "5x0")
    assert "redis-app-0 and redis-app-3 belong to 2 different clusters" in refusal.cause
    assert refusal.node == "redis-app-3"


def test_four_clusters_that_own_slots() -> None:
    """Three of them are named; each of the four owns some slots of its own."""
    quarters = ("0-4095", "4096-8191", "8192-12287", "12288-16383")
    pairs = [
        acquaint([node(2 * n, part, keys=1), node(2 * n + 1)]) for n, part in enumerate(quarters)
    ]
    seen = ClusterView(nodes=tuple(member for pair in pairs for member in pair.nodes))
    (refusal,) = (r for r in refusals(seen, "8x0") if "different" in r.cause)
    names = "redis-app-0 and redis-app-2 and redis-app-4 belong to 4 different clusters"
    assert refusal.cause.startswith(names)
    assert refusal.node == "redis-app-2"


def test_two_clusters_with_data_apart() -> None:
    """The two clusters own different slots, and both have keys."""
    one = acquaint([node(0, "0-8191", keys=1), node(1)])
    other = acquaint([node(2, "8192-16383", keys=1), node(3)])
    assert len(refusals(joined(one, *other.nodes), "4x0")) == 1
    empty = field(joined(one, *other.nodes), 2, keys=0)
    assert refusals(empty, "4x0") == ()


def test_a_cluster_with_members_elsewhere() -> None:
    """Other members of that cluster are none of the pods."""
    foreign = acquaint([node(3, "8192-16383")], gone=[line(30)])
    one = acquaint([node(0, "0-8191"), node(1), node(2)])
    causes = [r.cause for r in refusals(joined(one, *foreign.nodes), "4x0")]
    assert "different clusters" in causes[0]


def test_a_broken_start_is_one_cluster() -> None:
    """All members are ours, no node owns what another owns, one group has keys."""
    assert refusals(ClusterView(nodes=(node(0, "0-8191"), node(1, "8192-16383"))), "2x0") == ()


def test_members_of_pods_that_are_missing_here_are_not_another_cluster() -> None:
    """Another run that found every pod is making the cluster; an unknown member more is foreign."""
    parts = ("0-5460", "5461-10922", "10923-16383")
    apart = [acquaint([node(n, parts[n])], gone=[line(30)] if n == 1 else []) for n in range(3)]
    seen = joined(apart[0], *apart[1].nodes, *apart[2].nodes, *fresh(6).nodes[3:])
    assert refusals(absent(seen, 4)) == ()
    causes = [refusal.cause for refusal in refusals(seen)]
    assert any("different clusters" in cause for cause in causes)
    pair = joined(view("3x0"), *acquaint([node(3)], gone=[line(30)]).nodes, node(4))
    assert refusals(absent(pair, 4), "5x0") == ()
    assert len(refusals(pair, "5x0")) == 1


def test_a_pod_of_another_cluster_without_slots_here() -> None:
    """The pod knows nodes that no other pod knows."""
    foreign = acquaint([node(3)], gone=[line(30), line(31)])
    (refusal,) = refusals(joined(view("3x0"), *foreign.nodes), "4x0")
    assert "redis-app-3 is in another cluster: it knows 2 nodes outside" in refusal.cause
    assert refusal.node == "redis-app-3"
    two = acquaint([node(4), node(3)], gone=[line(30)])
    (refusal,) = refusals(joined(view("3x0"), *two.nodes), "5x0")
    assert "redis-app-3 is in another cluster: it knows 1 node outside" in refusal.cause
    alone = acquaint([node(0)], gone=[line(30)])
    assert not [r for r in refusals(joined(alone, node(1)), "2x0") if "another" in r.cause]


def test_a_live_member_that_is_no_pod() -> None:
    """A member is refused if it says its id, or if another member is connected to it."""
    gone = line(50, link_up=False)
    for link_up, is_verified, count in (
        (False, True, 1),
        (True, False, 1),
        (False, False, 0),
        (True, True, 1),
    ):
        seen = acquaint(HEALTHY.nodes, gone=[gone])
        seen = with_line(seen, 0, 50, link_up=link_up)
        outsider = Outsider(node_id=node_id(50), address=gone.address, is_verified=is_verified)
        found = refusals(replace(seen, outsiders=(outsider,)))
        assert len(found) == count
        for refusal in found:
            assert f"{gone.address} (node id" in refusal.cause
            assert "not one of the configured pods" in refusal.cause


def test_an_outsider_that_no_pod_knows_is_not_refused() -> None:
    """Such a node is no member any more."""
    outsider = Outsider(node_id=node_id(50), address=line(50).address, is_verified=True)
    assert refusals(replace(HEALTHY, outsiders=(outsider,))) == ()


def test_a_replica_that_copied_another_node_at_its_primarys_address() -> None:
    """The replica has nothing to be promoted with, while one that did not copy has."""
    newcomer = node(0, node_id=node_id(9), known={node_id(9): line(9)})
    seen = own(view("3x2"), 0, flags=frozenset({Flag.FAIL}))
    seen = ClusterView(nodes=(newcomer, *seen.nodes[1:]))
    for number in (3, 6):
        seen = field(seen, number, primary_ip="10.0.0.0")
    assert refusals(seen, "3x2") == ()
    seen = field(seen, 1, keys=5)
    (refusal,) = refusals(seen, "3x2")
    assert refusal.node == "redis-app-3"
    assert refusals(seen, "3x2", consent=True) == ()
    assert ownership.promote_replicas_of_gone(facts(seen, "3x2")) == []
    spared = field(seen, 6, link_up=False)
    assert refusals(spared, "3x2") == ()
    heirs = ownership.promote_replicas_of_gone(facts(spared, "3x2"))
    assert [a.node for a in heirs if isinstance(a, Failover)] == [node_id(6)]


def test_slots_of_a_lost_primary() -> None:
    """With a replica there is no refusal, with consent neither."""
    lost = joined(without(view("3x0"), 2), replace(node(50), endpoint=endpoint(2)))
    (refusal,) = refusals(lost, "3x0")
    assert "10923-16383" in refusal.cause
    assert "BOOTSTRAP_ALLOW_DATA_LOSS" in refusal.remedy
    assert refusals(lost, "3x0", consent=True) == ()
    assert refusals(without(HEALTHY, 2), "3x1") == ()


def test_slots_of_nobody() -> None:
    """Where keys are left, or no key ever was, there is nothing to lose."""
    bare = own(view("3x0"), 0, slots=slots("1-5461"))
    assert refusals(bare, "3x0") == ()
    (refusal,) = refusals(field(bare, 1, keys=4), "3x0")
    assert "no node owns slots 0 " in refusal.cause
    assert refusals(counted(bare, {1: {0: 4}}), "3x0") == ()
    importing = field(field(bare, 1, keys=4), 2, importing={0: node_id(0)})
    assert refusals(importing, "3x0") == ()


def test_two_owners_with_keys_and_one_epoch() -> None:
    """Nothing says which is right; a move that told its target is no such case."""
    seen = with_line(view("3x0"), 1, 1, slots=slots("5-6,5462-10922"), config_epoch=1)
    both = counted(seen, {0: {5: 9, 6: 2}, 1: {5: 1}})
    (refusal,) = refusals(both, "3x0")
    assert "redis-app-0 and redis-app-1 own slots 5 with one config epoch" in refusal.cause
    assert refusals(both, "3x0", consent=True) == (refusal,)
    assert refusals(counted(seen, {0: {5: 9}}), "3x0") == ()
    assert refusals(with_line(both, 1, 1, config_epoch=2), "3x0") == ()
    handed = field(both, 0, migrating={5: node_id(1)})
    assert refusals(handed, "3x0") == ()


def test_data_is_not_judged_while_pods_are_absent() -> None:
    """The absent one may own the slots."""
    assert refusals(absent(view("3x0"), 2), "3x0") == ()


def test_keys_count_only_where_they_are_held() -> None:
    """Only numbers above zero that live nodes report count."""
    seen = counted(view("2x0"), {0: {5: 1, 6: 0}})
    assert slots_with_keys(facts(seen, "2x0"), slots("5-7")) == slots("5")
    ghost = replace(seen, slot_keys={node_id(9): {5: 1}})
    assert slots_with_keys(facts(ghost, "2x0"), slots("5-7")) == SlotSet()


def test_a_slot_that_only_a_replica_has_keys_of() -> None:
    """The next copy of a primary that lives deletes them; without a primary they count."""
    bare = counted(own(HEALTHY, 0, slots=slots("6-5461")), {4: {5: 2}, 1: {3: 1}})
    first, other = refusals(bare)
    assert first.node == "redis-app-4"
    assert "slots 5, and only redis-app-4 has keys of them" in first.cause
    assert "no node owns slots 0-2,4 and no node" in other.cause
    assert refusals(bare, consent=True) == ()
    owner_by_peers = with_line(
        bare, 4, 0, slots=at(HEALTHY, 0).slots
    )  # Redis 8.4 counts by that view
    assert refusals(owner_by_peers) == ()
    alone = own(bare, 4, primary_id=node_id(9))
    assert slots_with_keys(facts(alone, "3x1"), slots("5")) == SlotSet()
    known = acquaint(alone.nodes, gone=[line(9)])
    known = replace(known, slot_keys=bare.slot_keys)
    assert slots_with_keys(facts(known, "3x1"), slots("5")) == slots("5")


def test_groups_that_only_miss_a_link_are_one() -> None:
    """A node that knows both groups makes them one cluster."""
    assert refusals(estranged(estranged(HEALTHY, 0, 1), 1, 0)) == ()
    assert wanted("3x1").nodes == 6
