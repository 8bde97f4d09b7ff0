"""Which servers can be members of one cluster, and which can read the data of another one.

Rules: only what is known not to work is refused; a version that is not listed counts as the
newest listed one before it. Measured on Redis 6.2, 7.0, 8.0, 8.2, 8.6 and Valkey 8.1, 9.1, each
with each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from .actions import Refusal
from .facts import Facts
from .topology import NodeView, Role

# RDB_VERSION in rdb.h. Valkey from 9.0 has 80, sends 11 to replicas that are older, and reads
# nothing between (rdbIsForeignVersion in rdb.c).
_REDIS_RDB = (
    ((6, 2, 0), 9),
    ((7, 0, 0), 10),
    ((7, 2, 0), 11),
    ((7, 4, 0), 12),
    ((8, 6, 0), 13),
    ((8, 10, 0), 15),
)
_VALKEY_RDB = 11
_ENGINES = frozenset({"redis", "valkey"})


def runs(node: NodeView) -> str:
    """Return the engine and version, as people write them."""
    return f"{node.engine} {'.'.join(map(str, node.version))}"


def can_read_copy(reader: NodeView, writer: NodeView) -> bool:
    """Return whether a server can load the RDB, and the DUMP payloads, that another one writes."""
    return _rdb_version(writer) <= _rdb_version(reader)


def all_can_read_all(nodes: Iterable[NodeView]) -> bool:
    """Return whether each of the servers can load what any other one writes."""
    return len({_rdb_version(node) for node in nodes}) <= 1


def _rdb_version(node: NodeView) -> int:
    if node.engine == "valkey":
        return _VALKEY_RDB
    index = bisect_right([first for first, _ in _REDIS_RDB], node.version)
    return _REDIS_RDB[max(0, index - 1)][1]


def can_share_bus(one: NodeView, other: NodeView) -> bool:
    """Return whether two servers understand each other's bus messages.

    Redis from 8.0 and Valkey from 8.0 gave one number to different ping extensions, and each reads
    the other's as its own: the addresses of healthy members are overwritten with it.
    """
    later = {node.engine for node in (one, other) if node.version >= (8, 0, 0)}
    return len(later) < len(_ENGINES)


def refuse_incompatible(facts: Facts) -> Iterator[Refusal]:
    """Refuse pods that cannot share the bus, before they meet, and replicas that cannot be read to.

    A member that leaves is no obstacle: its leaving is what puts things right.
    """
    yield from _bus(facts)
    for node in facts.staying:
        primary = facts.primary_of(node)
        waits = node.role is Role.REPLICA and not node.link_up
        if waits and primary and not can_read_copy(node, primary):
            yield unreadable(node, primary)


def _bus(facts: Facts) -> Iterator[Refusal]:
    """Refuse once; the pod to replace is an isolated one, or one of the engine with fewer pods."""
    groups = {e: [n for n in facts.staying if n.engine == e] for e in sorted(_ENGINES)}
    pairs = [(a, b) for a in groups["redis"] for b in groups["valkey"] if not can_share_bus(a, b)]
    if pairs:
        fewer = min(groups.values(), key=lambda g: (not any(n.is_isolated for n in g), len(g)))
        one, other = next((a, b) if a in fewer else (b, a) for a, b in pairs)
        yield Refusal(
            node=one.name,
            cause=f"{one.name} runs {runs(one)} and {other.name} {runs(other)}: they cannot be "
            "members of one cluster, as they misread each other's bus messages",
            remedy=f"give {one.name} the image of {other.name}; only Redis before 8.0 can be "
            "replaced by Valkey one pod at a time",
        )


def unreadable(node: NodeView, primary: NodeView) -> Refusal:
    """Return the refusal of a replica that cannot read the copy of its primary."""
    return Refusal(
        node=node.name,
        cause=f"{node.name} runs {runs(node)}, its primary {primary.name} {runs(primary)}: it "
        "cannot read its copy",
        remedy=f"give {node.name} the version of {primary.name}, or a later one",
    )
