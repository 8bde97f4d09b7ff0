"""What can be done, as data.

Rules: an action is one command-sized step (moves of many slots between one pair of nodes count as
one), has node ids, slots and the reason, and does nothing itself. Every command that changes a
server is an action, so that `plan` shows whatever `run` would send. Actions of one kind within a
plan may run at the same time; the next kind starts when the kind before it is done, so the order
of a plan is the order that safety requires.

Invariant: equal plans have equal fingerprints, in every process.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TypeAlias, TypeVar

from .findings import WAITING, Finding, FindingCode
from .slots import SlotSet, union_by_key
from .topology import NodeId


class Stage(StrEnum):
    """Kinds of plans; `core.planner` has their order. The values are part of the JSON output."""

    FORM = "form"
    INTRODUCE = "introduce"
    PROMOTE_REPLICAS = "promote_replicas"
    RESOLVE_CONTESTS = "resolve_contests"
    ORDER_EPOCHS = "order_epochs"
    CLOSE_SLOTS = "close_slots"
    CLAIM_SLOTS = "claim_slots"
    SEPARATE_EPOCHS = "separate_epochs"
    REFRESH_VIEWS = "refresh_views"
    REPLICATE = "replicate"
    FORGET = "forget"
    ALLOW_FAILOVERS = "allow_failovers"
    FAIL_OVER = "fail_over"
    CONVERT_REPLICAS = "convert_replicas"
    COPY_FUNCTIONS = "copy_functions"
    DRAIN = "drain"
    REBALANCE = "rebalance"
    REMOVE_MEMBERS = "remove_members"


class FailoverMode(StrEnum):
    """How a replica becomes the primary, by the option of `CLUSTER FAILOVER`.

    COORDINATED: the primary stops its clients until the replica has read everything; no option.
    FORCE: the primary is gone; the other primaries vote.
    TAKEOVER: no majority can vote, or none would; the replica takes a new epoch by itself.
    """

    COORDINATED = "coordinated"
    FORCE = "force"
    TAKEOVER = "takeover"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConfigEpoch:
    """Give a fresh node a config epoch of its own; only possible while it is isolated."""

    node: NodeId
    epoch: int
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignSlots:
    """Assign slots to a node that no node owns."""

    node: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Meet:
    """Make `node` send a MEET to `target`; between acquainted nodes both send their headers."""

    node: NodeId
    target: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class BumpEpoch:
    """Give a node a config epoch above every epoch that it has heard of."""

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
    """Make a node without slots and keys of its own a replica of a primary."""

    node: NodeId
    primary: NodeId
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNoFailover:
    """Set `cluster-replica-no-failover`, which keeps a replica from starting an election."""

    node: NodeId
    no_failover: bool
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSlots:
    """Mark open slots of a node as stable; no key moves."""

    node: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSlots:
    """Make a node the owner of slots that two nodes own, or whose owner is gone."""

    node: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSlots:
    """Move slots with their keys; continues where an earlier move of the same slots stopped."""

    source: NodeId
    target: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherKeys:
    """Move keys from a node that does not own their slots to the owner, or to the target of a move.

    The slots are closed at the source, and at an owner.
    """

    source: NodeId
    target: NodeId
    slots: SlotSet
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Make a replica the primary of its shard."""

    node: NodeId
    mode: FailoverMode
    reason: FindingCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Give a member without slots a new id and an empty data set, outside any cluster."""

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
    | SetNoFailover
    | CloseSlots
    | ClaimSlots
    | MoveSlots
    | GatherKeys
    | Failover
    | Reset
    | Forget
)
_Slots = TypeVar("_Slots", bound=CloseSlots | ClaimSlots | MoveSlots | GatherKeys)


def merge_slots(actions: Iterable[_Slots]) -> list[_Slots]:
    """Return one action where several differ in their slots only, in the order of the first."""
    merged = union_by_key((replace(a, slots=SlotSet()), a.slots) for a in actions)
    return [replace(action, slots=slots) for action, slots in merged.items()]


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
        stage: None when there is nothing to do; with findings, the servers need time.
        actions: In the order to apply.
        findings: All that keeps the cluster from being healthy.
        refusals: Where there is any, nothing may be done.
        notices: What a person should know of, but what a run does nothing about.
        advice: What a run would improve although the cluster is healthy; empty where it is planned.
        probe_slots: Slots of which keys must be counted before the plan can be relied on; where
            there are any, count them and plan again with the counts.
        emptied: Nodes with keys that would own no slot afterwards; of these the keys of slots that
            they do not own must be counted, and then planned again.
    """

    stage: Stage | None = None
    actions: tuple[Action, ...] = ()
    findings: tuple[Finding, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notices: tuple[Finding, ...] = ()
    advice: str = ""
    probe_slots: SlotSet = field(default_factory=SlotSet)
    emptied: tuple[NodeId, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Return whether the view satisfies every condition."""
        return not self.findings and not self.refusals

    @property
    def is_partial(self) -> bool:
        """Return whether a wanted pod or a live member was not observed."""
        return any(finding.code in WAITING for finding in self.findings)

    @property
    def is_waiting(self) -> bool:
        """Return whether nothing is done until every pod and member was observed."""
        return self.is_partial and not self.actions

    @property
    def fingerprint(self) -> str:
        """Return a hash of what would be done."""
        parts = [describe(action) for action in self.actions]
        parts += [{"refusal": refusal.cause} for refusal in self.refusals]
        if self.is_waiting:
            parts.append({"blocked": True})
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
