"""The next safe stage out of what is seen.

Rules: one stage at a time, in the order of `_stages`; a stage that depends on what another one
changes waits for a look that shows it. Nothing is planned while a wanted pod is absent, or a member
alive that we do not see: it may own slots or hold the only copy of keys.

Invariant: from any view, carrying out plans ends in a whole cluster, a refusal, or waiting for
the servers; a whole view gives an empty plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import joining, moves, repairs
from .actions import Action, Plan, Stage
from .facts import Facts
from .findings import Finding, FindingCode, diagnose
from .placement import assign_roles
from .refusals import refuse
from .topology import ClusterView, DesiredTopology


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the people who run the cluster allow.

    Attributes:
        allow_data_loss: Consent to give slots whose keys are lost to new owners.
        rebalance: Move slots until primaries differ by at most one.
        separate: Move replicas of a whole cluster to where they share no zone or node with their
            shard. That is not part of *whole*, so nobody waits for it.
    """

    allow_data_loss: bool = False
    rebalance: bool = True
    separate: bool = False


def plan(view: ClusterView, desired: DesiredTopology, policy: Policy) -> Plan:
    """Return the next stage, or the reasons for doing nothing.

    An empty plan with findings means that the servers need time, for gossip, elections or
    replication; an empty plan without findings means that the cluster is whole.
    """
    facts = Facts(view, desired)
    refusals = refuse(facts, allow_data_loss=policy.allow_data_loss)
    findings = diagnose(facts, rebalance=policy.rebalance)
    if not findings and not refusals and policy.separate:
        return _separate(facts)
    if refusals or not findings or facts.awaited or facts.unseen:
        return Plan(findings=findings, refusals=refusals)
    for stage, actions in _stages(facts, policy):
        if actions or stage is Stage.SETTLE:
            return Plan(stage=stage, actions=tuple(actions), findings=findings)
    return Plan(findings=findings)


def _separate(facts: Facts) -> Plan:
    """Return the replicas of a whole cluster that can be placed better; primaries stay."""
    code = FindingCode.PLACE_SHARED
    actions = [replace(a, reason=code) for a in joining.replicate(facts, assign_roles(facts))]
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
    """Yield stages in their order; a SETTLE ends the list also when it has no action."""
    if joining.is_forming(facts) and not facts.uncovered and any(facts.strangers()):
        yield Stage.REPLICATE, joining.replicate(facts, assign_roles(facts))
    yield Stage.INTRODUCE, joining.introduce(facts)
    joined = not any(facts.strangers()) and not any(facts.misplaced())
    if joined:
        yield Stage.REPAIR, repairs.inherit(facts)
        yield Stage.REPAIR, repairs.rescue(facts)
        yield Stage.REPAIR, repairs.settle_contests(facts)
        yield Stage.REPAIR, repairs.close_open_slots(facts)
        yield Stage.REPAIR, repairs.adopt(facts, allow_data_loss=policy.allow_data_loss)
        yield Stage.REPAIR, repairs.separate_epochs(facts)
    if facts.uncovered or facts.claims_of_gone or facts.contested:
        yield Stage.SETTLE, joining.nudge(facts)
    roles = assign_roles(facts)
    yield Stage.REPLICATE, joining.replicate(facts, roles)
    if joined:
        yield Stage.FORGET, moves.forget_gone(facts)
    if not _is_settled(facts):
        yield Stage.SETTLE, joining.nudge(facts)
    yield Stage.REPAIR, joining.release(facts)
    yield Stage.REPLICATE, moves.promote(facts, roles)
    yield Stage.REPLICATE, moves.retire(facts, [*roles.convert], FindingCode.PRIMARY_COUNT)
    yield Stage.ASSIGN, joining.copy_functions(facts)
    slot_moves = moves.move_slots(facts, roles, rebalance=policy.rebalance)
    yield (Stage.DRAIN if roles.drain else Stage.REBALANCE), slot_moves
    yield Stage.FORGET, moves.leave(facts)


_UNSETTLED = frozenset(
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


def _is_settled(facts: Facts) -> bool:
    """Tell whether all views agree and serve, so that slots and members may move."""
    return not any(f.code in _UNSETTLED for f in diagnose(facts, rebalance=False))


def probe_slots(view: ClusterView, desired: DesiredTopology) -> tuple[int, ...]:
    """Return the slots of which `plan` must know who holds keys; none where it will not act."""
    facts = Facts(view, desired)
    is_waiting = facts.awaited or facts.unseen
    if not facts.in_question or is_waiting or refuse(facts, allow_data_loss=True):
        return ()
    return tuple(facts.in_question)
