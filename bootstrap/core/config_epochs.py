"""Config epochs: every owner has one of its own, and a target of a move has a higher one.

Rules: a claim to a slot wins by config epoch, and the loser deletes its keys of the slot
(clusterUpdateSlotsConfigWith in cluster_legacy.c). SETSLOT NODE raises the new owner's epoch above
all that it has heard of, without asking anybody. Two ways lead from there to a source with a
higher epoch, and to lost keys (seen on Redis 7.0, moves back and forth in a row): the target had
not heard of the source's epoch yet; or the source shared its epoch with another primary, and the
servers resolve that by raising one of the two at some later time
(clusterHandleConfigEpochCollision). So before a slot moves the sources have epochs of their own
and the targets have higher ones.

Invariant: no epoch is raised while a slot is contested, for the epoch is what decides the contest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from . import disagreements
from .actions import BumpEpoch, MoveSlots
from .facts import Facts
from .findings import FindingCode
from .topology import NodeId, NodeView, Role


def separate_colliding_epochs(facts: Facts) -> list[BumpEpoch]:
    """Return one bump: two at a time would collide again, since both take the next number.

    Besides owners that share an epoch these are owners to which another node attributes a higher
    epoch than they have, as after two pods swapped addresses, and owners of a slot that another
    node attributes to a third node with a higher epoch, as after ADDSLOTS by hand: an epoch never
    goes down in a view, so the owner has to go up. No owner goes up while it is cut off, for then
    another node may have been elected in its place.
    """
    if facts.contested:
        return []
    seen: dict[int, NodeView] = {}
    for owner in sorted(facts.owners, key=lambda n: n.ordinal):
        first = seen.setdefault(owner.myself.config_epoch, owner)
        if first is not owner:
            return [BumpEpoch(node=owner.node_id, reason=FindingCode.EPOCH_COLLISION)]
    for observer, subject in disagreements.outdated_views(facts):
        owns = bool(subject.slots) and subject.role is Role.PRIMARY
        if owns and facts.see_each_other([observer, subject]):
            reported = observer.known[subject.node_id].config_epoch
            if reported > subject.myself.config_epoch or _is_outranked(facts, observer, subject):
                return [BumpEpoch(node=subject.node_id, reason=FindingCode.EPOCH_COLLISION)]
    return []


def _is_outranked(facts: Facts, observer: NodeView, owner: NodeView) -> bool:
    """Return whether a view assigns slots of an owner to another node with no lower epoch.

    Not where replicas of that node live: one of them may be elected, and has the keys.
    """
    missing = owner.slots - observer.known[owner.node_id].slots
    return bool(missing) and any(
        line.slots & missing
        and line.config_epoch >= owner.myself.config_epoch
        and (line.node_id in facts.live or not facts.replicas_of(line.node_id))
        for line in observer.known.values()
        if line.node_id != owner.node_id
    )


def one_way(moves: Iterable[MoveSlots]) -> list[MoveSlots]:
    """Return the first moves among which no node is both a source and a target.

    Taking a slot raises the epoch of a node, so what it gives away has to wait for the next plan.
    """
    sources: set[NodeId] = set()
    targets: set[NodeId] = set()
    chosen = []
    for move in moves:
        if move.source not in targets and move.target not in sources:
            sources.add(move.source)
            targets.add(move.target)
            chosen.append(move)
    return chosen


def are_ordered(facts: Facts, moves: Sequence[MoveSlots]) -> bool:
    """Return whether each source has an epoch of its own, and each target a higher one."""
    return not _shared_sources(facts, moves) and not _low_targets(facts, moves)


def order_epochs(facts: Facts, moves: Sequence[MoveSlots]) -> list[BumpEpoch]:
    """Return the bumps after which the moves are safe, as far as they can be made now.

    A node that has not heard of the highest epoch would take one that is in use, so it waits for
    gossip. Where BUMPEPOCH changes nothing, because the node has the highest epoch and shares it,
    the servers separate the two by themselves.
    """
    if facts.contested:
        return []
    shared = _shared_sources(facts, moves)
    raised = shared[:1] or _low_targets(facts, moves)
    sources = [facts.live[i] for i in dict.fromkeys(m.source for m in moves)]
    return [
        BumpEpoch(node=n.node_id, reason=moves[0].reason)
        for n in raised
        if _has_heard_all(facts, n)
        and facts.see_each_other([n, *(s for s in sources if s is not n)])
    ]


def _shared_sources(facts: Facts, moves: Sequence[MoveSlots]) -> list[NodeView]:
    used = Counter(n.myself.config_epoch for n in facts.primaries)
    sources = (facts.live[i] for i in dict.fromkeys(m.source for m in moves))
    return [n for n in sources if used[n.myself.config_epoch] > 1]


def _low_targets(facts: Facts, moves: Sequence[MoveSlots]) -> list[NodeView]:
    highest = max((facts.live[m.source].myself.config_epoch for m in moves), default=0)
    targets = (facts.live[i] for i in dict.fromkeys(m.target for m in moves))
    return [n for n in targets if n.myself.config_epoch <= highest]


def _has_heard_all(facts: Facts, node: NodeView) -> bool:
    """Return whether a node knows of the highest epoch that any primary has."""
    heard = max(node.current_epoch, *(k.config_epoch for k in node.known.values()))
    return heard >= max(n.myself.config_epoch for n in facts.primaries)
