"""The next safe stage out of what is seen.

Rules: one stage at a time, in the order of `_stages`; a stage that depends on what another one
changes waits for a look that shows it. Nothing is planned while a wanted pod is absent, or a member
alive that we do not see: it may own slots or hold the only copy of keys.

Invariant: from any view, carrying out plans ends in a healthy cluster, a refusal, or waiting for
the servers; a healthy view gives an empty plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import forming, open_slots, slot_moves
from .actions import Action, Plan, Stage
from .facts import Facts
from .findings import Finding, FindingCode, diagnose
from .refusals import refuse
from .roles import assign_roles
from .topology import ClusterView, DesiredTopology


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the people who run the cluster allow.

    Attributes:
        allow_data_loss: Consent to give slots whose keys are lost to new owners.
        rebalance: Move slots until primaries differ by at most one.
        separate: Move replicas of a healthy cluster to where they share no zone or node with their
            shard. That is not part of *healthy*, so nobody waits for it.
    """

    allow_data_loss: bool = False
    rebalance: bool = True
    separate: bool = False


def plan(view: ClusterView, desired: DesiredTopology, policy: Policy) -> Plan:
    """Return the next stage, or the reasons for doing nothing.

    An empty plan with findings means that the servers need time, for gossip, elections or
    replication; an empty plan without findings means that the cluster is healthy.
    """
    facts = Facts(view, desired)
    refusals = refuse(facts, allow_data_loss=policy.allow_data_loss)
    findings = diagnose(facts, rebalance=policy.rebalance)
    if not findings and not refusals and policy.separate:
        return _separate(facts)
    if refusals or not findings or facts.blocking_pods or facts.unseen:
        return Plan(findings=findings, refusals=refusals)
    for stage, actions in _stages(facts, policy):
        if actions or stage is Stage.REFRESH_VIEWS:
            return Plan(stage=stage, actions=tuple(actions), findings=findings)
    return Plan(findings=findings)


def _separate(facts: Facts) -> Plan:
    """Return the replicas of a healthy cluster that can be placed better; primaries stay."""
    code = FindingCode.PLACE_SHARED
    actions = [replace(a, reason=code) for a in forming.replicate(facts, assign_roles(facts))]
    if not actions:
        return Plan()
    names = ", ".join(facts.live[action.node].name for action in actions)
    detail = f"members of a shard share a zone or node, and can be apart: {names} move"
    return Plan(
        stage=Stage.REPLICATE,
        actions=tuple(actions),
        findings=(Finding(code=code, node=facts.live[actions[0].node].name, detail=detail),),
    )


def _stages(facts: Facts, policy: Policy) -> Iterator[tuple[Stage, Sequence[Action]]]:
    """Yield stages in their order; a REFRESH_VIEWS ends the list also when it has no action."""
    if forming.is_forming(facts) and not facts.uncovered and any(facts.unacquainted_pairs()):
        yield Stage.REPLICATE, forming.replicate(facts, assign_roles(facts))
    yield Stage.INTRODUCE, forming.introduce(facts)
    joined = not any(facts.unacquainted_pairs()) and not any(facts.stale_addresses())
    if joined:
        yield Stage.REPAIR, open_slots.promote_replicas_of_gone(facts)
        yield Stage.REPAIR, open_slots.promote_last_copies(facts)
        yield Stage.REPAIR, open_slots.resolve_contested_slots(facts)
        yield Stage.REPAIR, open_slots.close_open_slots(facts)
        yield (
            Stage.REPAIR,
            open_slots.claim_uncovered_slots(facts, allow_data_loss=policy.allow_data_loss),
        )
        yield Stage.REPAIR, open_slots.separate_colliding_epochs(facts)
    if facts.uncovered or facts.slots_of_gone or facts.contested:
        yield Stage.REFRESH_VIEWS, forming.refresh_views(facts)
    roles = assign_roles(facts)
    yield Stage.REPLICATE, forming.replicate(facts, roles)
    if joined:
        yield Stage.FORGET, slot_moves.forget_gone(facts)
    if not _views_agree(facts):
        yield Stage.REFRESH_VIEWS, forming.refresh_views(facts)
    yield Stage.REPAIR, forming.release_failover_holds(facts)
    yield Stage.REPLICATE, slot_moves.promote(facts, roles)
    yield Stage.REPLICATE, slot_moves.retire(facts, [*roles.convert], FindingCode.PRIMARY_COUNT)
    yield Stage.ASSIGN, forming.copy_functions(facts)
    moves = slot_moves.move_slots(facts, roles, rebalance=policy.rebalance)
    yield (Stage.DRAIN if roles.drain else Stage.REBALANCE), moves
    yield Stage.FORGET, slot_moves.leave(facts)


_DISAGREEMENT = frozenset(
    {
        FindingCode.NODE_UNKNOWN,
        FindingCode.ADDRESS_STALE,
        FindingCode.NODE_FAILING,
        FindingCode.VIEW_OUTDATED,
        FindingCode.STATE_FAIL,
        FindingCode.REPLICA_LINK_DOWN,
        FindingCode.MEMBER_GONE,
        FindingCode.SHARDS_DISAGREE,
    }
)


def _views_agree(facts: Facts) -> bool:
    """Return whether all views agree and serve, so that slots and members may move."""
    return not any(f.code in _DISAGREEMENT for f in diagnose(facts, rebalance=False))


def probe_slots(view: ClusterView, desired: DesiredTopology) -> tuple[int, ...]:
    """Return the slots of which `plan` must know who holds keys; none where it will not act."""
    facts = Facts(view, desired)
    is_waiting = facts.blocking_pods or facts.unseen
    if not facts.in_question or is_waiting or refuse(facts, allow_data_loss=True):
        return ()
    return tuple(facts.in_question)
