"""What can be done, as data.

Rules: an action is one command-sized step (moves of many slots between one pair of nodes count as
one), holds ids, slots and the reason, and does nothing itself. Actions of one kind within a plan
may run at the same time; a kind starts when the one before it is done, so the order of a plan is
the order that safety asks for.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import TypeAlias

from .findings import Finding, FindingCode
from .slots import SlotSet
from .topology import NodeId


class Stage(IntEnum):
    """Kinds of plans, in the order in which a cluster goes through them."""

    INTRODUCE = 1
    REPAIR = 2
    ASSIGN = 3
    REPLICATE = 4
    DRAIN = 5
    REBALANCE = 6
    FORGET = 7
    REFRESH_VIEWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConfigEpoch:
    """Give a fresh node a config epoch of its own; only possible while it is isolated."""

    node: NodeId
    epoch: int
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignSlots:
    """Give a node slots that nobody owns."""

    node: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Meet:
    """Make `node` send a MEET to `target`; towards a known node it makes both exchange headers."""

    node: NodeId
    target: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class BumpEpoch:
    """Give a node a config epoch above all that it knows."""

    node: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFunctions:
    """Copy the function libraries onto a new primary."""

    source: NodeId
    target: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """Make a node that holds nothing of its own a replica of a primary."""

    node: NodeId
    primary: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFailover:
    """Keep a replica from starting an election while addresses are repaired, or allow it again."""

    node: NodeId
    hold: bool
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSlots:
    """Mark open slots of a node as stable; no key moves."""

    node: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSlots:
    """Settle an owner for slots that two nodes claim or whose owner is gone."""

    node: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSlots:
    """Move slots with their keys; goes on where an earlier move of the same slots stopped."""

    source: NodeId
    target: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherKeys:
    """Move keys that lie at a node which does not own their slots to the owner."""

    source: NodeId
    target: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Make a replica the primary; `takeover` where its primary is gone and cannot agree."""

    node: NodeId
    takeover: bool
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Make a drained node that leaves new and empty again."""

    node: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Make one node forget a member that is gone and owns nothing."""

    node: NodeId
    gone: NodeId
    reason: FindingCode


Action: TypeAlias = (
    SetConfigEpoch
    | AssignSlots
    | Meet
    | BumpEpoch
    | CopyFunctions
    | Replicate
    | HoldFailover
    | CloseSlots
    | ClaimSlots
    | MoveSlots
    | GatherKeys
    | Failover
    | Reset
    | Forget
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing is changed, and what a person can do."""

    cause: str
    remedy: str
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The next safe stage.

    Attributes:
        stage: None when there is nothing to do but, perhaps, wait.
        actions: In the order to apply.
        findings: All that keeps the cluster from being healthy.
        refusals: Not empty means that nothing may be done.
    """

    stage: Stage | None = None
    actions: tuple[Action, ...] = ()
    findings: tuple[Finding, ...] = ()
    refusals: tuple[Refusal, ...] = field(default=())

    @property
    def is_healthy(self) -> bool:
        """Return whether the view satisfied every condition."""
        return not self.findings and not self.refusals

    @property
    def fingerprint(self) -> str:
        """Return a hash of what would be done; equal plans have equal ones."""
        parts = [describe(action) for action in self.actions]
        parts += [{"refusal": refusal.cause} for refusal in self.refusals]
        text = json.dumps([self.stage, parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(action: Action) -> dict[str, str | int | bool]:
    """Return the action as plain JSON values."""
    described: dict[str, str | int | bool] = {"action": type(action).__name__}
    for each in fields(action):
        value = getattr(action, each.name)
        described[each.name] = str(value) if isinstance(value, SlotSet) else value
    return described


def kinds(actions: Iterable[Action]) -> dict[str, int]:
    """Return how many actions there are of each kind."""
    return dict(Counter(type(action).__name__ for action in actions))
