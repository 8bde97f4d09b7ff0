"""Who owns a slot whose owner is gone, that no node owns, or that two nodes own.

Rules: a replica with the data of a primary that is gone takes its place before anything else is
decided about its slots; a slot that no node owns goes to the node that still has its keys; where
two nodes own a slot, their config epochs decide, as they do between the servers.

Invariant: no action here takes a slot away from a node that has keys of it, unless there is
consent to lose data.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import elections, key_holders
from .actions import Action, ClaimSlots, Failover, FailoverMode, GatherKeys, merge_slots
from .facts import Facts
from .findings import FindingCode
from .slots import SlotSet, union_by_key
from .topology import NodeId, NodeView


def promote_replicas_of_gone(facts: Facts) -> list[Failover]:
    """Return the failover of a replica whose primary is gone.

    Where a quorum of primaries lives the servers elect by themselves once they agree on `fail`;
    FORCE only saves the wait. A node whose address another node has now (`noaddr`) is never
    declared failed, so FORCE is the only way there.
    """
    actions = []
    for node_id in sorted(facts.slots_of_gone):
        replicas = [n for n in facts.successors_of(node_id) if node_id in n.known]
        best = key_holders.freshest(replicas)
        if best and (mode := elections.failover_mode(facts, best, node_id)):
            actions.append(Failover(node=best.node_id, mode=mode, reason=FindingCode.SLOTS_OF_GONE))
    return actions


def promote_last_copies(facts: Facts) -> list[Failover]:
    """Return the failover of a replica with keys that a move had brought to its primary only.

    The primary is gone and owned nothing, so no other primary votes; TAKEOVER takes no slot from
    anybody. As a primary the node is one that keys are gathered from.
    """
    replicas = key_holders.last_copy_replicas(facts)
    primaries = dict.fromkeys(n.myself.primary_id for n in replicas)
    best = (
        key_holders.freshest([n for n in replicas if n.myself.primary_id == i]) for i in primaries
    )
    return [
        Failover(node=node.node_id, mode=FailoverMode.TAKEOVER, reason=FindingCode.MEMBER_GONE)
        for node in best
        if node
    ]


def claim_uncovered_slots(facts: Facts, *, allow_data_loss: bool) -> list[Action]:
    """Return new owners for slots that no node owns.

    The node with the most keys of a slot takes it. A half-finished move may have left both ends
    reporting that the other owns the slot: then the importing node takes it, unless another one may
    have keys that it does not show. Otherwise the live primary takes it that others still report as
    the owner, since whatever data there was is still there. Other slots need consent. What other
    nodes have, or may have, is gathered there at once.
    All of it waits until no replica is to be promoted any more, for it may have keys of the slots.
    """
    if any(map(facts.successors_of, facts.slots_of_gone)):
        return []
    reason = FindingCode.SLOTS_UNCOVERED
    claims: list[tuple[NodeId, SlotSet]] = []
    left = facts.uncovered | (facts.lost_slots if allow_data_loss else SlotSet())
    for slot in left & (key_holders.slots_with_keys(facts, left) | facts.importing):
        if node := _claimant(facts, slot):
            slots = SlotSet.of([slot])
            claims.append((node.node_id, slots))
            left -= slots
    for node_id, slots in facts.owner_by_peers.items():
        if slots & left:
            claims.append((node_id, slots & left))
            left -= slots
    if allow_data_loss:
        hidden = [(n.node_id, left) for n in key_holders.hidden_holders(facts)[:1]]
        claims += hidden if left and hidden else _spread(facts, left)
    claimed = union_by_key(claims)
    gathers = [
        GatherKeys(source=n.node_id, target=node_id, slots=SlotSet.of([slot]), reason=reason)
        for node_id, slots in claimed.items()
        for n in facts.primaries
        if n.node_id != node_id
        for slot in slots
        if key_holders.may_have_keys(facts, n, slot)
    ]
    return [
        *(ClaimSlots(node=i, slots=slots, reason=reason) for i, slots in claimed.items()),
        *merge_slots(gathers),
    ]


def _claimant(facts: Facts, slot: int) -> NodeView | None:
    """Return the primary that has keys of a slot, or may have, or imports it."""

    def claim(node: NodeView) -> tuple[bool, int, bool, int, int]:
        count, imports = key_holders.keys_in(facts, node, slot), slot in node.importing
        hidden = 0 if count or imports else key_holders.hidden_keys(facts, node)
        return (count > 0, hidden, imports, count, -node.ordinal)

    found = (n for n in facts.primaries if any(claim(n)[:3]))
    return max(found, key=claim, default=None)


def _spread(facts: Facts, slots: SlotSet) -> Iterator[tuple[NodeId, SlotSet]]:
    """Assign lost slots to staying primaries, those with the fewest slots first."""
    primaries = sorted(facts.staying_primaries, key=lambda n: (len(n.slots), n.ordinal))
    total = sum(len(n.slots) for n in primaries) + len(slots)
    for node in primaries:
        part = slots.lowest(-(-total // len(primaries)) - len(node.slots))
        slots -= part
        if part:
            yield node.node_id, part


def resolve_contested_slots(facts: Facts) -> list[ClaimSlots]:
    """Return the claim of the node with the keys where two live nodes own a slot.

    Servers decide a contest by config epoch and delete the loser's keys: the node that was elected
    last is right, however many keys the old owner still has. So a node claims only where no other
    owner has keys, and as its new epoch counts for all its slots, that must be true for every slot
    that it contests. No node claims while the owners do not see each other, because clients may
    write to both then; the bus has to work again first, and with it the servers decide themselves.
    """
    claims: list[tuple[NodeId, SlotSet]] = []
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
            claims.append((best.node_id, SlotSet.of([slot])))
    return [
        ClaimSlots(node=node_id, slots=slots, reason=FindingCode.SLOTS_CONTESTED)
        for node_id, slots in sorted(union_by_key(claims).items())
        if node_id not in barred
    ]
