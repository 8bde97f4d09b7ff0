"""Members out of the cluster: handing over, RESET and FORGET.

Rules: a member leaves when it owns nothing and no staying node replicates it; it is reset before
it is forgotten; every node forgets it within one plan, because the servers ban a forgotten id for
60 s only and gossip brings it back after that.

Invariant: no id is forgotten that owns slots in any view or that a live process has.
"""

from __future__ import annotations

from collections.abc import Collection

from . import elections
from .actions import Action, Failover, FailoverMode, Forget, Reset
from .facts import Facts
from .findings import FindingCode
from .roles import Roles
from .topology import NodeId, Role


def hand_over(facts: Facts, roles: Roles) -> list[Failover]:
    """Return failovers to staying replicas that would get their votes now; no slot has to move."""
    return [
        Failover(node=node_id, mode=FailoverMode.COORDINATED, reason=FindingCode.MEMBER_LEAVING)
        for node_id in roles.failovers
        if elections.handover_can_be_won(facts, facts.live[node_id])
    ]


def forget_gone(facts: Facts) -> list[Forget]:
    """Return FORGETs of members without a process that own nothing and have no replicas."""
    claiming = {i for n in facts.live.values() for i, k in n.known.items() if k.slots}
    needed = {n.myself.primary_id for n in facts.live.values()}
    return [
        Forget(node=node.node_id, gone=gone, reason=FindingCode.MEMBER_GONE)
        for gone in sorted(facts.gone - claiming - needed)
        for node in facts.live.values()
        if gone in node.known
    ]


def remove_members(facts: Facts) -> list[Action]:
    """Return RESETs of leaving members that are empty, then FORGETs of their old ids everywhere.

    RESET HARD first: it gives the process a new id, so that no live process has the id that is
    forgotten, and a run that dies in between leaves a member without a process, which the next
    run forgets.
    """
    replicated = {n.myself.primary_id for n in facts.staying}
    leavers = [
        n.node_id
        for n in facts.leaving
        if not n.slots
        and n.node_id not in replicated
        and not (n.role is Role.PRIMARY and n.keys)
        # The copy of an owner that was not drained yet is kept until it is.
        and not ((primary := facts.primary_of(n)) in facts.leaving and primary and primary.slots)
    ]
    return reset_and_forget(facts, leavers, FindingCode.MEMBER_LEAVING)


def reset_and_forget(
    facts: Facts, node_ids: Collection[NodeId], reason: FindingCode
) -> list[Action]:
    """Return the RESETs and FORGETs that take these live members out of the cluster."""
    resets = [Reset(node=node_id, reason=reason) for node_id in node_ids]
    forgets = [
        Forget(node=node.node_id, gone=gone, reason=reason)
        for gone in node_ids
        for node in facts.live.values()
        if gone in node.known and node.node_id not in node_ids
    ]
    return [*resets, *forgets]
