"""The next safe stage for a view.

Rules: the first stage of the table whose guard holds and whose step has actions is the plan. A
stage that depends on what another one changes waits for a pass whose view shows the change. Where
the views of the nodes have to agree first, REFRESH_VIEWS ends the search even when it has nothing
to send: gossip is under way then, and the servers need time. While a wanted pod is absent, or a
member runs that is not reached, nothing is planned but to introduce primaries to each other again
at their new addresses: what is missing may own slots or have the only copy of keys.

Invariant: from any view, carrying out plans ends in a healthy cluster, a refusal, or waiting for
the servers; a healthy view gives an empty plan. A stage has no actions but those that its name
says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from . import (
    config_epochs,
    departures,
    disagreements,
    forming,
    introductions,
    ownership,
    refusals,
    slot_moves,
)
from .actions import Action, MoveSlots, Plan, Stage
from .facts import Facts
from .findings import Finding, FindingCode
from .situation import Policy, Situation
from .topology import ClusterView, DesiredTopology, Role

__all__ = ["Policy", "plan"]


class Row(NamedTuple):
    """A stage, whether it may be entered, and what it would do.

    The search ends at a row that `is_last`, even where its step has nothing to do.
    """

    stage: Stage
    guard: Callable[[Situation], bool]
    step: Callable[[Situation], Sequence[Action]]
    is_last: bool = False


def plan(view: ClusterView, desired: DesiredTopology, policy: Policy) -> Plan:
    """Return the next stage, or the reasons for doing nothing.

    An empty plan with findings means that the servers need time, for gossip, elections or
    replication; an empty plan without findings means that the cluster is healthy.
    """
    situation = Situation(Facts(view, desired), policy)
    found = _next(situation)
    emptied = slot_moves.emptied(view, found.actions)
    strays = refusals.refuse_stray_keys(view, emptied)
    if strays and not policy.allow_data_loss:
        found = Plan(findings=found.findings, refusals=strays)
    return replace(
        found, notices=situation.notices, probe_slots=situation.probe_slots, emptied=emptied
    )


def _next(situation: Situation) -> Plan:
    findings = situation.findings
    if situation.refusals:
        return Plan(findings=findings, refusals=situation.refusals)
    if not findings:
        better = _separate(situation)
        advice = "".join(finding.detail for finding in better.findings)
        return better if situation.policy.separate else Plan(advice=advice)
    if situation.facts.is_blocked:
        meets = tuple(introductions.reunite_primaries(situation.facts))
        return Plan(stage=Stage.INTRODUCE if meets else None, actions=meets, findings=findings)
    for row in TABLE:
        if row.guard(situation):
            actions = row.step(situation)
            if actions or row.is_last:
                return Plan(stage=row.stage, actions=tuple(actions), findings=findings)
    return Plan(findings=findings)


def _separate(situation: Situation) -> Plan:
    """Return the replicas of a healthy cluster that can be placed better; primaries stay."""
    code, facts = FindingCode.PLACE_SHARED, situation.facts
    actions = [replace(a, reason=code) for a in forming.replicate(facts, situation.roles)]
    if not actions or situation.unfit_targets:
        return Plan()
    names = [facts.live[action.node].name for action in actions]
    detail = f"members of a shard share a zone or node, and can be apart: {', '.join(names)} move"
    finding = Finding(code=code, node=names[0], detail=detail)
    return Plan(stage=Stage.REPLICATE, actions=tuple(actions), findings=(finding,))


def _always(_: Situation) -> bool:
    return True


def _is_joined(situation: Situation) -> bool:
    return situation.is_joined


def _may_replicate_early(situation: Situation) -> bool:
    """Return whether replicas of a new cluster may follow before all nodes have met.

    Gossip then spreads their roles together with their addresses.
    """
    facts = situation.facts
    unacquainted = disagreements.unacquainted_pairs(facts)
    return introductions.is_forming(facts) and not facts.uncovered and any(unacquainted)


def _hands_over(situation: Situation) -> bool:
    return any(situation.facts.live[i].role is Role.REPLICA for i in situation.roles.failovers)


def _may_move(situation: Situation, *, drains: bool) -> bool:
    is_draining = bool(situation.roles.drain)
    return is_draining is drains and situation.lets_targets_win(situation.moves)


def _replicate(situation: Situation) -> Sequence[Action]:
    return forming.replicate(situation.facts, situation.roles)


def _refresh_views(situation: Situation) -> Sequence[Action]:
    return introductions.refresh_views(situation.facts)


def _promote(situation: Situation) -> Sequence[Action]:
    facts = situation.facts
    return ownership.promote_replicas_of_gone(facts) or ownership.promote_last_copies(facts)


def _close_slots(situation: Situation) -> Sequence[Action]:
    actions = situation.open_slot_actions
    if situation.lets_targets_win(situation.open_slot_moves):
        return actions
    return [action for action in actions if not isinstance(action, MoveSlots)]


def _claim(situation: Situation) -> Sequence[Action]:
    allow_data_loss = situation.policy.allow_data_loss
    return ownership.claim_uncovered_slots(situation.facts, allow_data_loss=allow_data_loss)


def _convert(situation: Situation) -> Sequence[Action]:
    facts, converts = situation.facts, situation.roles.convert
    return departures.reset_and_forget(facts, converts, FindingCode.PRIMARY_COUNT)


TABLE = (
    # A new cluster: slots and roles first, so that gossip spreads them with the addresses.
    Row(Stage.REPLICATE, _may_replicate_early, _replicate),
    Row(
        Stage.FORM,
        lambda s: forming.may_assign_first_slots(s.facts),
        lambda s: forming.form(s.facts),
    ),
    # Who is where comes before who owns what: a slot is not judged by half of its owners.
    Row(Stage.INTRODUCE, _always, lambda s: introductions.introduce(s.facts)),
    # One live owner for each slot. A replica of a lost primary may have keys of any slot.
    Row(Stage.PROMOTE_REPLICAS, _is_joined, _promote),
    Row(Stage.RESOLVE_CONTESTS, _is_joined, lambda s: ownership.resolve_contested_slots(s.facts)),
    Row(
        Stage.ORDER_EPOCHS,
        _is_joined,
        lambda s: config_epochs.order_epochs(s.facts, s.open_slot_moves),
    ),
    # Before slots are closed: servers move no key while a slot has no owner (CLUSTERDOWN).
    Row(Stage.CLAIM_SLOTS, _is_joined, _claim),
    Row(Stage.CLOSE_SLOTS, _is_joined, _close_slots),
    Row(
        Stage.SEPARATE_EPOCHS,
        _is_joined,
        lambda s: config_epochs.separate_colliding_epochs(s.facts),
    ),
    # No later stage may build on slots without one live owner.
    Row(Stage.REFRESH_VIEWS, lambda s: s.facts.has_damaged_slots, _refresh_views, is_last=True),
    # Replicas before agreement: what replicates nothing keeps the state of the cluster at fail.
    Row(Stage.REPLICATE, _always, _replicate),
    Row(Stage.FORGET, _is_joined, lambda s: departures.forget_gone(s.facts)),
    Row(Stage.REFRESH_VIEWS, lambda s: not s.views_agree, _refresh_views, is_last=True),
    # All views agree from here on, so slots and members may move.
    Row(Stage.ALLOW_FAILOVERS, _always, lambda s: introductions.allow_failovers(s.facts)),
    # A move would take the slots that a hand-over spares, so it waits for one that is to come.
    Row(
        Stage.FAIL_OVER,
        _hands_over,
        lambda s: departures.hand_over(s.facts, s.roles),
        is_last=True,
    ),
    Row(Stage.CONVERT_REPLICAS, _always, _convert),
    Row(Stage.COPY_FUNCTIONS, _always, lambda s: forming.copy_functions(s.facts)),
    Row(Stage.ORDER_EPOCHS, _always, lambda s: config_epochs.order_epochs(s.facts, s.moves)),
    Row(Stage.DRAIN, lambda s: _may_move(s, drains=True), lambda s: s.moves),
    Row(Stage.REBALANCE, lambda s: _may_move(s, drains=False), lambda s: s.moves),
    Row(Stage.REMOVE_MEMBERS, _always, lambda s: departures.remove_members(s.facts)),
)
