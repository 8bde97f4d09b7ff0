"""From single nodes to one cluster: epochs, first slots, MEET, REPLICATE, nudges.

Rules: slots and epochs go to a fresh node before it meets anybody, because a primary says ok only
5 s after it first owned a slot, and because an epoch can be set only while a node is alone. MEET
goes to pairs that are missing only; gossip spares most of them in a large cluster. A MEET towards
a node that is known already makes the two exchange headers within a tick, which is the only way
by which slots and roles travel fast after a MEET (clusterProcessPacket: the PONG that completes a
handshake is not read for slots).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from . import key_holders
from .actions import (
    Action,
    AssignSlots,
    CopyFunctions,
    HoldFailover,
    Meet,
    Replicate,
    SetConfigEpoch,
)
from .facts import Facts
from .findings import FindingCode, failover_holds, functions_missing
from .roles import Roles, assign_shards
from .slots import SLOT_COUNT, SlotSet, even_split
from .topology import ClusterView, NodeId, NodeView, Role

MEETS_PER_NODE = 100
MEETS_PER_PLAN = 20_000
FEW_PER_NODE = 8
Pair = tuple[NodeId, NodeId]
HOPS = frozenset(4**power for power in range(8))


def introduce(facts: Facts) -> list[Action]:
    """Return epochs for fresh nodes, first slots, holds and the MEETs that are missing."""
    return [*_epochs(facts), *assign(facts), *_holds(facts), *_meets(facts)]


def _epochs(facts: Facts) -> Iterator[SetConfigEpoch]:
    """Give each isolated node an epoch that no other has, above the cluster's."""
    highest = facts.max_epoch
    for node in facts.staying:
        alone = node.is_isolated and not node.handshakes
        if alone and node.myself.config_epoch == 0 and node.current_epoch == 0:
            highest += 1
            yield SetConfigEpoch(node=node.node_id, epoch=highest, reason=FindingCode.NODE_UNKNOWN)


def assign(facts: Facts) -> Iterator[AssignSlots]:
    """Give slots that nobody owns, and of which no node holds keys, to primaries.

    Only ever called when nothing can be lost: no node has keys, no member is gone.
    """
    if not facts.uncovered or facts.gone or any(n.keys for n in facts.live.values()):
        return
    for node, slots in _first_slots(facts):
        fresh = slots & facts.uncovered
        if fresh:
            yield AssignSlots(node=node.node_id, slots=fresh, reason=FindingCode.SLOTS_UNCOVERED)


def _first_slots(facts: Facts) -> Iterable[tuple[NodeView, SlotSet]]:
    """Return the ranges of a dealt cluster, or, where others own slots already, fill them up."""
    shards = assign_shards(facts.staying, facts.desired.primaries)
    dealt = [hand[0] for hand in shards]
    split = even_split(facts.desired.primaries)
    planned = dict(zip((n.node_id for n in dealt), split, strict=True))
    if all(
        not (owner.slots - planned.get(owner.node_id, SlotSet())) for owner in facts.owners
    ) and all(n.role is Role.PRIMARY for n in dealt):
        return list(zip(dealt, split, strict=True))
    return _fill_up(facts, dealt)


def _fill_up(facts: Facts, dealt: Iterable[NodeView]) -> list[tuple[NodeView, SlotSet]]:
    primaries = [n for n in facts.owners if facts.desired.stays(n.endpoint.ordinal)]
    for node in (*dealt, *facts.staying):
        chosen = {n.node_id for n in primaries}
        if len(primaries) >= facts.desired.primaries:
            break
        if node.role is Role.PRIMARY and node.node_id not in chosen:
            primaries.append(node)
    left, result = facts.uncovered, []
    for index, node in enumerate(primaries):
        last = index == len(primaries) - 1
        share = -(-SLOT_COUNT // len(primaries)) - len(node.slots)
        slots = left if last else left.lowest(max(0, share))
        left -= slots
        result.append((node, slots))
    return result


def _holds(facts: Facts) -> Iterator[HoldFailover]:
    """Keep replicas from elections while their live primary seems lost on an old address.

    Without it every primary loses its role to a replica while all pods come back on new
    addresses (anchors: measured on Redis 7.0).
    """
    moved = {b.node_id for _, b in facts.stale_addresses()}
    for node in facts.live.values():
        primary = node.myself.primary_id
        if node.role is Role.REPLICA and primary in moved and node.no_failover is False:
            yield HoldFailover(node=node.node_id, hold=True, reason=FindingCode.ADDRESS_STALE)


def _meets(facts: Facts) -> list[Meet]:
    """Return the MEETs that are missing: one for each unacquainted pair or stale address."""
    wanted: dict[Pair, FindingCode] = {}
    for first, second in _next_unacquainted(facts):
        if not _is_meeting(facts.live[first], facts.live[second]):
            wanted[first, second] = FindingCode.NODE_UNKNOWN
    for knower, moved in facts.stale_addresses():
        sender = knower if knower is not moved else _other_than(facts, moved)
        if sender and not _is_meeting(sender, moved, mutual=False):
            wanted[sender.node_id, moved.node_id] = FindingCode.ADDRESS_STALE
    return _limited(wanted)


def _next_unacquainted(facts: Facts) -> Collection[Pair]:
    """Return the pairs to introduce now, the lower ordinal first.

    Shards first where all is new, so that replicas have their role before anybody else meets
    them. Then a sparse graph that connects all, and gossip introduces the others: who learns of a
    node by gossip reads its slots and role at once, which takes another MEET after a MEET. What
    gossip left out comes last.
    """
    order = {node_id: place for place, node_id in enumerate(facts.live)}
    pairs: dict[Pair, int] = {}
    for one, other in facts.unacquainted_pairs():
        first, second = sorted((one.node_id, other.node_id), key=order.__getitem__)
        pairs[first, second] = order[second] - order[first]
    if pairs and is_forming(facts) and not any(n.role is Role.REPLICA for n in facts.live.values()):
        shards = assign_shards(facts.staying, facts.desired.primaries)
        mates = {frozenset((hand[0].node_id, n.node_id)) for hand in shards for n in hand[1:]}
        if found := [pair for pair in pairs if frozenset(pair) in mates]:
            return found
    if len(pairs) <= FEW_PER_NODE * len(order):
        return pairs
    near = [pair for pair, distance in pairs.items() if distance in HOPS]
    is_spreading = any(n.handshakes for n in facts.live.values())
    return near if near or is_spreading else pairs


def is_forming(facts: Facts) -> bool:
    """Return whether nothing is there yet that could be lost: no keys, no service, nobody gone."""
    in_use = any(n.keys or n.state_ok for n in facts.live.values())
    return not (in_use or facts.gone or facts.leaving)


def _limited(wanted: dict[Pair, FindingCode]) -> list[Meet]:
    """Keep the handshakes in flight bounded."""
    sent: Counter[NodeId] = Counter()
    meets: list[Meet] = []
    for (node, target), reason in wanted.items():
        if sent[node] < MEETS_PER_NODE and len(meets) < MEETS_PER_PLAN:
            sent[node] += 1
            meets.append(Meet(node=node, target=target, reason=reason))
    return meets


def _is_meeting(one: NodeView, other: NodeView, *, mutual: bool = True) -> bool:
    """Return whether a handshake between the two is under way; repeating it changes nothing."""
    return other.address in one.handshakes or (mutual and one.address in other.handshakes)


def _other_than(facts: Facts, node: NodeView) -> NodeView | None:
    return next((n for n in facts.live.values() if n is not node), None)


def replicate(facts: Facts, roles: Roles) -> list[Replicate]:
    """Return the REPLICATEs that each node's own view allows already."""
    return [
        Replicate(node=node_id, primary=primary, reason=_replicate_reason(facts.live[node_id]))
        for node_id, primary in sorted(
            roles.following.items(), key=lambda item: facts.live[item[0]].endpoint.ordinal
        )
        if _can_replicate(facts, facts.live[node_id], primary)
    ]


def _can_replicate(facts: Facts, node: NodeView, primary: NodeId) -> bool:
    if node.role is Role.REPLICA:
        if node.myself.primary_id == primary:
            return _dials_elsewhere(node, facts.live[primary])
        old = facts.live.get(node.myself.primary_id or node.node_id)
        is_needed = old is not None and old.role is Role.PRIMARY and bool(old.slots or node.keys)
        if (is_needed and not node.link_up) or node in key_holders.last_copy_replicas(facts):
            return False  # it may hold the newest copy of what its primary lost
    elif node.keys or node.slots:
        return False
    line = node.known.get(primary)
    target = facts.truth[primary]
    return line is not None and line.role is Role.PRIMARY and target.role is Role.PRIMARY


def _dials_elsewhere(node: NodeView, primary: NodeView) -> bool:
    """Return whether a replica looks for its primary where that is not any more.

    A node that learns a new address from gossip does not tell its own replication
    (clusterProcessGossipSection), and dials the old one for ever; to be told its primary again
    fixes that.
    """
    places = {primary.address.ip, *primary.endpoint.addresses}
    return not node.link_up and bool(node.primary_ip) and node.primary_ip not in places


def _replicate_reason(node: NodeView) -> FindingCode:
    return FindingCode.PRIMARY_COUNT if node.role is Role.PRIMARY else FindingCode.REPLICA_COUNT


def refresh_views(facts: Facts) -> list[Action]:
    """Return MEETs that make outdated views exchange headers with the node they are wrong about.

    Slots and roles come with the MEET itself; the shard id comes with the PING that it causes,
    which on Valkey the receiver sends, so both sides are asked. Replicas whose election is due are
    left alone: a newer server closes its link to whoever sends it a MEET, and votes that are on
    it are lost, after which the next election is four node time-outs away.
    """
    wanted: dict[Pair, FindingCode] = {}
    for observer, subject in facts.outdated_views():
        if not _is_meeting(subject, observer, mutual=False):
            wanted[subject.node_id, observer.node_id] = FindingCode.VIEW_OUTDATED
    for observer, subject in facts.shard_mismatches():
        for one, other in ((observer, subject), (subject, observer)):
            if not _is_meeting(one, other, mutual=False):
                wanted[one.node_id, other.node_id] = FindingCode.SHARDS_DISAGREE
    heirs = {n.node_id for gone in facts.slots_of_gone for n in facts.heirs_of(gone)}
    return [*_limited({pair: why for pair, why in wanted.items() if heirs.isdisjoint(pair)})]


def release_failover_holds(facts: Facts) -> list[Action]:
    """Return the end of every hold on failover."""
    return [
        HoldFailover(node=n.node_id, hold=False, reason=FindingCode.FAILOVER_HELD)
        for n in failover_holds(facts)
    ]


def copy_functions(facts: Facts) -> list[Action]:
    """Return copies of the function libraries onto new primaries."""
    source = next((n for n in facts.owners if n.libraries), None)
    if source is None:
        return []
    return [
        CopyFunctions(source=source.node_id, target=n.node_id, reason=FindingCode.FUNCTIONS_MISSING)
        for n in functions_missing(facts)
    ]


def reintroduces_members(view: ClusterView, actions: Sequence[Action]) -> bool:
    """Return whether members of a running cluster that had forgotten each other are to meet.

    From 7.2 on a FORGET travels with every ping of its 60 s ban, so such a member can be lost
    again right after it was met; *healthy* has to last a while then.
    """
    nodes = view.by_id()
    return any(node.state_ok for node in view.nodes) and any(
        not nodes[a.node].is_isolated and not nodes[a.target].is_isolated
        for a in actions
        if isinstance(a, Meet) and a.reason is FindingCode.NODE_UNKNOWN
    )
