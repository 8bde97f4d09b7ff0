"""Reads what servers print: CLUSTER NODES, CLUSTER INFO, INFO, CONFIG GET, CLUSTER SHARDS.

Rules: nothing is guessed: each function raises `ParseError` where a reply does not have the
documented form, and no other exception leaves this module. The one exception is a peer's address
that cannot be read, which makes this one peer `noaddr`: the servers themselves store what a node of
another engine sends (valkey-io/valkey#845). The grammar of a node's address is
`ip:port@cport[,hostname[,key=value]*]` with an empty ip on a fresh node and `:0@0` for noaddr
(clusterGenNodeDescription in cluster_legacy.c).

One cluster of N nodes prints N * N lines that are mostly equal but for the ping times, so lines
are read through a `LineCache`: equal facts become one shared value, and comparing two views costs
pointer comparisons.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .slots import SLOT_COUNT, SlotSet
from .topology import Address, Flag, KnownNode, NodeId, Place, Role

LineCache = dict[tuple[str, ...], KnownNode]
Reply = bytes | int | str | None | Sequence["Reply"]

_FLAGS = {flag.value: flag for flag in Flag}
_NO_FLAGS: frozenset[Flag] = frozenset()
_WORDS = 8  # before the slots, which are the rest of the line
_OPEN_SLOT = re.compile(r"\[([0-9]{1,5})(->-|-<-)([0-9a-f]{40})\]")
_NODE_ID = re.compile(r"[0-9a-f]{40}")
_VERSION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:\.([0-9]{1,9}))?(?=$|[-+~a-z]|\.[0-9])")
_PORT = re.compile(r"[0-9]{1,5}")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_UNKNOWN = Address("", 0, 0)
_LONGEST_QUOTE = 300


class ParseError(ValueError):
    """A reply that does not have the documented form."""


def printable(words: str) -> str:
    """Return a peer's words as they may enter an error: escaped, on one line, not too long.

    Whatever Unicode does not call printable is escaped: control characters of both sets, line and
    paragraph separators, and the marks that reverse the direction of text.
    """
    cut = words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesReply:
    """One node's `CLUSTER NODES`, read; the fields are those of `NodeView`."""

    node_id: NodeId
    known: Mapping[NodeId, KnownNode]
    handshakes: frozenset[Address]
    migrating: Mapping[int, NodeId]
    importing: Mapping[int, NodeId]


def parse_nodes(
    text: str, cache: LineCache | None = None, *, most: int | None = None
) -> NodesReply:
    """Read a `CLUSTER NODES` reply of at most `most` lines; `cache` has lines read before."""
    cache = {} if cache is None else cache
    # Not `splitlines`: Python ends lines at more characters than the one that servers use.
    lines = text.removesuffix("\n").split("\n")
    if most is not None and (count := len(lines)) > most:
        raise ParseError(f"CLUSTER NODES has {count} lines, more than {most}")
    known: dict[NodeId, KnownNode] = {}
    handshakes: set[Address] = set()
    myself = NodeId("")
    migrating: dict[int, NodeId] = {}
    importing: dict[int, NodeId] = {}
    for line in lines:
        parts = line.split(" ", _WORDS)
        if len(parts) < _WORDS:
            raise _unreadable(line)
        node_id, address, flags, primary, _ping, _pong, epoch, link = parts[:_WORDS]
        slots = "".join(parts[_WORDS:])
        if flags.startswith("myself"):
            myself, flags = NodeId(node_id), flags[7:]
            slots = _take_open_slots(slots, migrating, importing) if "[" in slots else slots
        key = (node_id, address, flags, primary, epoch, link, slots)
        node = cache.get(key)
        if node is None:
            node = cache[key] = _known_node(key, line)
        if node.is_handshake:
            handshakes.add(node.address)
        else:
            known[node.node_id] = node
    own = known.get(myself)
    if own is None:
        raise ParseError("CLUSTER NODES has no line about the node itself")
    if not own.address.port:
        raise ParseError("CLUSTER NODES has no address of the node itself")
    return NodesReply(
        node_id=own.node_id,
        known=known,
        handshakes=frozenset(handshakes),
        migrating=migrating,
        importing=importing,
    )


def _known_node(key: tuple[str, ...], line: str) -> KnownNode:
    node_id, address, flags, primary, epoch, link, slots = key
    words = flags.split(",")
    try:
        where = parse_address(address)
    except ParseError:
        where = _UNKNOWN
        words.append(Flag.NOADDR)
    try:
        return KnownNode(
            node_id=parse_id(node_id),
            address=where,
            role=Role.REPLICA if "slave" in words else Role.PRIMARY,
            primary_id=None if primary == "-" else parse_id(primary),
            flags=frozenset(_FLAGS[word] for word in words if word in _FLAGS) or _NO_FLAGS,
            config_epoch=int(epoch),
            link_up=link == "connected",
            slots=SlotSet.parse(slots),
        )
    except ValueError as error:
        raise _unreadable(line) from error


def _unreadable(line: str) -> ParseError:
    return ParseError(f"not a line of CLUSTER NODES: {line[:80]!r}")


def _take_open_slots(slots: str, migrating: dict[int, NodeId], importing: dict[int, NodeId]) -> str:
    """Move `[609->-id]` and `[609-<-id]` into the two maps; return the other words."""
    owned = []
    for word in slots.split():
        open_slot = _OPEN_SLOT.fullmatch(word)
        if open_slot:
            number, arrow, other = open_slot.groups()
            if int(number) >= SLOT_COUNT:
                raise ParseError(f"not a slot: {number}")
            (migrating if arrow == "->-" else importing)[int(number)] = NodeId(other)
        else:
            owned.append(word)
    return " ".join(owned)


def parse_id(text: str) -> NodeId:
    """Read a node id, 40 hexadecimal digits."""
    if not _NODE_ID.fullmatch(text):
        raise ParseError(f"not a node id: {text[:80]!r}")
    return NodeId(text)


def parse_address(text: str) -> Address:
    """Read `ip:port@cport[,hostname[,…]]`; the ip may be empty or IPv6 without brackets."""
    place, _, bus = text.partition(",")[0].partition("@")
    ip, _, port = place.rpartition(":")
    return Address(ip=parse_ip(ip) if ip else "", port=_port(port), cport=_port(bus or "0"))


def parse_ip(text: str) -> str:
    """Return a numeric address as it is, without a zone, which another machine does not know."""
    with suppress(ValueError):
        ipaddress.ip_address(text)
        if "%" not in text:
            return text
    raise ParseError(f"not an IP address: {text[:80]!r}")


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) >= 1 << 16:
        raise ParseError(f"not a port: {text[:80]!r}")
    return int(text)


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
    text = info.get("valkey_version" if engine == "valkey" else "redis_version", "")
    found = _VERSION.match(text)
    if found is None:
        raise ParseError(f"not a version: {text[:80]!r}")
    major, minor, patch = (int(part or 0) for part in found.groups())
    return engine, (major, minor, patch)


def number(fields: Mapping[str, str], name: str, default: int = 0) -> int:
    """Return a field of INFO or CLUSTER INFO as a number."""
    text = fields.get(name, str(default))
    if not _INTEGER.fullmatch(text):
        raise ParseError(f"{name} is not a number: {text[:80]!r}")
    return int(text)


def count_keys(info: Mapping[str, str]) -> int:
    """Return the keys of all databases, from the `dbN:keys=…` fields."""
    total = 0
    for name, value in info.items():
        if name[:2] == "db" and name[2:].isdigit():
            counts = dict(pair.partition("=")[::2] for pair in value.split(","))
            total += number(counts, "keys")
    return total


def highest_database(info: Mapping[str, str]) -> int:
    """Return the last database that has keys, from the names of the `dbN` fields."""
    names = (name[2:] for name in info if name[:2] == "db" and name[2:].isdecimal())
    return max((number({name: name}, name) for name in names), default=0)


def parse_pairs(reply: Reply) -> dict[str, str]:
    """Read a flat list of names and values, as `CONFIG GET` answers in RESP2."""
    words = [_text(item) for item in _items(reply)]
    return dict(zip(words[::2], words[1::2], strict=False))


def parse_place(info: Mapping[str, str], config: Mapping[str, str]) -> Place:
    """Return the failure domain that the pod publishes.

    `cluster-announce-human-nodename` as `zone/node` (Redis 7.2, Valkey 8.0), otherwise Valkey's
    `availability-zone`, which knows the zone only.
    """
    zone, slash, node = config.get("cluster-announce-human-nodename", "").partition("/")
    if slash:
        return Place(zone=printable(zone), node=printable(node))
    return Place(zone=printable(info.get("availability_zone", "")))


def parse_commands(reply: Reply) -> frozenset[str]:
    """Return the subcommands that `CLUSTER HELP` lists, in capitals."""
    words = (_text(item).split() for item in _items(reply))
    return frozenset(line[0] for line in words if line and line[0].isupper())


def parse_shards(reply: Reply) -> frozenset[frozenset[NodeId]]:
    """Return the node ids by shard, from `CLUSTER SHARDS` in RESP2."""
    shards = set()
    for shard in _items(reply):
        words = _items(shard)
        fields = {_text(name): value for name, value in zip(words[::2], words[1::2], strict=False)}
        nodes = (parse_pairs(node).get("id", "") for node in _items(fields.get("nodes")))
        shards.add(frozenset(map(parse_id, nodes)))
    return frozenset(shards)


def parse_functions(reply: Reply) -> frozenset[str]:
    """Return a digest of each library, from `FUNCTION LIST WITHCODE` in RESP2.

    The code stays bytes: it may be large, and text can take four times as much memory.
    """
    digests = set()
    for library in _items(reply):
        words = _items(library)
        names = map(_text, words[::2])
        fields = dict(zip(names, words[1::2], strict=False))
        found = hashlib.sha256()
        for name in ("engine", "library_code"):
            value = fields.get(name)
            found.update(value if isinstance(value, bytes) else _text(value).encode())
            found.update(b"\0")
        digests.add(found.hexdigest())
    return frozenset(digests)


def _items(reply: Reply) -> Sequence[Reply]:
    if isinstance(reply, (list, tuple)):
        return reply
    raise ParseError(f"not a list: {type(reply).__name__}")


def _text(reply: Reply) -> str:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    return str(reply)
