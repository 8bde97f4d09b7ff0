"""Who owns a slot whose owner is gone, that no node owns, or that two nodes own.

Rules: a replica with the data of a primary that is gone takes its place before anything else is
decided about its slots; a slot that no node owns goes to the node that still has its keys; where
two nodes own a slot, their config epochs decide, as they do between the servers.

Invariant: no action here takes a slot away from a node that has keys of it, unless there is
consent to lose data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from . import elections, key_holders
from .actions import Action, ClaimSlots, Failover, FailoverMode, GatherKeys
from .facts import FAILING, Facts
from .findings import FindingCode
from .slots import SlotSet
from .topology import Flag, NodeId, NodeView, Role


def promote_replicas_of_gone(facts: Facts) -> list[Failover]:
    """Return the failover of a replica whose primary is gone.

    Where a quorum of primaries lives the servers elect by themselves once they agree on `fail`;
    FORCE only saves the wait. A node whose address another node has now (`noaddr`) is never
    declared failed, so FORCE is the only way there.
    """
    actions = []
    for node_id in sorted(facts.slots_of_gone):
        replicas = [n for n in facts.successors_of(node_id) if node_id in n.known]
        best = max(replicas, key=_freshness, default=None)
        mode = None if best is None else _failover_mode(facts, best, node_id)
        if best is not None and mode is not None:
            actions.append(Failover(node=best.node_id, mode=mode, reason=FindingCode.SLOTS_OF_GONE))
    return actions


def _failover_mode(facts: Facts, replica: NodeView, gone: NodeId) -> FailoverMode | None:
    """Return how a replica is to become primary now; None while it is too early.

    TAKEOVER is the only way where no node votes: without a quorum, for the replica of a primary
    that owned nothing in that replica's own view, and where the others know a higher epoch of that
    primary than the replica does.
    """
    flags = replica.known[gone].flags
    quorum = bool(replica.known[gone].slots) and elections.has_voters(facts, replica)
    if not flags & ({Flag.FAIL, Flag.NOADDR} if quorum else {*FAILING, Flag.NOADDR}):
        return None
    if not quorum:
        return FailoverMode.TAKEOVER
    if not elections.is_denied_for_ever(facts, replica, gone):
        return FailoverMode.FORCE
    return FailoverMode.TAKEOVER if elections.takeover_is_safe(facts, replica, gone) else None


def _freshness(node: NodeView) -> tuple[int, int, int]:
    """Order replicas of one primary by what they read; an empty one may have read as much."""
    return (node.replication_offset, node.keys, -node.ordinal)


def promote_last_copies(facts: Facts) -> list[Failover]:
    """Return the failover of a replica with keys that a move had brought to its primary only.

    The primary is gone and owned nothing, so no other primary votes; TAKEOVER takes no slot from
    anybody. As a primary the node is one that keys are gathered from.
    """
    best: dict[NodeId | None, NodeView] = {}
    for node in sorted(key_holders.last_copy_replicas(facts), key=_freshness):
        best[node.myself.primary_id] = node
    return [
        Failover(node=node.node_id, mode=FailoverMode.TAKEOVER, reason=FindingCode.MEMBER_GONE)
        for node in best.values()
    ]


def claim_uncovered_slots(facts: Facts, *, allow_data_loss: bool) -> list[Action]:
    """Return new owners for slots that no node owns.

    A half-finished move may have left both ends reporting that the other owns the slot: the
    importing node takes it. Otherwise the node with the most keys of a slot takes it, and the keys
    of other nodes are gathered there at once. Otherwise the live primary takes it that others still
    report as the owner, since whatever data there was is still there. Other slots need consent.
    All of it waits until no replica is to be promoted any more, for it may have keys of the slots.
    """
    if any(map(facts.successors_of, facts.slots_of_gone)):
        return []
    claims: defaultdict[NodeId, int] = defaultdict(int)
    gathers: defaultdict[tuple[NodeId, NodeId], int] = defaultdict(int)
    left = facts.uncovered | (facts.lost_slots if allow_data_loss else SlotSet())
    for slot in left & (key_holders.slots_with_keys(facts, left) | _importing(facts)):
        node = _claimant(facts, slot)
        if node is not None:
            claims[node.node_id] |= 1 << slot
            left -= SlotSet.of([slot])
            for other in _others_with_keys(facts, slot, node):
                gathers[other.node_id, node.node_id] |= 1 << slot
    for node_id, slots in facts.owner_by_peers.items():
        if slots & left:
            claims[node_id] |= (slots & left).mask
            left -= slots
    if left and allow_data_loss:
        for node, slots in _spread(facts, left):
            claims[node.node_id] |= slots.mask
    reason = FindingCode.SLOTS_UNCOVERED
    return [
        *(ClaimSlots(node=i, slots=SlotSet(mask), reason=reason) for i, mask in claims.items()),
        *(
            GatherKeys(source=source, target=target, slots=SlotSet(mask), reason=reason)
            for (source, target), mask in gathers.items()
        ),
    ]


def _importing(facts: Facts) -> SlotSet:
    return SlotSet.of(slot for n in facts.live.values() for slot in n.importing)


def _claimant(facts: Facts, slot: int) -> NodeView | None:
    """Return the primary that has keys of a slot or imports it; keys outweigh importing."""
    primaries = [n for n in facts.live.values() if n.role is Role.PRIMARY]
    return max(
        (n for n in primaries if slot in n.importing or key_holders.keys_in(facts, n, slot)),
        key=lambda n: (
            key_holders.keys_in(facts, n, slot) > 0,
            slot in n.importing,
            key_holders.keys_in(facts, n, slot),
            -n.ordinal,
        ),
        default=None,
    )


def _others_with_keys(facts: Facts, slot: int, owner: NodeView) -> Iterable[NodeView]:
    return (
        n
        for n in facts.live.values()
        if n is not owner and n.role is Role.PRIMARY and key_holders.keys_in(facts, n, slot)
    )


def _spread(facts: Facts, slots: SlotSet) -> Iterator[tuple[NodeView, SlotSet]]:
    """Assign lost slots to staying primaries, those with the fewest slots first."""
    primaries = [n for n in facts.staying if n.role is Role.PRIMARY]
    primaries.sort(key=lambda n: (len(n.slots), n.ordinal))
    total = sum(len(n.slots) for n in primaries) + len(slots)
    for index, node in enumerate(primaries):
        share = max(0, -(-total // len(primaries)) - len(node.slots))
        part = slots if index == len(primaries) - 1 else slots.lowest(share)
        slots -= part
        if part:
            yield node, part


def resolve_contested_slots(facts: Facts) -> list[ClaimSlots]:
    """Return the claim of the node with the keys where two live nodes own a slot.

    Servers decide a contest by config epoch and delete the loser's keys: the node that was elected
    last is right, however many keys the old owner still has. So a node claims only where no other
    owner has keys, and as its new epoch counts for all its slots, that must be true forevery slot
    that it contests. No node claims while the owners do not see each other, because clients may
    write to both then; the bus has to work again first, and with it the servers decide themselves.
    """
    masks: defaultdict[NodeId, int] = defaultdict(int)
    barred: set[NodeId] = set()
    for slot in facts.contested:
        owners = key_holders.owners_of_contested(facts, slot)
        best = key_holders.strongest_owners(facts, slot)[0]
        is_cut = not facts.see_each_other(owners)
        for node in owners:
            others = [n for n in owners if n is not node]
            if is_cut or any(key_holders.keys_in(facts, n, slot) for n in others):
                barred.add(node.node_id)
        if any(n.myself.config_epoch >= best.myself.config_epoch for n in owners if n is not best):
            masks[best.node_id] |= 1 << slot
    return [
        ClaimSlots(node=node_id, slots=SlotSet(mask), reason=FindingCode.SLOTS_CONTESTED)
        for node_id, mask in sorted(masks.items())
        if node_id not in barred
    ]
