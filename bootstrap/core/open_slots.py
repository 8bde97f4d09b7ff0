"""Slots that are not simply owned by one live node: lost owners, open slots, orphans, epochs.

Rules: the owner is who says so first-hand; keys are gathered at the owner before a slot is
closed; a slot that nobody owns goes to the node that still holds its keys. The cases of open
slots are those of clusterManagerFixOpenSlot in redis-cli.c, decided instead of asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import key_holders
from .actions import Action, BumpEpoch, ClaimSlots, CloseSlots, Failover, GatherKeys, MoveSlots
from .facts import FAILING, Facts
from .findings import FindingCode
from .slots import SlotSet
from .topology import Flag, NodeId, NodeView, Role


def promote_replicas_of_gone(facts: Facts) -> list[Action]:
    """Return the failover of a replica whose primary is gone.

    Where a quorum of primaries lives the servers elect by themselves once they agree on `fail`;
    FORCE only saves the wait. A node whose address another one has now (`noaddr`) is never
    declared failed, and without a quorum nobody can vote: there TAKEOVER or FORCE is the only way.
    Nobody votes either for one in whose own view its primary owned nothing.
    """
    actions: list[Action] = []
    for node_id in sorted(facts.slots_of_gone):
        heirs = [n for n in facts.heirs_of(node_id) if node_id in n.known]
        heir = max(heirs, key=_freshness, default=None)
        if heir is None:
            continue
        flags = heir.known[node_id].flags
        quorum = bool(heir.known[node_id].slots) and _has_quorum(facts, heir)
        if flags & {Flag.FAIL, Flag.NOADDR} or (not quorum and flags & FAILING):
            actions.append(
                Failover(node=heir.node_id, takeover=not quorum, reason=FindingCode.SLOTS_OF_GONE)
            )
    return actions


def _freshness(node: NodeView) -> tuple[int, int, int]:
    """Order replicas of one primary: who read most; an empty one may have read as much."""
    return (node.replication_offset, node.keys, -node.endpoint.ordinal)


def promote_last_copies(facts: Facts) -> list[Action]:
    """Return the failover of a replica with keys that a move had brought to its primary only.

    The primary is gone and owned nothing, so nobody elects, and nobody may: TAKEOVER takes no
    slot. As a primary the node is one that keys are gathered from.
    """
    best: dict[NodeId | None, NodeView] = {}
    for node in sorted(key_holders.last_copy_replicas(facts), key=_freshness):
        best[node.myself.primary_id] = node
    return [
        Failover(node=node.node_id, takeover=True, reason=FindingCode.MEMBER_GONE)
        for node in best.values()
    ]


def _has_quorum(facts: Facts, node: NodeView) -> bool:
    """Return whether most primaries with slots are alive, counted in the node's own view."""
    voters = [k for k in node.known.values() if k.role is Role.PRIMARY and k.slots]
    alive = [k for k in voters if k.node_id in facts.live and not k.flags & FAILING]
    return len(alive) > len(voters) // 2


def claim_uncovered_slots(facts: Facts, *, allow_data_loss: bool) -> list[Action]:
    """Return new owners for slots that nobody owns.

    A half-finished move may have left both ends saying that the other owns the slot: the
    importing node takes it. Else the node with the most keys of a slot takes it; the others' keys
    are gathered there at once; else the live primary that others still call the owner, since
    whatever there was is still with it. Other slots need consent. All wait until no replica is to
    promote_replicas_of_gone any more, for it may have keys of them.
    """
    if any(map(facts.heirs_of, facts.slots_of_gone)):
        return []
    claims: dict[NodeId, int] = {}
    gathers: dict[tuple[NodeId, NodeId], int] = {}
    orphans = facts.uncovered | (facts.lost_slots if allow_data_loss else SlotSet())
    for slot in orphans & (key_holders.slots_with_keys(facts, orphans) | _imported(facts)):
        node = _claimant(facts, slot)
        if node is not None:
            claims[node.node_id] = claims.get(node.node_id, 0) | 1 << slot
            orphans -= SlotSet.of([slot])
            _gather_at(facts, slot, node, gathers)
    for node_id, slots in facts.owner_by_peers.items():
        if slots & orphans:
            claims[node_id] = claims.get(node_id, 0) | (slots & orphans).mask
            orphans -= slots
    if orphans and allow_data_loss:
        for node, slots in _spread(facts, orphans):
            claims[node.node_id] = claims.get(node.node_id, 0) | slots.mask
    reason = FindingCode.SLOTS_UNCOVERED
    return [
        *(ClaimSlots(node=i, slots=SlotSet(mask), reason=reason) for i, mask in claims.items()),
        *_gathers(gathers, reason),
    ]


def _gather_at(
    facts: Facts, slot: int, owner: NodeView, gathers: dict[tuple[NodeId, NodeId], int]
) -> None:
    """Note that every other primary with keys of the slot gives them to its owner."""
    for node in facts.live.values():
        if (
            node is not owner
            and node.role is Role.PRIMARY
            and key_holders.keys_in(facts, node, slot)
        ):
            pair = (node.node_id, owner.node_id)
            gathers[pair] = gathers.get(pair, 0) | 1 << slot


def _gathers(gathers: dict[tuple[NodeId, NodeId], int], reason: FindingCode) -> list[GatherKeys]:
    return [
        GatherKeys(source=source, target=target, slots=SlotSet(mask), reason=reason)
        for (source, target), mask in gathers.items()
    ]


def _imported(facts: Facts) -> SlotSet:
    return SlotSet.of(slot for n in facts.live.values() for slot in n.importing)


def _claimant(facts: Facts, slot: int) -> NodeView | None:
    primaries = [n for n in facts.live.values() if n.role is Role.PRIMARY]
    return max(
        (n for n in primaries if slot in n.importing or key_holders.keys_in(facts, n, slot)),
        key=lambda n: (
            key_holders.keys_in(facts, n, slot) > 0,
            slot in n.importing,
            key_holders.keys_in(facts, n, slot),
            -n.endpoint.ordinal,
        ),
        default=None,
    )


def _spread(facts: Facts, slots: SlotSet) -> Iterator[tuple[NodeView, SlotSet]]:
    """Give lost slots to staying primaries, the ones with the fewest slots first."""
    primaries = [n for n in facts.staying if n.role is Role.PRIMARY]
    primaries.sort(key=lambda n: (len(n.slots), n.endpoint.ordinal))
    total = sum(len(n.slots) for n in primaries) + len(slots)
    for index, node in enumerate(primaries):
        share = max(0, -(-total // len(primaries)) - len(node.slots))
        part = slots if index == len(primaries) - 1 else slots.lowest(share)
        slots -= part
        if part:
            yield node, part


def resolve_contested_slots(facts: Facts) -> list[Action]:
    """Return the claim of the node with the keys where two live nodes own a slot.

    Servers settle a contest by config epoch and delete the loser's keys: who was elected last is
    right, however many keys the old owner still has. So a node claims only where no rival holds
    keys, and as its new epoch counts for all its slots, that goes for every slot that it contests.
    None claims while rivals do not see each other, because then clients may write to both; the
    bus has to come back first, and with it comes the servers' own answer.
    """
    masks: dict[NodeId, int] = {}
    barred: set[NodeId] = set()
    for slot in facts.contested:
        rivals = key_holders.rivals(facts, slot)
        best = key_holders.candidates(facts, slot)[0]
        for node in rivals:
            others = [n for n in rivals if n is not node]
            if any(key_holders.keys_in(facts, n, slot) for n in others) or not facts.see_each_other(
                rivals
            ):
                barred.add(node.node_id)
        if any(n.myself.config_epoch >= best.myself.config_epoch for n in rivals if n is not best):
            masks[best.node_id] = masks.get(best.node_id, 0) | 1 << slot
    return [
        ClaimSlots(node=node_id, slots=SlotSet(mask), reason=FindingCode.SLOTS_CONTESTED)
        for node_id, mask in sorted(masks.items())
        if node_id not in barred
    ]


def separate_colliding_epochs(facts: Facts) -> list[Action]:
    """Return one bump: two at a time would collide again, both taking the next number.

    Besides owners that share an epoch these are owners to which another node gives a higher one
    than they have, as after two pods swapped addresses, and owners of a slot that another node
    gives to somebody with a higher one, as after ADDSLOTS by hand: an epoch never goes down in a
    view, so the owner has to go up. None goes up while a slot is contested, for the epoch is what
    settles that, or while it is cut off, for then somebody may have been elected in its place.
    """
    if facts.contested:
        return []
    seen: dict[int, NodeView] = {}
    for owner in sorted(facts.owners, key=lambda n: n.endpoint.ordinal):
        first = seen.setdefault(owner.myself.config_epoch, owner)
        if first is not owner:
            return [BumpEpoch(node=owner.node_id, reason=FindingCode.EPOCH_COLLISION)]
    for observer, subject in facts.outdated_views():
        owns = bool(subject.slots) and subject.role is Role.PRIMARY
        if owns and facts.see_each_other([observer, subject]):
            told = observer.known[subject.node_id].config_epoch
            if told > subject.myself.config_epoch or _is_outranked(facts, observer, subject):
                return [BumpEpoch(node=subject.node_id, reason=FindingCode.EPOCH_COLLISION)]
    return []


def _is_outranked(facts: Facts, observer: NodeView, owner: NodeView) -> bool:
    """Return whether a view gives slots of an owner to another node, which it believes rather.

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


def close_open_slots(facts: Facts) -> list[Action]:
    """Return what finishes or reverts every slot in transit.

    A slot of which a replica without primary holds keys waits until that one is promoted, or
    replicates again: once closed, nobody would ask for its keys.
    """
    moves: dict[tuple[NodeId, NodeId], int] = {}
    gathers: dict[tuple[NodeId, NodeId], int] = {}
    closes: dict[NodeId, int] = {}
    for slot in facts.open_slots - facts.contested - key_holders.slots_held_by_orphans(facts):
        owner = next((n for n in facts.owners if slot in n.slots), None)
        if owner is not None:
            _close_one(facts, slot, owner, moves, gathers, closes)
    for slot in (facts.open_slots & facts.contested) - key_holders.slots_held_by_orphans(facts):
        if facts.see_each_other(key_holders.rivals(facts, slot)):
            _finish_contested(facts, slot, moves)
    reason = FindingCode.SLOT_OPEN
    actions: list[Action] = [
        CloseSlots(node=node, slots=SlotSet(mask), reason=reason) for node, mask in closes.items()
    ]
    actions += _gathers(gathers, reason)
    actions += [
        MoveSlots(source=source, target=target, slots=SlotSet(mask), reason=reason)
        for (source, target), mask in moves.items()
    ]
    return actions


def _close_one(
    facts: Facts,
    slot: int,
    owner: NodeView,
    moves: dict[tuple[NodeId, NodeId], int],
    gathers: dict[tuple[NodeId, NodeId], int],
    closes: dict[NodeId, int],
) -> None:
    """Decide one open slot with one owner."""
    bit = 1 << slot
    target = facts.live.get(owner.migrating.get(slot, owner.node_id))
    finish = (
        target is not None
        and target is not owner
        and slot in target.importing
        and target.role is Role.PRIMARY
        and facts.desired.stays(target.endpoint.ordinal)
    )
    gathered = False
    for node in facts.live.values():
        if node is owner or (finish and node is target):
            continue
        if node.role is Role.PRIMARY and key_holders.may_hold(facts, node, slot, owner):
            pair = (node.node_id, owner.node_id)
            gathers[pair] = gathers.get(pair, 0) | bit
            gathered = True
        elif slot in node.open_slots and (closer := _closer(facts, node, slot)):
            closes[closer] = closes.get(closer, 0) | bit
    if finish and target is not None:
        pair = (owner.node_id, target.node_id)
        moves[pair] = moves.get(pair, 0) | bit
    elif slot in owner.open_slots and not gathered:  # else gathering closes it, and not before
        closes[owner.node_id] = closes.get(owner.node_id, 0) | bit


def _closer(facts: Facts, node: NodeView, slot: int) -> NodeId | None:
    """Return who is told to close a slot that the node shows open.

    Only servers whose primaries hand SETSLOT on (Valkey from 8.0) show open slots on replicas,
    and a replica may have missed its primary's. It is not to be told anything itself; its primary
    is, which groups that on too.
    """
    if node.role is Role.PRIMARY:
        return node.node_id
    primary = facts.live.get(node.myself.primary_id or node.node_id)
    if primary is None or primary.role is Role.REPLICA or slot in primary.open_slots:
        return None
    return primary.node_id


def _finish_contested(facts: Facts, slot: int, moves: dict[tuple[NodeId, NodeId], int]) -> None:
    """Finish a move whose target was told already while its source still migrates."""
    for source in facts.owners:
        target = facts.live.get(source.migrating.get(slot, source.node_id))
        if target is not None and target is not source and slot in target.slots:
            pair = (source.node_id, target.node_id)
            moves[pair] = moves.get(pair, 0) | 1 << slot
