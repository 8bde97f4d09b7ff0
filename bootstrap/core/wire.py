"""Reads what servers print: CLUSTER NODES, CLUSTER INFO, INFO, CONFIG GET, CLUSTER SHARDS.

Rules: the only home of the words `master` and `slave`; nothing is guessed, an unreadable line is
an error; the grammar of a node's address is `ip:port@cport[,hostname[,key=value]*]` with an empty
ip on a fresh node and `:0@0` for noaddr (clusterGenNodeDescription in cluster_legacy.c).

One cluster of N nodes prints N * N lines that are mostly equal but for the ping times, so lines
are read through a `LineCache`: equal facts become one shared value, and comparing two views costs
pointer comparisons.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .slots import SlotSet
from .topology import Address, Flag, KnownNode, NodeId, Place, Role

LineCache = dict[tuple[str, ...], KnownNode]
Reply = bytes | int | str | None | Sequence["Reply"]

_FLAGS = {flag.value: flag for flag in Flag}
_NO_FLAGS: frozenset[Flag] = frozenset()
_WORDS = 8  # before the slots, which are the rest of the line
_OPEN_SLOT = re.compile(r"\[(\d+)(->-|-<-)(\w+)\]")


class WireError(ValueError):
    """A reply that does not have the documented form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesReply:
    """One node's `CLUSTER NODES`, read.

    Attributes:
        known: By id, itself included, handshakes left out.
        handshakes: Addresses of MEETs under way.
        migrating: Open slots by target. `importing`: by source. Shown on `myself` only.
    """

    node_id: NodeId
    known: Mapping[NodeId, KnownNode]
    handshakes: frozenset[Address]
    migrating: Mapping[int, NodeId] = field(default_factory=dict)
    importing: Mapping[int, NodeId] = field(default_factory=dict)


def parse_nodes(text: str, cache: LineCache | None = None) -> NodesReply:
    """Read a `CLUSTER NODES` reply.

    Raises:
        WireError: A line is not of the documented form, or none is `myself`.
    """
    cache = {} if cache is None else cache
    known: dict[NodeId, KnownNode] = {}
    handshakes: set[Address] = set()
    myself: NodeId | None = None
    migrating: dict[int, NodeId] = {}
    importing: dict[int, NodeId] = {}
    for line in text.splitlines():
        parts = line.split(" ", _WORDS)
        if len(parts) < _WORDS:
            raise _unreadable(line)
        node_id, address, flags, primary, _ping, _pong, epoch, link = parts[:_WORDS]
        slots = parts[_WORDS] if len(parts) > _WORDS else ""
        if flags.startswith("myself"):
            myself = NodeId(node_id)
            flags = flags[7:]
            if "[" in slots:
                slots = _take_open_slots(slots, migrating, importing)
        key = (node_id, address, flags, primary, epoch, link, slots)
        node = cache.get(key)
        if node is None:
            node = cache[key] = _known_node(key, line)
        if node.is_handshake:
            handshakes.add(node.address)
        else:
            known[node.node_id] = node
    if myself is None or myself not in known:
        raise WireError("CLUSTER NODES has no line about the node itself")
    return NodesReply(
        node_id=known[myself].node_id,
        known=known,
        handshakes=frozenset(handshakes),
        migrating=migrating,
        importing=importing,
    )


def _known_node(key: tuple[str, ...], line: str) -> KnownNode:
    node_id, address, flags, primary, epoch, link, slots = key
    words = flags.split(",")
    try:
        return KnownNode(
            node_id=NodeId(node_id),
            address=parse_address(address),
            role=Role.REPLICA if "slave" in words else Role.PRIMARY,
            primary_id=None if primary == "-" else NodeId(primary),
            flags=frozenset(_FLAGS[word] for word in words if word in _FLAGS) or _NO_FLAGS,
            config_epoch=int(epoch),
            link_up=link == "connected",
            slots=SlotSet.parse(slots),
        )
    except ValueError as error:
        raise _unreadable(line) from error


def _unreadable(line: str) -> WireError:
    return WireError(f"not a line of CLUSTER NODES: {line[:80]!r}")


def _take_open_slots(slots: str, migrating: dict[int, NodeId], importing: dict[int, NodeId]) -> str:
    """Move `[609->-id]` and `[609-<-id]` into the two maps; return the other words."""
    owned = []
    for word in slots.split():
        open_slot = _OPEN_SLOT.fullmatch(word)
        if open_slot:
            number, arrow, other = open_slot.groups()
            (migrating if arrow == "->-" else importing)[int(number)] = NodeId(other)
        else:
            owned.append(word)
    return " ".join(owned)


def parse_address(text: str) -> Address:
    """Read `ip:port@cport[,hostname[,key=value]*]`; the ip may be empty or IPv6 without brackets.

    Raises:
        ValueError: Port or bus port is not a number.
    """
    place, _, bus = text.partition(",")[0].partition("@")
    ip, _, port = place.rpartition(":")
    return Address(ip=ip, port=int(port), cport=int(bus or 0))


def parse_info(text: str) -> dict[str, str]:
    """Read `INFO` or `CLUSTER INFO` into its fields; the last of equal names wins."""
    fields = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[name] = value.strip()
    return fields


def parse_version(info: Mapping[str, str]) -> tuple[str, tuple[int, int, int]]:
    """Return the engine and its own version; Valkey also reports a Redis version for clients."""
    engine = "valkey" if info.get("server_name") == "valkey" else "redis"
    text = info.get("valkey_version" if engine == "valkey" else "redis_version", "0.0.0")
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(".")[:3]]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return engine, (major, minor, patch)


def count_keys(info: Mapping[str, str]) -> int:
    """Return the keys of all databases, from the `dbN:keys=…` fields."""
    total = 0
    for name, value in info.items():
        if name[:2] == "db" and name[2:].isdigit():
            total += int(value.partition("keys=")[2].partition(",")[0] or 0)
    return total


def parse_pairs(reply: Reply) -> dict[str, str]:
    """Read a flat list of names and values, as `CONFIG GET` answers in RESP2."""
    words = [_text(item) for item in _items(reply)]
    return dict(zip(words[::2], words[1::2], strict=False))


def parse_place(info: Mapping[str, str], config: Mapping[str, str]) -> Place:
    """Return the failure domain that the pod publishes.

    `cluster-announce-human-nodename` as `zone/node` (Redis 7.2, Valkey 8.0), else Valkey's
    `availability-zone`, which knows the zone only.
    """
    zone, slash, node = config.get("cluster-announce-human-nodename", "").partition("/")
    if slash:
        return Place(zone=zone, node=node)
    return Place(zone=info.get("availability_zone", ""))


def parse_commands(reply: Reply) -> frozenset[str]:
    """Return the subcommands that `CLUSTER HELP` lists, in capitals."""
    lines = (_text(item) for item in _items(reply))
    return frozenset(line.split()[0] for line in lines if line[:1].isupper())


def parse_shards(reply: Reply) -> frozenset[frozenset[NodeId]]:
    """Return the node ids by shard, from `CLUSTER SHARDS` in RESP2."""
    shards = set()
    for shard in _items(reply):
        words = list(_items(shard))
        fields = {_text(name): value for name, value in zip(words[::2], words[1::2], strict=False)}
        shards.add(
            frozenset(NodeId(parse_pairs(node).get("id", "")) for node in _items(fields["nodes"]))
        )
    return frozenset(shards)


def parse_functions(reply: Reply) -> frozenset[str]:
    """Return a digest of each library, from `FUNCTION LIST WITHCODE` in RESP2."""
    libraries = map(parse_pairs, _items(reply))
    texts = (f"{each.get('engine')}\0{each.get('library_code')}" for each in libraries)
    return frozenset(hashlib.sha256(text.encode()).hexdigest() for text in texts)


def _items(reply: Reply) -> Sequence[Reply]:
    if isinstance(reply, (list, tuple)):
        return reply
    msg = f"not a list: {str(reply)[:80]!r}"
    raise WireError(msg)


def _text(reply: Reply) -> str:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    return str(reply)
