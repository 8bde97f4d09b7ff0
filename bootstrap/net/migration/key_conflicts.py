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
is off by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ...core.wire import Reply, WireError, parse_info
from ...errors import RefusedError
from .. import databases
from ..connection import Command, RedisNode, text
from ..transport import DATA_LIMIT
from .link import MigrationLink
from .reply_errors import call, require
from .session import PrimaryNode

_COMPARED_BYTES = DATA_LIMIT.size // 2
# First byte of a DUMP. A table's elements come in the order of each process's own hash seed.
_UNORDERED = {b"\x02": "SMEMBERS", b"\x04": "HGETALL"}


class Keep(StrEnum):
    """Whose copy stays."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A key that both ends hold.

    Attributes:
        target_serves: Clients change the target's copy.
        is_since_open: The target held no key of the slot when this program opened it.
    """

    slot: int
    key: bytes
    target_serves: bool
    is_since_open: bool


async def decide(link: MigrationLink, conflict: Conflict) -> Keep:
    """Return whose copy stays, at the target in the end.

    Raises:
        RefusedError: The copies differ, or are too large to compare.
        BootstrapError: One of the commands that compare them was refused.
    """
    if not conflict.target_serves and conflict.is_since_open and await _is_unbroken(link):
        return Keep.SOURCE
    await _require_equal(link, conflict)
    return Keep.TARGET if conflict.target_serves else Keep.SOURCE


async def _is_unbroken(link: MigrationLink) -> bool:
    """Return whether the source is the process that the plan saw, and a primary."""
    server = parse_info(text(await call(link.source, "INFO", "server")))
    replication = parse_info(text(await call(link.source, "INFO", "replication")))
    is_same = server.get("run_id") == link.pair.source.view.run_id
    return is_same and replication.get("role") == "master"


async def _require_equal(link: MigrationLink, conflict: Conflict) -> None:
    """Return if both ends hold one value; a copy that is gone meanwhile is no conflict."""
    key = conflict.key
    size = await _ask(link, link.pair.source, link.source, link.at_source("MEMORY", "USAGE", key))
    if isinstance(size, int) and size > _COMPARED_BYTES:
        raise _refusal(link, conflict, f"of {size} bytes, too large to compare")
    ours, theirs = await _both(link, "DUMP", key)
    if ours is None or theirs is None or ours == theirs:
        return
    if not isinstance(ours, bytes) or not isinstance(theirs, bytes):
        raise WireError("DUMP did not return a string")
    listing = _UNORDERED.get(ours[:1]) if ours[:1] == theirs[:1] else None
    if listing is not None:
        left, right = await _both(link, listing, key)
        if _elements(left, listing) == _elements(right, listing):
            return
    raise _refusal(link, conflict, "with different values")


def _elements(reply: Reply, listing: str) -> Sequence[object]:
    if not isinstance(reply, list):
        raise WireError(f"{listing} did not return a list")
    if listing == "HGETALL":
        return sorted(zip(reply[::2], reply[1::2], strict=False))
    return sorted(reply)


async def _both(link: MigrationLink, *command: str | bytes) -> tuple[Reply, Reply]:
    source, target = link.pair.source, link.pair.target
    ours = await _ask(link, source, link.source, link.at_source(*command))
    return ours, await _ask(link, target, link.target, link.at_target(*command))


async def _ask(
    link: MigrationLink, primary: PrimaryNode, client: RedisNode, commands: Sequence[Command]
) -> Reply:
    replies = await databases.pipeline(client, link.database, commands)
    reply: Reply = None
    for command, answer in zip(commands, replies, strict=True):
        reply = require(primary.name, _nameless(command), answer)
    return reply


def _nameless(command: Command) -> Command:
    """Return a command without the name of its key, for messages and ACL rules."""
    return command[:2] if command[0] == "MEMORY" else command[:1]


def _refusal(link: MigrationLink, conflict: Conflict, what: str) -> RefusedError:
    source, target = link.pair.source.name, link.pair.target.name
    select = f" after SELECT {link.database}" if link.database else ""
    return RefusedError(
        node=source,
        cause=f"{source} and {target} both hold a key of slot {conflict.slot} {what}",
        remedy=f"find the key: send CLUSTER GETKEYSINSLOT {conflict.slot} 1000{select} to both "
        "pods and see which name both list; read both values, sending ASKING before each command; "
        "DEL the older copy, also after ASKING; and run again",
    )
