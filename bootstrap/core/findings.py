"""What keeps a cluster from being healthy, as coded values.

Rules: `diagnose` reports everything that is not as required in any node's own view, and nothing
beyond that: an empty result is the definition of *healthy*. `notices` reports what is odd and does
not keep a cluster from being healthy, such as surplus pods. Pairs of nodes are reported once per
code with the first few names, so that a thousand nodes do not make a million findings.

Invariant: equal views give equal findings, whatever the order of nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from . import disagreements, replica_buffers
from .facts import Facts
from .slots import SLOT_COUNT, SlotSet
from .topology import NodeId, NodeView, Role, short_id

_NAMED = 3
_MANY = 1000
_MOST_MEMBERS = 100


class FindingCode(StrEnum):
    """Kinds of findings; part of the JSON output and of the logs."""

    POD_ABSENT = "pod_absent"
    MEMBER_UNSEEN = "member_unseen"
    NODE_UNKNOWN = "node_unknown"
    ADDRESS_STALE = "address_stale"
    HANDSHAKE_OPEN = "handshake_open"
    NODE_FAILING = "node_failing"
    MEMBER_GONE = "member_gone"
    MEMBER_LEAVING = "member_leaving"
    EPOCH_COLLISION = "epoch_collision"
    SLOT_OPEN = "slot_open"
    SLOTS_CONTESTED = "slots_contested"
    SLOTS_UNCOVERED = "slots_uncovered"
    SLOTS_OF_GONE = "slots_of_gone"
    SLOTS_UNEVEN = "slots_uneven"
    PRIMARY_COUNT = "primary_count"
    REPLICA_COUNT = "replica_count"
    REPLICA_CHAINED = "replica_chained"
    REPLICA_LINK_DOWN = "replica_link_down"
    FUNCTIONS_MISSING = "functions_missing"
    FAILOVER_DISABLED = "failover_disabled"
    VIEW_OUTDATED = "view_outdated"
    STATE_FAIL = "state_fail"
    SHARDS_DISAGREE = "shards_disagree"
    PLACE_SHARED = "place_shared"
    PODS_SURPLUS = "pods_surplus"
    REPLICA_BUFFER_SMALL = "replica_buffer_small"


WAITING = frozenset({FindingCode.POD_ABSENT, FindingCode.MEMBER_UNSEEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as required.

    Attributes:
        node: The pod concerned, or the first of several; empty when it is the whole cluster.
        detail: One clause that names the things.
    """

    code: FindingCode
    node: str = ""
    detail: str = ""


def diagnose(facts: Facts, *, rebalance: bool = True) -> tuple[Finding, ...]:
    """Return all that keeps the cluster from being healthy; empty when it is healthy.

    Slots must be even to within one only where that is wanted (`rebalance`).
    """
    return (
        *_absent(facts),
        *_membership(facts),
        *_slots(facts),
        *_roles(facts),
        *_links(facts),
        *(_evenness(facts) if rebalance else ()),
        *_agreement(facts),
    )


def notices(facts: Facts) -> tuple[Finding, ...]:
    """Return what is reported but does not keep the cluster from being healthy.

    Pods beyond the wanted number that are members leave; others are there by a size that this
    program was not given.
    """
    surplus = [n.name for n in facts.surplus]
    if not surplus:
        return ()
    detail = (
        f"{listed(surplus)}: in DNS beyond the {facts.desired.nodes} wanted pods, and no members; "
        "usual causes: an overlay whose size did not reach BOOTSTRAP_NODES, or kubectl scale; "
        f"apply the size that is wanted (replicas:), or scale back to {facts.desired.nodes}"
    )
    return (Finding(code=FindingCode.PODS_SURPLUS, node=surplus[0], detail=detail),)


def listed(
    names: Sequence[str], more: str = " more", *, most: int | None = _NAMED, separator: str = ", "
) -> str:
    """Return the first names, and how many others there are."""
    rest = 0 if most is None else len(names) - most
    return separator.join(names[:most]) + (f" and {rest}{more}" if rest > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where that is right."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pairs(
    code: FindingCode, verb: str, pairs: Iterable[tuple[NodeView, NodeView]]
) -> Iterator[Finding]:
    """Yield one finding for all (observer, subject) pairs."""
    some = list(islice(pairs, _MANY))
    if some:
        more = f"{'+' if len(some) == _MANY else ''} more pairs"
        said = [f"{a.name} {verb} {'itself' if a is b else b.name}" for a, b in some]
        detail = listed(said, more)
        yield Finding(code=code, node=some[0][0].name, detail=detail)


def _absent(facts: Facts) -> Iterator[Finding]:
    for absent in facts.blocking_pods:
        yield Finding(code=FindingCode.POD_ABSENT, node=absent.name, detail=absent.named_cause)
    state = "is healthy according to its peers but matches no pod that answered"
    yield from _members(facts, facts.unseen, FindingCode.MEMBER_UNSEEN, state)


def most_members(facts: Facts) -> int:
    """Return how many members without a view are named: a peer may make a thousand up."""
    return max(_MOST_MEMBERS, facts.desired.nodes)


def _members(
    facts: Facts, ids: Iterable[NodeId], code: FindingCode, state: str
) -> Iterator[Finding]:
    """Yield a finding for each member without a view; one for all of them beyond the first ones."""
    every, most = sorted(ids), most_members(facts)
    for node_id in every[:most]:
        yield _member(facts, node_id, code, state)
    if left := every[most:]:
        first = _member(facts, left[0], code, state)
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        yield Finding(code=code, node=first.node, detail=f"{first.detail}{more}")


def _member(facts: Facts, node_id: NodeId, code: FindingCode, state: str) -> Finding:
    """Return the finding of a member without a view, at the first pod that knows it."""
    knower = next(n for n in facts.live.values() if node_id in n.known)
    address = knower.known[node_id].address
    where = f"at {address}" if address.ip else "without an address"
    detail = f"member {short_id(node_id)} {where} {state}"
    return Finding(code=code, node=knower.name, detail=detail)


def _membership(facts: Facts) -> Iterator[Finding]:
    unacquainted = disagreements.unacquainted_pairs(facts)
    yield from _pairs(FindingCode.NODE_UNKNOWN, "does not know", unacquainted)
    stale = disagreements.stale_addresses(facts)
    yield from _pairs(FindingCode.ADDRESS_STALE, "has an outdated address of", stale)
    shaking = [n for n in facts.live.values() if n.handshakes]
    if shaking:
        first = min(map(str, shaking[0].handshakes))
        on = counted(len(shaking), "node")
        detail = f"handshakes in progress on {on}: {shaking[0].name} with {first}"
        yield Finding(code=FindingCode.HANDSHAKE_OPEN, node=shaking[0].name, detail=detail)
    yield from _pairs(FindingCode.NODE_FAILING, "reports fail of", disagreements.flagged(facts))
    state = "is gone: no node has a link to it"
    yield from _members(facts, facts.gone, FindingCode.MEMBER_GONE, state)
    for node in facts.leaving:
        detail = f"{node.name} is a member but no longer one of the wanted pods"
        if node.role is Role.PRIMARY and node.keys and not node.slots:
            detail += f", and has {counted(node.keys, 'key')} of slots that it does not own"
        yield Finding(code=FindingCode.MEMBER_LEAVING, node=node.name, detail=detail)


def _slots(facts: Facts) -> Iterator[Finding]:
    unowned = "not owned by a pod that answered" if facts.is_blocked else "owned by no node"
    for code, slots, state in (
        (FindingCode.SLOTS_UNCOVERED, facts.uncovered, unowned),
        (FindingCode.SLOTS_CONTESTED, facts.contested, "owned by two nodes"),
        (FindingCode.SLOT_OPEN, facts.open_slots, "in transit"),
        *(
            (FindingCode.SLOTS_OF_GONE, slots, f"of member {short_id(node_id)}, which is gone")
            for node_id, slots in sorted(facts.slots_of_gone.items())
        ),
    ):
        if slots:
            count = counted(len(slots), "slot")
            yield Finding(code=code, detail=f"{count} {state}: {abbreviate(slots)}")
    epochs = Counter(owner.myself.config_epoch for owner in facts.owners)
    for owner in facts.owners:
        if epochs[owner.myself.config_epoch] > 1:
            detail = f"{owner.name} shares config epoch {owner.myself.config_epoch}"
            yield Finding(code=FindingCode.EPOCH_COLLISION, node=owner.name, detail=detail)


def _roles(facts: Facts) -> Iterator[Finding]:
    primaries, desired = facts.staying_primaries, facts.desired
    if len(primaries) != desired.primaries:
        has = "1 primary" if len(primaries) == 1 else f"{len(primaries)} primaries"
        detail = f"{has}, {desired.primaries} wanted"
        yield Finding(code=FindingCode.PRIMARY_COUNT, detail=detail)
    for primary in primaries:
        count = sum(map(facts.stays, facts.replicas_of(primary.node_id)))
        if primary.slots and not desired.replicas <= count <= desired.most_replicas:
            has = counted(count, "replica")
            detail = f"{primary.name} has {has}, {desired.replicas} wanted"
            yield Finding(code=FindingCode.REPLICA_COUNT, node=primary.name, detail=detail)
    for node in facts.staying:
        primary_line = facts.truth.get(node.shard_primary)
        if node.role is Role.REPLICA and primary_line and primary_line.role is Role.REPLICA:
            detail = f"{node.name} replicates a replica"
            yield Finding(code=FindingCode.REPLICA_CHAINED, node=node.name, detail=detail)


def _links(facts: Facts) -> Iterator[Finding]:
    down = [n for n in facts.staying if not n.link_up]
    if down:
        primaries = filter(None, map(facts.primary_of, down))
        warnings = (replica_buffers.warning(p, p.data_bytes) for p in primaries)
        few = listed([n.name for n in down]) + next((f"; {each}" for each in warnings if each), "")
        detail = f"no replication link to the primary: {few}"
        yield Finding(code=FindingCode.REPLICA_LINK_DOWN, node=down[0].name, detail=detail)


def _evenness(facts: Facts) -> Iterator[Finding]:
    counts = sorted((len(n.slots), n.name) for n in facts.staying_primaries)
    low, high = SLOT_COUNT // facts.desired.primaries, -(-SLOT_COUNT // facts.desired.primaries)
    wrong = [f"{name} {count}" for count, name in counts if not low <= count <= high]
    if wrong:
        each = str(low) if low == high else f"{low} or {high}"
        detail = f"slots are uneven, each primary should own {each}: {listed(wrong)}"
        yield Finding(code=FindingCode.SLOTS_UNEVEN, detail=detail)


def _agreement(facts: Facts) -> Iterator[Finding]:
    outdated = disagreements.outdated_views(facts)
    yield from _pairs(FindingCode.VIEW_OUTDATED, "has an outdated view of", outdated)
    failing = [n.name for n in facts.live.values() if not n.state_ok]
    if failing:
        on = counted(len(failing), "node")
        detail = f"cluster_state is fail on {on}: {listed(failing)}"
        yield Finding(code=FindingCode.STATE_FAIL, node=failing[0], detail=detail)
    for node in functions_missing(facts)[:1]:
        detail = f"{node.name} lacks the function libraries of the cluster"
        yield Finding(code=FindingCode.FUNCTIONS_MISSING, node=node.name, detail=detail)
    for node in failovers_disabled(facts):
        detail = f"{node.name} may not fail over: cluster-replica-no-failover is set"
        yield Finding(code=FindingCode.FAILOVER_DISABLED, node=node.name, detail=detail)
    mismatches = disagreements.shard_mismatches(facts)
    yield from _pairs(FindingCode.SHARDS_DISAGREE, "has another shard id for", mismatches)


def functions_missing(facts: Facts) -> list[NodeView]:
    """Return new primaries (no slots yet) without the function libraries that others have.

    A node that was a member before may have come back with the libraries of that time.
    """
    source = next((n for n in facts.owners if n.libraries), None)
    empty = (n for n in facts.staying_primaries if not n.slots)
    return [n for n in empty if not n.libraries or _lacks(n, source)] if source else []


def _lacks(node: NodeView, source: NodeView) -> bool:
    if node.functions is None or source.functions is None:
        return False
    return not source.functions <= node.functions


def failovers_disabled(facts: Facts) -> list[NodeView]:
    """Return the nodes that an earlier run still keeps from failing over.

    A run sets `cluster-replica-no-failover` on replicas only; one of them may have been made a
    primary since. Where every node has it, it is the configuration of the people who run the
    cluster and stays.
    """
    disabled = [n for n in facts.live.values() if n.no_failover]
    return disabled if len(disabled) < len(facts.live) else []


def abbreviate(slots: SlotSet, most: int | None = 5) -> str:
    """Return the first ranges, with a mark where some were left out."""
    ranges = str(slots).split(",")
    return ",".join(ranges[:most]) + (",…" if most and len(ranges) > most else "")
