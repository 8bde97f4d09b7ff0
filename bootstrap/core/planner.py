"""The next safe stage for a view.

Rules: one stage at a time, in the order of `core.stages`. Nothing is planned while a wanted pod is
absent, or while a member runs that is not reached: it may own slots or have the only copy of keys.

Invariant: from any view, carrying out plans ends in a healthy cluster, a refusal, or waiting for
the servers; a healthy view gives an empty plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import forming, stages
from .actions import Plan, Refusal, Stage
from .facts import Facts
from .findings import Finding, FindingCode, notices
from .policy import Policy
from .situation import Situation
from .slots import SlotSet
from .topology import ClusterView, DesiredTopology

__all__ = ["Assessment", "Policy", "assess", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What one pass makes of a view.

    Attributes:
        facts: What follows from the view; `facts.view` is the view itself.
        findings: All that keeps the cluster from being healthy.
        refusals: Every reason for not changing anything.
        probe_slots: Slots of which keys must be counted before the plan can be relied on; where
            there are any, count them and assess the view with the counts again.
        plan: The next safe stage.
    """

    facts: Facts
    findings: tuple[Finding, ...]
    refusals: tuple[Refusal, ...]
    probe_slots: SlotSet
    plan: Plan


def assess(view: ClusterView, desired: DesiredTopology, policy: Policy) -> Assessment:
    """Return the facts, the findings, the refusals and the plan of a view, each computed once."""
    situation = Situation(Facts(view, desired), policy)
    return Assessment(
        facts=situation.facts,
        findings=situation.findings,
        refusals=situation.refusals,
        probe_slots=situation.probe_slots,
        plan=_plan(situation),
    )


def plan(view: ClusterView, desired: DesiredTopology, policy: Policy) -> Plan:
    """Return the next stage, or the reasons for doing nothing.

    An empty plan with findings means that the servers need time, for gossip, elections or
    replication; an empty plan without findings means that the cluster is healthy.
    """
    return _plan(Situation(Facts(view, desired), policy))


def _plan(situation: Situation) -> Plan:
    return replace(_next(situation), notices=notices(situation.facts))


def _next(situation: Situation) -> Plan:
    findings, refusals = situation.findings, situation.refusals
    if refusals:
        return Plan(findings=findings, refusals=refusals)
    if not findings:
        return _separate(situation) if situation.policy.separate else Plan()
    if situation.is_blocked:
        return Plan(findings=findings)
    stage, actions = stages.next_stage(situation)
    return Plan(stage=stage, actions=actions, findings=findings)


def _separate(situation: Situation) -> Plan:
    """Return the replicas of a healthy cluster that can be placed better; primaries stay."""
    code, facts = FindingCode.PLACE_SHARED, situation.facts
    actions = [replace(a, reason=code) for a in forming.replicate(facts, situation.roles)]
    if not actions or situation.unfit_targets:
        return Plan()
    names = ", ".join(facts.live[action.node].name for action in actions)
    detail = f"members of a shard share a zone or node, and can be apart: {names} move"
    return Plan(
        stage=Stage.REPLICATE,
        actions=tuple(actions),
        findings=(Finding(code=code, node=facts.live[actions[0].node].name, detail=detail),),
    )
