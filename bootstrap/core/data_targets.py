"""Whether the nodes that are about to receive data can take it.

Rules: what a server cannot take back is never started at one that cannot bear it. By the servers'
own slot migration, and on a replica, writes come from a peer, which a server obeys where it would
answer a client with MISCONF, OOM or NOREPLICAS: with a failed save it ends itself instead, with
keys that it never saved (processCommand and mustObeyClient in server.c, since 7.0); below
`maxmemory` it evicts. So this is asked before the first slot moves and before a full copy starts,
and refused with the pod and the remedy before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from . import replica_buffers
from .actions import MoveSlots, Refusal
from .compatibility import all_can_read_all, can_read_copy, runs, unreadable
from .facts import Facts
from .findings import Finding, FindingCode
from .info_fields import RDB_ERROR
from .roles import Roles, assign_roles
from .shard_assignment import first_primaries
from .slot_moves import move_slots
from .slots import SLOT_COUNT, SlotSet
from .topology import NodeId, NodeView, Role

_MIB = 1 << 20
_OWN_MIGRATION = frozenset({"MIGRATION", "MIGRATESLOTS"})
_ERRORS = {
    RDB_ERROR: "its last RDB save failed",
    "aof_last_write_status": "its last write to the AOF failed",
    "aof_last_bgrewrite_status": "its last rewrite of the AOF failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingData:
    """The data that comes to the members, by id, until the cluster is as it is wanted.

    Attributes:
        copies: The primary of each node that REPLICATE makes copy all data.
        successors: Replicas that take over from a primary that leaves.
        replicas: The replicas of each primary in the end.
    """

    moves: tuple[MoveSlots, ...]
    copies: Mapping[NodeId, NodeId]
    successors: tuple[NodeId, ...]
    replicas: Mapping[NodeId, tuple[NodeId, ...]]


def incoming(facts: Facts, *, rebalance: bool) -> IncomingData | None:
    """Return the data that would come to each node.

    None where something must be repaired first, since repairs decide who owns what, and where
    there are no keys and every server can load what the others write. Without keys there are
    copies only: a server cannot load the file of a later version, whatever is in it.
    """
    is_new = not facts.owners and not facts.has_keys
    if (facts.has_damaged_slots and not is_new) or facts.open_slots or facts.is_blocked:
        return None
    if facts.has_keys:
        return _forecast(facts, rebalance=rebalance)
    if all_can_read_all(facts.staying):
        return None
    if is_new:
        copies: Mapping[NodeId, NodeId] = first_primaries(facts.staying, facts.desired.primaries)
    else:
        copies = _forecast(facts, rebalance=False).copies
    return IncomingData(moves=(), copies=copies, successors=(), replicas={})


def refuse_unfit_targets(facts: Facts, data: IncomingData) -> tuple[Refusal, ...]:
    """Return a refusal for each node that cannot take the data that would come to it."""
    with_keys = (_persistence, _room, _replica_counts, _databases, _copies)
    checks = with_keys if facts.has_keys else (_copies,)
    return tuple(chain.from_iterable(check(facts, data) for check in checks))


def notice_small_buffers(facts: Facts, data: IncomingData) -> tuple[Finding, ...]:
    """Return a notice for each primary that may drop the copies that are made of it.

    The servers' own slot migration is such a copy; `MIGRATE` is none.
    """
    sizes = {primary: facts.live[primary].data_bytes for primary in data.copies.values()}
    for move in data.moves:
        if facts.live[move.source].commands & _OWN_MIGRATION:
            sizes[move.source] = sizes.get(move.source, 0) + _bytes_of(facts, move)
    pairs = ((facts.live[i], replica_buffers.warning(facts.live[i], sizes[i])) for i in sizes)
    code = FindingCode.REPLICA_BUFFER_SMALL
    return tuple(Finding(code=code, node=node.name, detail=text) for node, text in pairs if text)


def _forecast(facts: Facts, *, rebalance: bool) -> IncomingData:
    """Return the data that would come to each node, by the roles of the whole plan.

    So it is known before the first MEET.
    """
    future = _with_members(facts)
    roles = assign_roles(future)
    replicas: dict[NodeId, tuple[NodeId, ...]] = {}
    for node_id, primary in roles.following.items():
        replicas[primary] = (*replicas.get(primary, ()), node_id)
    return IncomingData(
        moves=tuple(move_slots(_after_failovers(future, roles), roles, rebalance=rebalance)),
        copies={i: p for i, p in roles.following.items() if _copies_all(future, i, p)},
        successors=tuple(i for i in roles.failovers if future.live[i].role is Role.REPLICA),
        replicas=replicas,
    )


def _with_members(facts: Facts) -> Facts:
    """Return the facts once every pod that is alone has met the others."""
    lines = {n.node_id: n.myself for n in facts.staying}
    return _changed(
        facts, {n.node_id: replace(n, known=lines) for n in facts.staying if n.is_isolated}
    )


def _after_failovers(facts: Facts, roles: Roles) -> Facts:
    """Return the facts once each successor has the slots of the primary that it takes over from."""
    changed: dict[NodeId, NodeView] = {}
    for successor in (facts.live[i] for i in roles.failovers):
        owner = facts.live[successor.shard_primary]
        changed[successor.node_id] = _owning(successor, owner.slots)
        changed[owner.node_id] = _owning(owner, SlotSet())
    return _changed(facts, changed)


def _owning(node: NodeView, slots: SlotSet) -> NodeView:
    line = replace(node.myself, slots=slots)
    return replace(node, known={**node.known, node.node_id: line})


def _changed(facts: Facts, changed: Mapping[NodeId, NodeView]) -> Facts:
    nodes = tuple(changed.get(n.node_id, n) for n in facts.view.nodes)
    return Facts(replace(facts.view, nodes=nodes), facts.desired) if changed else facts


def _copies_all(facts: Facts, node_id: NodeId, primary: NodeId) -> bool:
    """Return whether a node copies everything; replicas continue with the successor."""
    present = facts.live[node_id].myself.primary_id
    return present is None or present not in {primary, facts.truth[primary].primary_id}


def _receivers(facts: Facts, data: IncomingData) -> dict[NodeId, str]:
    """Return every node to which data comes, with what it is to receive."""
    found: dict[NodeId, str] = {}
    for target in dict.fromkeys(move.target for move in data.moves):
        found[target] = "is to take slots"
        for replica in data.replicas.get(target, ()):
            found[replica] = f"replicates {facts.live[target].name}, which is to take slots"
    for node_id, primary in data.copies.items():
        found.setdefault(node_id, f"is to copy the data of {facts.live[primary].name}")
    for successor in data.successors:
        found.setdefault(successor, "is to become primary")
    return found


def _persistence(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse where the server could not save what comes."""
    for node_id, role in _receivers(facts, data).items():
        node = facts.live[node_id]
        for field in sorted(node.persistence_errors):
            command = "BGSAVE" if field == RDB_ERROR else "BGREWRITEAOF"
            yield Refusal(
                node=node.name,
                cause=f"{node.name} {role}, but {_ERRORS[field]} ({field}:err)",
                remedy=f"see the log of {node.name}, make room on its volume, and run {command} "
                "there until that field of INFO persistence says ok",
            )


def _room(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse where the data that comes does not fit below `maxmemory`."""
    coming: dict[NodeId, int] = {}
    for move in data.moves:
        coming[move.target] = coming.get(move.target, 0) + _bytes_of(facts, move)
    for target, size in coming.items():
        node = facts.live[target]
        yield from _too_full(node, node.used_memory, size)
    for primary, replicas in data.replicas.items():
        size = facts.live[primary].data_bytes + coming.get(primary, 0)
        for node in (facts.live[i] for i in replicas):
            if primary in coming or node.node_id in data.copies:
                yield from _too_full(node, max(0, node.used_memory - node.data_bytes), size)
    for node in (facts.live[i] for i in data.successors if i not in coming):
        yield from _too_full(node, node.used_memory - node.data_bytes, node.data_bytes)


def _bytes_of(facts: Facts, move: MoveSlots) -> int:
    """Return about how much data moves; a source that is a successor has its primary's slots."""
    node = facts.live[move.source]
    slots = len((facts.primary_of(node) or node).slots) or SLOT_COUNT
    return node.data_bytes * len(move.slots) // slots


def _too_full(node: NodeView, base: int, size: int) -> Iterator[Refusal]:
    if not size or not node.max_memory or base + size <= node.max_memory:
        return
    policy = node.eviction_policy
    effect = "would refuse writes" if policy == "noeviction" else "would evict keys"
    room = max(0, node.max_memory - base)
    yield Refusal(
        node=node.name,
        cause=f"about {_mib(size)} of data come to {node.name}, which has room for {_mib(room)} "
        f"below its maxmemory of {_mib(node.max_memory)} and {effect} ({policy})",
        remedy=f"raise maxmemory of {node.name}, or keep more pods",
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"


def _replica_counts(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse a target that would reject writes because it has too few replicas."""
    for target in dict.fromkeys(move.target for move in data.moves):
        node, count = facts.live[target], len(data.replicas.get(target, ()))
        if node.min_replicas_to_write > count:
            yield Refusal(
                node=node.name,
                cause=f"{node.name} is to take slots, but takes no writes with fewer than "
                f"{node.min_replicas_to_write} replicas (min-replicas-to-write), and will have "
                f"{count}",
                remedy="lower min-replicas-to-write, or raise BOOTSTRAP_REPLICAS and the pods",
            )


def _databases(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse a server that does not have every database from which it would receive keys.

    A replica exits when it loads a copy with such a database (rdbLoadRioWithLoadingCtx).
    """
    sources = dict(data.copies)
    sources |= {
        node_id: move.source
        for move in data.moves
        for node_id in (move.target, *data.replicas.get(move.target, ()))
    }
    for node_id, source in sources.items():
        node, writer = facts.live[node_id], facts.live[source]
        if node.databases and writer.highest_database >= node.databases:
            yield Refusal(
                node=node.name,
                cause=f"{writer.name} has keys in database {writer.highest_database}, and "
                f"{node.name}, which would receive its data, has `cluster-databases "
                f"{node.databases}`",
                remedy=f"set cluster-databases of {node.name} to that of {writer.name} and restart "
                "the pod",
            )


def _copies(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse where one server cannot read what the other one writes."""
    for node_id, primary in data.copies.items():
        node, writer = facts.live[node_id], facts.live[primary]
        if not can_read_copy(node, writer):
            yield unreadable(node, writer)
    for target, source in {move.target: move.source for move in reversed(data.moves)}.items():
        node, writer = facts.live[target], facts.live[source]
        if not can_read_copy(node, writer):
            yield Refusal(
                node=node.name,
                cause=f"{node.name} runs {runs(node)}, {writer.name} {runs(writer)}: it cannot "
                "read the keys that would move to it",
                remedy=f"give {node.name} the version of {writer.name}, or a later one",
            )
