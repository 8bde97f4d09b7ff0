"""When the reconciler may interrupt: not while anything still changes."""

from dataclasses import replace

from bootstrap.core.actions import Plan, Stage
from bootstrap.core.findings import Finding, FindingCode
from bootstrap.core.stillness import STILL_S, STILL_WITH_OPEN_SLOTS_S, Stillness
from bootstrap.core.topology import ClusterView
from tests.support.builders import absent, estranged, field, node_id, view

HEALTHY = view("3x1")
PLAN = Plan(stage=Stage.REBALANCE, findings=(Finding(code=FindingCode.SLOTS_UNEVEN),))
MOVED = Plan(stage=Stage.INTRODUCE, findings=(Finding(code=FindingCode.ADDRESS_STALE),))
OPEN = field(HEALTHY, 0, migrating={7: node_id(1)})


def still(*views: ClusterView) -> Stillness:
    """Return the stillness after observations that were a second apart, from second 0 on."""
    result = Stillness()
    for second, seen in enumerate(views):
        result = result.after(seen, now=float(second))
    return result


def test_an_unchanged_cluster_is_still_after_a_while() -> None:
    """The time counts from the first of the equal observations."""
    seen = still(HEALTHY, HEALTHY)
    assert seen.since == 0.0
    assert not seen.allows(PLAN, HEALTHY, now=STILL_S - 0.1)
    assert seen.allows(PLAN, HEALTHY, now=STILL_S)


def test_every_change_starts_the_time_again() -> None:
    """Roles, members, links, processes and missing pods."""
    changes = (
        estranged(HEALTHY, 0, 1),
        field(HEALTHY, 4, link_up=False),
        field(HEALTHY, 4, run_id="another"),
        field(HEALTHY, 0, state_ok=False),
        absent(HEALTHY, 5),
        OPEN,
    )
    for changed in changes:
        assert still(HEALTHY, changed).since == 1.0


def test_load_is_no_change() -> None:
    """Keys, memory and the replication offset change all the time."""
    busy = field(HEALTHY, 0, keys=9, used_memory=7, replication_offset=5, current_epoch=0)
    assert still(HEALTHY, busy).since == 0.0


def test_the_order_of_answers_is_no_change() -> None:
    """Nodes answer in any order."""
    turned = replace(HEALTHY, nodes=tuple(reversed(HEALTHY.nodes)))
    assert still(HEALTHY, turned).since == 0.0


def test_open_slots_are_left_alone_for_longer() -> None:
    """A tool may be moving a big key; keys that move are a change."""
    seen = still(OPEN, OPEN)
    assert not seen.allows(PLAN, OPEN, now=STILL_WITH_OPEN_SLOTS_S - 0.1)
    assert seen.allows(PLAN, OPEN, now=STILL_WITH_OPEN_SLOTS_S)
    fewer = replace(OPEN, slot_keys={node_id(0): {7: 1}})
    assert still(replace(OPEN, slot_keys={node_id(0): {7: 2}}), fewer).since == 1.0


def test_load_is_no_change_while_slots_are_open() -> None:
    """Clients add keys to other slots, and at the target to those of the open slot (ASK).

    Otherwise a slot that a dead tool left open would stay so as long as there are clients.
    """
    moving = field(OPEN, 1, importing={7: node_id(0)})
    busy = field(field(moving, 0, keys=9), 1, keys=9)
    busy = replace(busy, slot_keys={node_id(1): {7: 4}})
    assert still(moving, busy).since == 0.0


def test_stray_keys_that_go_back_to_the_owner_are_a_change() -> None:
    """So moves `redis-cli --cluster fix` the keys of a slot that only their holder shows open."""
    stray = field(HEALTHY, 1, importing={7: node_id(0)})
    more, fewer = (replace(stray, slot_keys={node_id(1): {7: count}}) for count in (2, 1))
    assert still(more, fewer).since == 1.0
    assert still(stray, field(stray, 0, keys=9)).since == 0.0


def test_pods_on_new_addresses_are_introduced_at_once() -> None:
    """Nothing but a restart makes them, and the servers cannot repair it."""
    assert still(HEALTHY).allows(MOVED, HEALTHY, now=0.0)
    other = replace(MOVED, findings=PLAN.findings)
    assert not still(HEALTHY).allows(other, HEALTHY, now=0.0)
