"""Node ids that two processes have, and the data of a node whose nodes.conf is lost."""

from dataclasses import replace

from bootstrap.core.actions import Refusal
from bootstrap.core.copied_volumes import refuse_copied_volumes
from bootstrap.core.refusals import refuse_nodes
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Address, ClusterView, Flag, Outsider
from tests.support.builders import (
    at,
    endpoint,
    facts,
    field,
    fresh,
    joined,
    node,
    node_id,
    own,
    view,
    with_line,
    without,
)

HEALTHY = view("3x0")
ELSEWHERE = Address("10.9.9.9", 6379, 16379)


def refusals(seen: ClusterView, shape: str = "3x0") -> list[Refusal]:
    return list(refuse_copied_volumes(facts(seen, shape)))


def answering(
    seen: ClusterView, *, who: int = 1, is_verified: bool = True, address: Address = ELSEWHERE
) -> ClusterView:
    """Return the view with a process outside of the pods that has a pod's id."""
    other = Outsider(node_id=node_id(who), address=address, is_verified=is_verified)
    return replace(seen, outsiders=(*seen.outsiders, other))


def test_a_healthy_cluster_has_no_copies() -> None:
    """An outsider that has an id of its own is no copy either."""
    assert refusals(HEALTHY) == []
    assert refusals(answering(HEALTHY, who=9)) == []


def test_an_id_that_a_process_outside_of_the_pods_reports_as_its_own() -> None:
    """Both addresses and the file are named, once for the cluster."""
    (refusal,) = refusals(answering(answering(HEALTHY, who=2), who=1))
    assert refusal.node == "redis-app-1"
    assert "redis-app-1 (10.0.0.1:6379) and at 10.9.9.9:6379" in refusal.cause
    assert "nodes.conf" in refusal.remedy


def test_an_address_that_wants_a_password_has_the_id_where_members_have_a_link_to_it() -> None:
    """Servers close a link on which another id answers, and one to nobody goes down."""
    silent = answering(HEALTHY, is_verified=False)
    assert refusals(silent) == []
    linked = with_line(silent, 0, 1, address=ELSEWHERE)
    assert [r.node for r in refusals(linked)] == ["redis-app-1"]
    assert refusals(with_line(linked, 0, 1, link_up=False)) == []
    assert refusals(with_line(linked, 0, 1, flags=frozenset({Flag.PFAIL}))) == []
    assert refusals(with_line(silent, 1, 1, address=ELSEWHERE)) == []


def test_a_pod_with_a_second_address_family_is_no_copy() -> None:
    """Both addresses lead to the same process."""
    assert refusals(answering(HEALTHY, address=Address("fd00::9", 6379, 16379))) == []


def test_two_pods_with_one_id() -> None:
    """The run id tells a copy from one process behind two names."""
    copy = replace(at(HEALTHY, 1), endpoint=endpoint(3), run_id="other")
    (refusal,) = refusals(joined(HEALTHY, copy), "4x0")
    assert refusal.node == "redis-app-1"
    assert "redis-app-1" in refusal.cause
    assert "redis-app-3" in refusal.cause
    assert "nodes.conf" in refusal.remedy
    (refusal,) = refusals(joined(HEALTHY, replace(copy, run_id="run-1")), "4x0")
    assert "are the same process" in refusal.cause


def refusal_of_lost_file(seen: ClusterView, shape: str = "3x0") -> Refusal:
    (refusal,) = refuse_nodes(facts(seen, shape))
    assert "nodes.conf" in refusal.cause
    return refusal


def test_the_keys_of_a_lost_owner_are_kept() -> None:
    """The member that is gone is named; its keys are the last ones."""
    seen = joined(without(HEALTHY, 1), replace(node(7, keys=9), endpoint=endpoint(1)))
    refusal = refusal_of_lost_file(seen)
    assert refusal.node == "redis-app-1"
    assert f"member {node_id(1)[:8]}, which owns slots, has no process" in refusal.cause
    assert "write its nodes.conf again" in refusal.remedy


def test_keys_of_which_other_members_have_newer_copies() -> None:
    """All slots are owned: the pod can join empty, with its files put aside."""
    refusal = refusal_of_lost_file(joined(view("2x0"), node(2, keys=9)))
    assert "joins empty" in refusal.remedy
    assert "has no process" not in refusal.cause


def test_keys_where_no_member_knows_whose_they_are() -> None:
    """Every nodes.conf is lost, or two nodes own a slot."""
    assert "backup" in refusal_of_lost_file(field(fresh(3), 0, keys=9)).remedy
    contested = own(view("2x0"), 0, slots=SlotSet.all())
    assert "backup" in refusal_of_lost_file(joined(contested, node(2, keys=9))).remedy


def test_an_outsider_of_the_other_address_family_alone_is_no_copy() -> None:
    """A pod on IPv6 and an outsider on IPv6 are compared, as two on IPv4 are."""
    modern = Address("fd00::1", 6379, 16379)
    seen = field(HEALTHY, 1, address=modern)
    assert refusals(answering(seen, address=Address("fd00::9", 6379, 16379))) != []
    assert refusals(answering(seen, address=ELSEWHERE)) == []
