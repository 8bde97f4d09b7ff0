"""Decides which copy of a key stays that both ends of a move hold (BUSYKEY).

An interrupted MIGRATE leaves two copies: the target took the key, the source did not come to delete
it. While a slot migrates, the source serves the keys that it has and can make none, and clients are
sent to the target for the others. So its copy is the newer one, unless a restart or a failover
brought a deleted key back. It may replace the target's copy
- when the target held no key of the slot as this program opened it, and the source is still the
  same process and a primary: then the other copy was made since, by a MIGRATE or by a client whom
  the source had sent there because it lacked the key, so before the source's copy; or
- when both copies are equal.
Where the target serves the slot (it owns it already, or stray keys are gathered at it) the source's
copy is deleted, when both are equal. Any other two copies are for a person: nothing shows which
one holds the last acknowledged write. An error reply is an error, never a difference. No DEBUG: it
is off by default. `migrate_command` recognizes the reply and carries the decision out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ...core.parsing import ParseError, Reply, parse_info
from ...errors import RefusedError
from .. import databases
from ..connection import RedisNode
from ..replies import Command, reading, text
from ..transport import ELEMENTS_LIMIT, REPLY_LIMIT, VALUE_LIMIT, Limit
from .link import MigrationLink
from .reply_errors import call, require

# As MEMORY USAGE reports them. An element of a table takes the server 16 bytes or more.
_COMPARED_BYTES = 12 << 20
_LISTED_BYTES = 16 * ELEMENTS_LIMIT.elements
# First byte of a DUMP. A table's elements come in the order of each process's own hash seed.
_UNORDERED = {b"\x02": "SMEMBERS", b"\x04": "HGETALL"}


async def source_stays(
    link: MigrationLink, slot: int, key: bytes, *, target_serves: bool, is_since_open: bool
) -> bool:
    """Return whether the source's copy replaces the target's; otherwise the source's can go.

    `target_serves`: clients change the target's copy; `is_since_open`: the target held no key of
    the slot when this program opened it.

    Raises:
        RefusedError: The copies differ, or are too large to compare.
        BootstrapError: One of the commands that compare them was refused.
    """
    if target_serves or not is_since_open or not await _is_unbroken(link):
        await _require_equal(link, slot, key)
    return not target_serves


async def _is_unbroken(link: MigrationLink) -> bool:
    """Return whether the source is the process that the plan saw, and a primary."""
    server = parse_info(text(await call(link.source, "INFO", "server")))
    replication = parse_info(text(await call(link.source, "INFO", "replication")))
    is_same = server.get("run_id") == link.pair.source.run_id
    return is_same and replication.get("role") == "master"


async def _require_equal(link: MigrationLink, slot: int, key: bytes) -> None:
    """Refuse different values on the two ends; a copy that was deleted meanwhile is no conflict."""
    size = await _ask(link, link.source, link.at_source("MEMORY", "USAGE", key), REPLY_LIMIT)
    if isinstance(size, int) and size > _COMPARED_BYTES:
        raise _too_large(link, slot, size)
    ours, theirs = await _both(link, VALUE_LIMIT, "DUMP", key)
    if ours is None or theirs is None or ours == theirs:
        return
    listing = _UNORDERED.get(ours[:1]) if ours[:1] == theirs[:1] else None
    if listing is not None:
        if isinstance(size, int) and size > _LISTED_BYTES:
            raise _too_large(link, slot, size)
        left, right = await _both(link, ELEMENTS_LIMIT, listing, key)
        if left == right:
            return
    raise _refusal(link, slot, "with different values")


async def _both(
    link: MigrationLink, limit: Limit, *command: str | bytes
) -> tuple[bytes | None, bytes | None]:
    """Return a digest of what each end has; one value at a time is kept in memory."""
    ours = await _ask(link, link.source, link.at_source(*command), limit)
    with reading(link.source.name, str(command[0])):
        ours = _digest(ours, command[0])
    theirs = await _ask(link, link.target, [("ASKING",), command], limit)
    with reading(link.target.name, str(command[0])):
        return ours, _digest(theirs, command[0])


def _digest(reply: Reply, command: str | bytes) -> bytes | None:
    """Return a digest of a DUMP, with its first byte, or of elements in any order."""
    if command == "DUMP":
        if reply is None or isinstance(reply, bytes):
            return reply and reply[:1] + hashlib.sha256(reply).digest()
        raise ParseError("not a string")
    if not isinstance(reply, list):
        raise ParseError("not a list")
    step, found = 2 if command == "HGETALL" else 1, hashlib.sha256()
    for first in sorted(range(0, len(reply), step), key=reply.__getitem__):
        for element in reply[first : first + step]:
            found.update(b"%d %b" % (len(element), element))
    return found.digest()


async def _ask(
    link: MigrationLink, client: RedisNode, commands: Sequence[Command], limit: Limit
) -> Reply:
    """Return the reply to the last command."""
    replies = await databases.pipeline(client, link.database, commands, limit=limit)
    return [require(reply) for reply in replies][-1]


def _too_large(link: MigrationLink, slot: int, size: int) -> RefusedError:
    return _refusal(link, slot, f"of {size} bytes, too large to compare")


def _refusal(link: MigrationLink, slot: int, what: str) -> RefusedError:
    source, target = link.pair.source.name, link.pair.target.name
    select = f" after SELECT {link.database}" if link.database else ""
    return RefusedError(
        node=source,
        cause=f"{source} and {target} both hold a key of slot {slot} {what}",
        remedy=f"find the key: send CLUSTER GETKEYSINSLOT {slot} 1000{select} to both "
        "pods and see which name both list; read both values, sending ASKING before each command; "
        "DEL the older copy, also after ASKING; and run again",
    )
