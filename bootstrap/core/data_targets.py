"""Whether the nodes that are about to receive data can take it.

Rules: what a server cannot take back is never started at one that cannot bear it. By the servers'
own slot migration, and on a replica, writes come from a peer, which a server obeys where it would
answer a client with MISCONF, OOM or NOREPLICAS: with a failed save it ends itself instead, with
keys that it never saved (processCommand and mustObeyClient in server.c, since 7.0); below
`maxmemory` it evicts. So this is asked before the first slot moves and before a full copy starts,
and refused with the pod and the remedy before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from . import compatibility
from .actions import MoveSlots, Refusal
from .facts import Facts
from .incoming_data import IncomingData, forecast
from .info_fields import RDB_ERROR
from .slots import SLOT_COUNT
from .topology import NodeId, NodeView

_MIB = 1 << 20


def refuse_unfit_targets(facts: Facts, *, rebalance: bool) -> tuple[Refusal, ...]:
    """Return a refusal for each node that cannot take the data that would come to it.

    Nothing is asked where no node has keys, or where something must be repaired first.
    """
    damaged = facts.uncovered or facts.slots_of_gone or facts.contested or facts.open_slots
    waits = facts.blocking_pods or facts.unseen
    if damaged or waits or not any(n.keys for n in facts.live.values()):
        return ()
    data = forecast(facts, rebalance=rebalance)
    checks = (_persistence, _room, _replica_counts, _copies)
    return tuple(chain.from_iterable(check(facts, data) for check in checks))


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


_ERRORS = {
    RDB_ERROR: "its last RDB save failed",
    "aof_last_write_status": "its last write to the AOF failed",
    "aof_last_bgrewrite_status": "its last rewrite of the AOF failed",
}


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
        size = facts.live[move.source].data_bytes * len(move.slots) // _slots_of_source(facts, move)
        coming[move.target] = coming.get(move.target, 0) + size
    for target, size in coming.items():
        node = facts.live[target]
        if too_full := _too_full(node, node.used_memory, size):
            yield too_full
    for primary, replicas in data.replicas.items():
        size = facts.live[primary].data_bytes + coming.get(primary, 0)
        for node in (facts.live[i] for i in replicas):
            starts = primary in coming or node.node_id in data.copies
            base = max(0, node.used_memory - node.data_bytes)
            if starts and (too_full := _too_full(node, base, size)):
                yield too_full
    for node in (facts.live[i] for i in data.successors if i not in coming):
        base = node.used_memory - node.data_bytes
        if too_full := _too_full(node, base, node.data_bytes):
            yield too_full


def _slots_of_source(facts: Facts, move: MoveSlots) -> int:
    """Return how many slots the source of a move has; a successor gets those of its primary."""
    node = facts.live[move.source]
    return len(facts.live.get(node.myself.primary_id or node.node_id, node).slots) or SLOT_COUNT


def _too_full(node: NodeView, base: int, size: int) -> Refusal | None:
    if not size or not node.max_memory or base + size <= node.max_memory:
        return None
    policy = node.eviction_policy
    effect = "would refuse writes" if policy == "noeviction" else "would evict keys"
    room = max(0, node.max_memory - base)
    return Refusal(
        node=node.name,
        cause=f"about {_mib(size)} of data come to {node.name}, which has room for {_mib(room)} "
        f"below its maxmemory of {_mib(node.max_memory)} and {effect} ({policy})",
        remedy=f"raise maxmemory of {node.name}, or keep more pods",
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"


def _replica_counts(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse where a primary that is to take slots would refuse writes for want of replicas."""
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


def _copies(facts: Facts, data: IncomingData) -> Iterator[Refusal]:
    """Refuse where one server cannot read what the other one writes."""
    for node_id, primary in data.copies.items():
        node, writer = facts.live[node_id], facts.live[primary]
        if not compatibility.can_read_copy(node, writer):
            yield compatibility.unreadable(node, writer)
    for target, source in {move.target: move.source for move in reversed(data.moves)}.items():
        node, writer = facts.live[target], facts.live[source]
        if not compatibility.can_read_copy(node, writer):
            yield Refusal(
                node=node.name,
                cause=f"{node.name} runs {compatibility.runs(node)}, {writer.name} "
                f"{compatibility.runs(writer)}: it cannot read the keys that would move to it",
                remedy=f"give {node.name} the version of {writer.name}, or a later one",
            )
