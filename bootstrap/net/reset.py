"""Gives a member that leaves a new id and an empty data set, in memory and on its disk.

RESET empties a replica but not its files. A server that loads keys of slots without an owner makes
itself their owner (verifyClusterConfigWithData), so a pod that came back with its old files would
own old copies of other nodes' slots. After RESET no run knows the pod as a member any more, so the
command that empties the files is sent in the same packet.
"""

from __future__ import annotations

from contextlib import suppress

from ..core.parsing import count_keys, parse_info, parse_nodes
from ..core.topology import NodeView, Role
from .connection import RedisNode
from .polling import retry
from .preconditions import recently
from .replies import Command, ReplyError, stale_view, text

# RESET frees all keys of a replica before it answers.
RESET_TIMEOUT_S = 60.0
FILES_TIMEOUT_S = 10.0

_RESET: Command = ("CLUSTER", "RESET", "HARD")
_WRITING = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress")


async def reset(client: RedisNode, node: NodeView) -> None:
    """Reset a member, if it still owns nothing at this moment, and empty its files.

    Raises:
        StaleViewError: It is another node now, owns something, or still writes its files.
        RefusedError: It is reset, but refused to rewrite its AOF.
        CredentialsError: A command is not allowed.
    """
    await _wait_for_files(client)
    info = parse_info(text(await client.call("INFO", "persistence")))
    has_aof = info.get("aof_enabled") == "1"
    empty: Command = ("BGREWRITEAOF",) if has_aof else ("SAVE",)
    await recently(node.name, lambda: _check_owns_nothing(client, node))
    done, emptied = await client.pipeline([_RESET, empty], writes=True, timeout_s=RESET_TIMEOUT_S)
    if isinstance(done, ReplyError) and done.code == "ERR":
        what = f"answered CLUSTER RESET with: {done.message}"
        raise stale_view(node.name, what, command=done.command)
    client.require(done)
    try:
        client.require(emptied)
    except ReplyError:
        if has_aof:
            raise
        return  # SAVE fails on a read-only volume, whose files cannot be emptied
    if has_aof:
        await _wait_for_files(client)
        with suppress(ReplyError):  # as above
            await client.write("SAVE")


async def _check_owns_nothing(client: RedisNode, node: NodeView) -> None:
    # Not DBSIZE: it counts one database, and Valkey has several from 9.0 on.
    keys = count_keys(parse_info(text(await client.call("INFO", "keyspace"))))
    reply = parse_nodes(text(await client.call("CLUSTER", "NODES")))
    own = reply.known[reply.node_id]
    owns_slots = own.slots or reply.migrating or reply.importing
    owns_keys = keys and own.role is Role.PRIMARY
    if own.node_id != node.node_id or owns_slots or owns_keys:
        raise stale_view(node.name, "owns slots or keys again and cannot leave yet")


async def _wait_for_files(client: RedisNode) -> None:
    """Wait until no file is written; one that is would hold what was there when it began."""

    async def check() -> None:
        info = parse_info(text(await client.call("INFO", "persistence")))
        if any(info.get(name, "0") != "0" for name in _WRITING):
            raise stale_view(client.name, "still writes its AOF or RDB file")

    await retry(check, for_s=FILES_TIMEOUT_S)
