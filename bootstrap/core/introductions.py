"""Which nodes are introduced to which by MEET, and in which order: new ones, and moved ones.

Rules: an epoch can be set only while a node is isolated, so it comes before the first MEET. Only
pairs that are missing are introduced by MEET; gossip does most of it in a large cluster. A MEET
towards a node that is known already makes the two exchange headers within a tick, which is the only
way by which slots and roles travel fast after a MEET (clusterProcessPacket: the PONG that completes
a handshake is not read for slots). After an outage a majority of the primaries meets first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from . import disagreements
from .actions import Action, Meet, SetConfigEpoch, SetNoFailover
from .facts import FAILING, Facts
from .findings import FindingCode, failovers_disabled
from .shard_assignment import first_primaries
from .topology import ClusterView, NodeId, NodeView, Role

MEETS_PER_NODE = 100
MEETS_PER_PLAN = 20_000
FEW_PER_NODE = 8
Pair = tuple[NodeId, NodeId]
# Distances in the order of nodes at which a large cluster is introduced by MEET: each node has
# links at 1, 4, 16, … and reaches every other one in a few hops of gossip.
HOPS = frozenset(4**power for power in range(8))


def introduce(facts: Facts) -> list[Action]:
    """Return the MEETs that are missing, and what makes them safe: epochs, and no failover."""
    missing = reunite_quorum(facts) or meets(facts)
    return [*epochs(facts), *disable_failovers(facts), *missing]


def reunite_quorum(facts: Facts) -> list[Meet]:
    """Return the MEETs among as many primaries as are a majority, where no majority is left.

    After an outage most primaries suspect all others. Where more than a majority meets at once,
    they mark each other as failed, and all slots stay without service for two node timeouts, and
    5 s more because no primary saw a majority. A majority is too few to mark one of its own, and
    does not wait for pods that are still missing. It marks another one where all of it suspect it,
    so those come first that suspect the fewest: they have started last. Replicas wait, so that none
    is elected meanwhile.
    """
    size = _majority_in_outage(facts)
    owners = {owner.node_id: owner for owner in facts.owners}
    pairs = set(map(frozenset, _stale_among(owners, facts)))
    apart = Counter(node_id for pair in pairs for node_id in pair)
    if any(len(owners) - apart[node_id] >= size for node_id in owners):
        return []

    def suspected(node_id: NodeId) -> int:
        known = owners[node_id].known
        return sum(bool(known[i].flags & FAILING) for i in owners if i in known)

    quorum = sorted(owners, key=suspected)[:size]
    return _limited(_stale_among(quorum, facts))


def reunite_primaries(facts: Facts) -> list[Meet]:
    """Return what may be done after an outage while a pod is missing: first the majority."""
    meets_first = reunite_quorum(facts)
    if meets_first or not _majority_in_outage(facts):
        return meets_first
    return _limited(_stale_among([owner.node_id for owner in facts.owners], facts))


def _majority_in_outage(facts: Facts) -> int:
    """Return how many primaries are a majority; 0 where so many have not moved in any view."""
    known = {i for n in facts.live.values() for i, k in n.known.items() if k.slots}
    live = {owner.node_id for owner in facts.owners}
    size = len(known | live) // 2 + 1
    moved = {node.node_id for _, node in disagreements.stale_addresses(facts)}
    return size if len(live - moved) < size else 0


def _stale_among(members: Collection[NodeId], facts: Facts) -> dict[Pair, FindingCode]:
    among = set(members)
    pairs = (pair for pair in _stale_pairs(facts) if among.issuperset(pair))
    return dict.fromkeys(pairs, FindingCode.ADDRESS_STALE)


def epochs(facts: Facts) -> Iterator[SetConfigEpoch]:
    """Yield an epoch for each isolated node that no other node has, above the cluster's.

    SET-CONFIG-EPOCH is refused once a node knows another one, or has an epoch already.
    """
    highest = facts.max_epoch
    for node in facts.staying:
        is_alone = node.is_isolated and not node.handshakes
        if is_alone and not node.myself.config_epoch and not node.current_epoch:
            highest += 1
            yield SetConfigEpoch(node=node.node_id, epoch=highest, reason=FindingCode.NODE_UNKNOWN)


def disable_failovers(facts: Facts) -> Iterator[SetNoFailover]:
    """Keep replicas from elections while their live primary seems lost at an old address.

    Without it every primary loses its role to a replica while all pods come back on new
    addresses (measured on Redis 7.0).
    """
    moved = {b.node_id for _, b in disagreements.stale_addresses(facts)}
    why = FindingCode.ADDRESS_STALE
    for node in facts.live.values():
        is_moved = node.role is Role.REPLICA and node.myself.primary_id in moved
        if is_moved and node.no_failover is False:
            yield SetNoFailover(node=node.node_id, no_failover=True, reason=why)


def meets(facts: Facts) -> list[Meet]:
    """Return the MEETs that are missing: one for each unacquainted pair or stale address."""
    wanted: dict[Pair, FindingCode] = {}
    for first, second in _next_unacquainted(facts):
        if not _is_meeting(facts.live[first], facts.live[second]):
            wanted[first, second] = FindingCode.NODE_UNKNOWN
    wanted |= dict.fromkeys(_stale_pairs(facts), FindingCode.ADDRESS_STALE)
    return _limited(wanted)


def _stale_pairs(facts: Facts) -> Iterator[Pair]:
    """Yield who has to meet whom at its new address."""
    for knower, moved in disagreements.stale_addresses(facts):
        others = (n for n in facts.live.values() if n is not moved)
        sender = knower if knower is not moved else next(others, None)
        if sender and not _is_meeting(sender, moved, mutual=False):
            yield sender.node_id, moved.node_id


def _next_unacquainted(facts: Facts) -> Collection[Pair]:
    """Return the pairs to introduce now, the lower ordinal first.

    Shards first where all is new, so that replicas have their role before any other node meets
    them. Then a sparse graph that connects all nodes, and gossip introduces the others: a node
    that learns of another by gossip reads its slots and role at once, which takes another MEET
    after a MEET. What gossip left out comes last.
    """
    order = {node_id: place for place, node_id in enumerate(facts.live)}
    pairs: dict[Pair, int] = {}
    for one, other in disagreements.unacquainted_pairs(facts):
        first, second = sorted((one.node_id, other.node_id), key=order.__getitem__)
        pairs[first, second] = order[second] - order[first]
    if pairs and is_forming(facts) and len(facts.primaries) == len(facts.live):
        following = first_primaries(facts.staying, facts.desired.primaries)
        within = {frozenset(pair) for pair in following.items()}
        if found := [pair for pair in pairs if frozenset(pair) in within]:
            return found
    if len(pairs) <= FEW_PER_NODE * len(order):
        return pairs
    near = [pair for pair, distance in pairs.items() if distance in HOPS]
    is_spreading = any(n.handshakes for n in facts.live.values())
    return near if near or is_spreading else pairs


def is_forming(facts: Facts) -> bool:
    """Return whether there is nothing to lose: no keys, no service, no member gone or leaving."""
    serves = any(n.state_ok for n in facts.live.values())
    return facts.has_nothing_to_lose and not serves and not facts.leaving


def _limited(wanted: dict[Pair, FindingCode]) -> list[Meet]:
    """Return as many MEETs as keep the number of handshakes in flight bounded."""
    sent: Counter[NodeId] = Counter()
    chosen: list[Meet] = []
    for (node, target), reason in wanted.items():
        if sent[node] < MEETS_PER_NODE and len(chosen) < MEETS_PER_PLAN:
            sent[node] += 1
            chosen.append(Meet(node=node, target=target, reason=reason))
    return chosen


def _is_meeting(one: NodeView, other: NodeView, *, mutual: bool = True) -> bool:
    """Return whether a handshake between the two is under way; repeating it changes nothing."""
    return other.address in one.handshakes or (mutual and one.address in other.handshakes)


def refresh_views(facts: Facts) -> list[Action]:
    """Return MEETs that make outdated views exchange headers with the node they are wrong about.

    Slots and roles come with the MEET itself; the shard id comes with the PING that it causes,
    which on Valkey the receiver sends, so both sides are asked. Replicas whose election is due are
    left alone: a newer server closes its link to whoever sends it a MEET, and votes that are on
    it are lost, after which the next election is four node timeouts away.
    """
    why, other_why = FindingCode.VIEW_OUTDATED, FindingCode.SHARDS_DISAGREE
    asked = [(b, a, why) for a, b in disagreements.outdated_views(facts)]
    for a, b in disagreements.shard_mismatches(facts):
        asked += ((a, b, other_why), (b, a, other_why))
    wanted = {
        (one.node_id, other.node_id): reason
        for one, other, reason in asked
        if not _is_meeting(one, other, mutual=False)
    }
    due = {n.node_id for gone in facts.slots_of_gone for n in facts.successors_of(gone)}
    return [*_limited({pair: why for pair, why in wanted.items() if due.isdisjoint(pair)})]


def allow_failovers(facts: Facts) -> list[SetNoFailover]:
    """Return what lets replicas fail over again that an earlier run has held back."""
    return release_holds(n.node_id for n in failovers_disabled(facts))


def release_holds(holds: Iterable[NodeId]) -> list[SetNoFailover]:
    """Return what allows these replicas to fail over again."""
    why = FindingCode.FAILOVER_DISABLED
    return [SetNoFailover(node=node, no_failover=False, reason=why) for node in holds]


def holds_after(holds: frozenset[NodeId], actions: Iterable[Action]) -> frozenset[NodeId]:
    """Return which replicas a run keeps from failing over once these actions were applied.

    It gives them back when it ends; where it was killed, the next one does.
    """
    for action in actions:
        if isinstance(action, SetNoFailover):
            holds = holds | {action.node} if action.no_failover else holds - {action.node}
    return holds


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
