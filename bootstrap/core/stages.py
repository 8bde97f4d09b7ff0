"""The stages of a plan, in the order in which they are tried.

Rules: the first stage whose guard holds and whose step has actions is the plan. A stage that
depends on what another one changes waits for a pass whose view shows the change. Where the views of
the nodes have to agree first, REFRESH_VIEWS ends the search even when it has nothing to send:
gossip is under way then, and the servers need time.

Invariant: a stage has no actions but those that its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import config_epochs, departures, disagreements, forming, ownership
from .actions import Action, MoveSlots, Stage
from .findings import FindingCode
from .situation import Situation
from .topology import Role

Guard = Callable[[Situation], bool]
Step = Callable[[Situation], Sequence[Action]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: What the actions are for.
        guard: Whether the stage may be entered.
        step: What it would do.
        is_last: Whether later stages wait even where the step has nothing to do.
    """

    name: Stage
    guard: Guard
    step: Step
    is_last: bool = False


def next_stage(situation: Situation) -> tuple[Stage | None, tuple[Action, ...]]:
    """Return the first stage with something to do, and its actions; none where all is done."""
    for row in TABLE:
        if row.guard(situation):
            actions = row.step(situation)
            if actions or row.is_last:
                return row.name, tuple(actions)
    return None, ()


def _always(_: Situation) -> bool:
    return True


def _is_joined(situation: Situation) -> bool:
    return situation.is_joined


def _may_form(situation: Situation) -> bool:
    return forming.may_assign_first_slots(situation.facts)


def _may_replicate_early(situation: Situation) -> bool:
    """Return whether replicas of a new cluster may follow before all nodes have met.

    Gossip then spreads their roles together with their addresses.
    """
    facts = situation.facts
    return (
        forming.is_forming(facts)
        and not facts.uncovered
        and any(disagreements.unacquainted_pairs(facts))
    )


def _has_unowned_slots(situation: Situation) -> bool:
    """Return whether slots are without one live owner, which no later stage may build on."""
    facts = situation.facts
    return bool(facts.uncovered or facts.slots_of_gone or facts.contested)


def _views_differ(situation: Situation) -> bool:
    return not situation.views_agree


def _hands_over(situation: Situation) -> bool:
    return any(situation.facts.live[i].role is Role.REPLICA for i in situation.roles.failovers)


def _drains(situation: Situation) -> bool:
    return situation.may_move and bool(situation.roles.drain)


def _rebalances(situation: Situation) -> bool:
    return situation.may_move and not situation.roles.drain


def _replicate(situation: Situation) -> Sequence[Action]:
    return forming.replicate(situation.facts, situation.roles)


def _promote(situation: Situation) -> Sequence[Action]:
    facts = situation.facts
    return ownership.promote_replicas_of_gone(facts) or ownership.promote_last_copies(facts)


def _close_slots(situation: Situation) -> Sequence[Action]:
    actions = situation.open_slot_actions
    if situation.may_finish_moves:
        return actions
    return [action for action in actions if not isinstance(action, MoveSlots)]


def _order_epochs_of_open_moves(situation: Situation) -> Sequence[Action]:
    return config_epochs.order_epochs(situation.facts, situation.open_slot_moves)


def _order_epochs(situation: Situation) -> Sequence[Action]:
    return config_epochs.order_epochs(situation.facts, situation.moves)


def _claim(situation: Situation) -> Sequence[Action]:
    return ownership.claim_uncovered_slots(
        situation.facts, allow_data_loss=situation.policy.allow_data_loss
    )


def _convert(situation: Situation) -> Sequence[Action]:
    return departures.reset_and_forget(
        situation.facts, situation.roles.convert, FindingCode.PRIMARY_COUNT
    )


TABLE = (
    # A new cluster: slots and roles first, so that gossip spreads them with the addresses.
    Row(Stage.REPLICATE, _may_replicate_early, _replicate),
    Row(Stage.FORM, _may_form, lambda s: forming.form(s.facts)),
    # Who is where comes before who owns what: a slot is not judged by half of its owners.
    Row(Stage.INTRODUCE, _always, lambda s: forming.introduce(s.facts)),
    # One live owner for each slot. A replica of a lost primary may have keys of any slot.
    Row(Stage.PROMOTE_REPLICAS, _is_joined, _promote),
    Row(Stage.RESOLVE_CONTESTS, _is_joined, lambda s: ownership.resolve_contested_slots(s.facts)),
    Row(Stage.ORDER_EPOCHS, _is_joined, _order_epochs_of_open_moves),
    Row(Stage.CLOSE_SLOTS, _is_joined, _close_slots),
    Row(Stage.CLAIM_SLOTS, _is_joined, _claim),
    Row(
        Stage.SEPARATE_EPOCHS,
        _is_joined,
        lambda s: config_epochs.separate_colliding_epochs(s.facts),
    ),
    Row(
        Stage.REFRESH_VIEWS,
        _has_unowned_slots,
        lambda s: forming.refresh_views(s.facts),
        is_last=True,
    ),
    # Replicas before agreement: what replicates nothing keeps the state of the cluster at fail.
    Row(Stage.REPLICATE, _always, _replicate),
    Row(Stage.FORGET, _is_joined, lambda s: departures.forget_gone(s.facts)),
    Row(Stage.REFRESH_VIEWS, _views_differ, lambda s: forming.refresh_views(s.facts), is_last=True),
    # All views agree from here on, so slots and members may move.
    Row(Stage.ALLOW_FAILOVERS, _always, lambda s: forming.allow_failovers(s.facts)),
    # A move would take the slots that a hand-over spares, so it waits for one that is to come.
    Row(
        Stage.FAIL_OVER,
        _hands_over,
        lambda s: departures.hand_over(s.facts, s.roles),
        is_last=True,
    ),
    Row(Stage.CONVERT_REPLICAS, _always, _convert),
    Row(Stage.COPY_FUNCTIONS, _always, lambda s: forming.copy_functions(s.facts)),
    Row(Stage.ORDER_EPOCHS, _always, _order_epochs),
    Row(Stage.DRAIN, _drains, lambda s: s.moves),
    Row(Stage.REBALANCE, _rebalances, lambda s: s.moves),
    Row(Stage.REMOVE_MEMBERS, _always, lambda s: departures.remove_members(s.facts)),
)
