"""What one pass knows: the facts, and what is derived from them for more than one decision.

Rules: each value is computed once, when it is first used, and handed on; a healthy cluster
of a thousand nodes must not pay for roles that nothing asks for.

Invariant: a situation never changes; another view makes another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from . import config_epochs, data_targets, disagreements, open_slots, refusals, slot_moves
from .actions import Action, MoveSlots, Refusal
from .facts import Facts
from .findings import Finding, FindingCode, diagnose, notices
from .roles import Roles, assign_roles
from .slots import SlotSet

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the people who run the cluster allow, and what counts as work.

    Attributes:
        allow_data_loss: Consent to assign slots whose keys are lost to new owners.
        rebalance: Move slots until primaries differ by at most one.
        separate: Move replicas of a healthy cluster to where they share no zone or node with their
            shard. That is not part of *healthy*, so no run waits for it.
    """

    allow_data_loss: bool = False
    rebalance: bool = True
    separate: bool = False


@dataclass(frozen=True, eq=False)
class Situation:
    """The facts of one view under one policy."""

    facts: Facts
    policy: Policy

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All that keeps the cluster from being healthy."""
        return diagnose(self.facts, rebalance=self.policy.rebalance)

    @cached_property
    def node_refusals(self) -> tuple[Refusal, ...]:
        """Reasons to change nothing that do not depend on which node has which keys."""
        return refusals.refuse_nodes(self.facts)

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every reason for not changing anything."""
        if self.node_refusals or self.facts.is_blocked:
            return self.node_refusals
        losses = refusals.refuse_data_loss(self.facts, allow_data_loss=self.policy.allow_data_loss)
        return losses or (self.unfit_targets if self.findings else ())

    @cached_property
    def unfit_targets(self) -> tuple[Refusal, ...]:
        """Nodes that cannot take the data that the plan would bring to them."""
        data = self.incoming
        return data_targets.refuse_unfit_targets(self.facts, data) if data else ()

    @cached_property
    def incoming(self) -> data_targets.IncomingData | None:
        """The data that the plan would bring to each node; None where something is repaired."""
        return data_targets.incoming(self.facts, rebalance=self.policy.rebalance)

    @property
    def notices(self) -> tuple[Finding, ...]:
        """What a person should know of, but what does not make the cluster unhealthy."""
        data = self.incoming if self.findings and not self.refusals else None
        buffers = data_targets.notice_small_buffers(self.facts, data) if data else ()
        return (*notices(self.facts), *buffers)

    @property
    def probe_slots(self) -> SlotSet:
        """Slots of which keys must be counted; none where nothing will be done."""
        nothing_to_do = self.facts.is_blocked or self.node_refusals
        return SlotSet() if nothing_to_do else self.facts.in_question

    @cached_property
    def roles(self) -> Roles:
        """Which node is to be what."""
        return assign_roles(self.facts)

    @cached_property
    def is_joined(self) -> bool:
        """Whether all members know each other where they are."""
        return not any(disagreements.unacquainted_pairs(self.facts)) and not any(
            disagreements.stale_addresses(self.facts)
        )

    @property
    def views_agree(self) -> bool:
        """Whether all views agree and serve, so that slots and members may move."""
        return _DISAGREEMENT.isdisjoint(finding.code for finding in self.findings)

    @cached_property
    def open_slot_actions(self) -> list[Action]:
        """What finishes or reverts the slots in transit, moves included."""
        return open_slots.close_open_slots(self.facts)

    @cached_property
    def open_slot_moves(self) -> list[MoveSlots]:
        """The moves that finish slots in transit."""
        return [a for a in self.open_slot_actions if isinstance(a, MoveSlots)]

    @cached_property
    def moves(self) -> list[MoveSlots]:
        """The moves that empty drained owners and even out the others."""
        return slot_moves.move_slots(self.facts, self.roles, rebalance=self.policy.rebalance)

    def lets_targets_win(self, moves: list[MoveSlots]) -> bool:
        """Return whether config epochs let every target of the moves win over its source."""
        return config_epochs.are_ordered(self.facts, moves)
