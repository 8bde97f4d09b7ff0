"""Keys of every database: a cluster has more than one from Valkey 9.0 on (`cluster-databases`).

COUNTKEYSINSLOT, GETKEYSINSLOT, MIGRATE and all commands on keys work in the selected database, so
whoever counts, lists or compares keys does it once for each database that has any. Every
connection is left in database 0: others use it, and none of them selects one first.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.parsing import Reply, parse_info
from ..core.parsing import count_keys as parse_keys
from ..core.topology import NodeView
from .connection import COMMAND_TIMEOUT_S, RedisNode
from .replies import Command, ReplyError, reading, text
from .transport import REPLY_LIMIT, Limit


async def occupied(client: RedisNode, node: NodeView) -> list[int]:
    """Return the databases that have keys, and 0 in any case; asks only who can have several."""
    if node.engine != "valkey" or node.version < (9, 0, 0):
        return [0]
    with reading(client.name, "INFO keyspace"):
        info = parse_info(text(await client.call("INFO", "keyspace")))
    numbers = {int(name[2:]) for name in info if name[:2] == "db" and name[2:].isdecimal()}
    return sorted(numbers | {0})


async def count_stray_keys(client: RedisNode, node: NodeView, slots: Sequence[int]) -> int:
    """Return how many keys a node has outside of these slots, in all databases.

    Not every server counts keys of slots that are not its own (`core.key_holders`), so all keys are
    compared with those of the slots. Clients write meanwhile, so all are counted before and after.
    """
    before = await _all_keys(client)
    counts = await count_keys(client, slots, await occupied(client, node), timeout_s=60.0)
    return max(0, min(before, await _all_keys(client)) - sum(counts.values()))


async def _all_keys(client: RedisNode) -> int:
    with reading(client.name, "INFO keyspace"):
        return parse_keys(parse_info(text(await client.call("INFO", "keyspace"))))


async def check(client: RedisNode, database: int) -> None:
    """Make sure that a database can be selected.

    `pipeline` sends commands after a SELECT without waiting for its reply. If that SELECT
    failed, they would use keys of the same name in database 0.

    Raises:
        CredentialsError: NOPERM, with the missing rule.
        ReplyError: The server has no such database.
    """
    if database:
        replies = await client.pipeline([("SELECT", database), ("SELECT", 0)])
        client.require(replies[0])


async def pipeline(
    client: RedisNode,
    database: int,
    commands: Sequence[Command],
    *,
    writes: bool = False,
    timeout_s: float = COMMAND_TIMEOUT_S,
    limit: Limit = REPLY_LIMIT,
) -> list[Reply | ReplyError]:
    """Send commands to one database in one go; `check` it first."""
    if database:
        commands = [("SELECT", database), *commands, ("SELECT", 0)]
    replies = await client.pipeline(commands, writes=writes, timeout_s=timeout_s, limit=limit)
    return replies[1:-1] if database else replies


async def count_keys(
    client: RedisNode,
    slots: Sequence[int],
    databases: Sequence[int],
    *,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> dict[int, int]:
    """Return how many keys a node has in each of the slots, summed over these databases.

    Raises:
        BootstrapError: Any error reply; no slot is taken for empty because of an error.
    """
    counts = dict.fromkeys(slots, 0)
    commands = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
    for database in databases:
        await check(client, database)
        replies = await pipeline(client, database, commands, timeout_s=timeout_s)
        with reading(client.name, "CLUSTER COUNTKEYSINSLOT"):
            for slot, reply in zip(slots, replies, strict=True):
                counts[slot] += int(text(client.require(reply)))
    return counts
