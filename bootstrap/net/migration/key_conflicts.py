"""Decides about a key that both ends of a move hold (BUSYKEY).

An interrupted MIGRATE leaves one: the target took the key, the source did not come to delete it.
While a slot migrates, the source serves the keys that it has and can make none, and clients are
sent to the target for the others. So its copy is the newer one, unless a restart or a failover
brought a deleted key back. It may replace the target's copy
- when the target held no key of the slot as this program opened it, and the source is still the
  same process and a primary: then the other copy was made since, by a MIGRATE or by a client whom
  the source had sent there because it lacked the key, so before the source's copy; or
- when both copies are equal.
Where the target serves the slot (it was told already, or it is the owner to which stray keys are
gathered) the source's copy is deleted, when both are equal. Any other two copies are for a person:
nothing tells which one holds the last acknowledged write. No DEBUG: it is off by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.wire import Reply, parse_info
from ...errors import BootstrapError, RefusedError
from ..connection import ReplyError, text
from .link import Batch, MigrationLink
from .session import rejection

_COMPARED_BYTES = 64 << 20
# First byte of a DUMP. A table's elements come in the order of each process's own hash seed.
_UNORDERED = {b"\x02": "SMEMBERS", b"\x04": "HGETALL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A key that both ends hold; `is_virgin`: the target's copy was made since the slot opened."""

    slot: int
    key: bytes
    target_serves: bool
    is_virgin: bool


async def resolve(ends: MigrationLink, conflict: Conflict, batch: Batch) -> BootstrapError | None:
    """Leave one copy, the target's, if it is certain which; return why not else."""
    if conflict.target_serves:
        if not await _are_equal(ends, conflict):
            return _refusal(ends, conflict)
        replies = await ends.pipeline(ends.source, ends.reading("UNLINK", conflict.key))
    else:
        proven = conflict.is_virgin and await _is_unbroken(ends)
        if not proven and not await _are_equal(ends, conflict):
            return _refusal(ends, conflict)
        replies = await ends.migrate([batch], replace=True)
    if isinstance(replies[-1], ReplyError):
        pair = ends.pair
        return rejection(pair.source, "MIGRATE", replies[-1], target=pair.target)
    return None


async def _is_unbroken(ends: MigrationLink) -> bool:
    """Return whether the source is the process that the plan saw, and a primary."""
    server, replication = await ends.source.pipeline([("INFO", "server"), ("INFO", "replication")])
    if isinstance(server, ReplyError) or isinstance(replication, ReplyError):
        return False
    run_id = parse_info(text(server)).get("run_id")
    role = parse_info(text(replication)).get("role")
    return run_id == ends.pair.source.view.run_id and role == "master"


async def _are_equal(ends: MigrationLink, conflict: Conflict) -> bool:
    """Return whether both ends hold the same value; one that is gone meanwhile is no conflict."""
    size = (await _at_source(ends, "MEMORY", "USAGE", conflict.key))[-1]
    if isinstance(size, int) and size > _COMPARED_BYTES:
        return False
    ours = (await _at_source(ends, "DUMP", conflict.key))[-1]
    theirs = (await _at_target(ends, "DUMP", conflict.key))[-1]
    if not isinstance(ours, bytes) or not isinstance(theirs, bytes):
        return ours is None or theirs is None
    if ours == theirs:
        return True
    listing = _UNORDERED.get(ours[:1]) if ours[:1] == theirs[:1] else None
    if listing is None:
        return False
    left = (await _at_source(ends, listing, conflict.key))[-1]
    right = (await _at_target(ends, listing, conflict.key))[-1]
    ours_sorted, theirs_sorted = _elements(left, listing), _elements(right, listing)
    return ours_sorted is not None and ours_sorted == theirs_sorted


def _elements(reply: Reply | ReplyError, listing: str) -> Sequence[object] | None:
    if not isinstance(reply, list):
        return None
    if listing == "HGETALL":
        return sorted(zip(reply[::2], reply[1::2], strict=True))
    return sorted(reply)


async def _at_source(ends: MigrationLink, *command: str | bytes) -> list[Reply | ReplyError]:
    return await ends.pipeline(ends.source, ends.reading(*command))


async def _at_target(ends: MigrationLink, *command: str | bytes) -> list[Reply | ReplyError]:
    return await ends.pipeline(ends.target, [("ASKING",), command])


def _refusal(ends: MigrationLink, conflict: Conflict) -> RefusedError:
    source, target = ends.pair.source.name, ends.pair.target.name
    return RefusedError(
        node=source,
        cause=f"a key of slot {conflict.slot} has two values, one on {source}, one on {target}",
        remedy="compare the keys that both print for CLUSTER GETKEYSINSLOT "
        f"{conflict.slot} 1000, delete the older copy after ASKING, and run again",
    )
