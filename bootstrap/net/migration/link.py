"""Both ends of a move as one lane has them: its connections, the database and the login at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.wire import Reply, parse_info
from ..connection import COMMAND_TIMEOUT_S, Access, Command, RedisNode, ReplyError, text
from .session import Pair, PrimaryNode

_BYTES_PER_S = 10_000_000
_MIGRATE_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys of one slot for one MIGRATE, and their bytes; 0 where they were not asked for."""

    slot: int
    keys: Sequence[bytes]
    size: int = 0

    @property
    def timeout_s(self) -> float:
        """Return how long the target may be silent: it loads the whole batch before it answers."""
        return _MIGRATE_TIMEOUT_S + self.size / _BYTES_PER_S


@dataclass(slots=True, kw_only=True)
class MigrationLink:
    """Where keys come from and where they go.

    Attributes:
        source: A connection of this lane's own. `target`: the same.
        is_cold: The source does not own the slots: its keys are reached after ASKING only.
        database: The one that commands on keys go to.
        credential: Which of the logins MIGRATE uses at the target.
    """

    access: Access
    pair: Pair
    source: RedisNode
    target: RedisNode
    is_cold: bool = False
    database: int = 0
    credential: int = 0

    async def pipeline(
        self, client: RedisNode, commands: Sequence[Command], *, timeout_s: float = 0
    ) -> list[Reply | ReplyError]:
        """Send commands in the database at hand; the connection may be a new one each time.

        It is left in the first database: others use it, and the next window begins there.
        """
        if not self.database:
            return await client.pipeline(
                commands, writes=True, timeout_s=COMMAND_TIMEOUT_S + timeout_s
            )
        replies = await client.pipeline(
            [("SELECT", self.database), *commands, ("SELECT", 0)],
            writes=True,
            timeout_s=COMMAND_TIMEOUT_S + timeout_s,
        )
        return replies[1:-1]

    def reading(self, *command: str | bytes | int) -> list[Command]:
        """Return a command on a key of the source."""
        return [("ASKING",), command] if self.is_cold else [command]

    async def migrate(
        self, batches: Sequence[Batch], *, replace: bool = False
    ) -> list[Reply | ReplyError]:
        """Send one MIGRATE for each batch, in one pipeline."""
        address = self.pair.target.view.address
        options = ("REPLACE",) if replace else ()
        login = self.logins()[self.credential]
        commands: list[Command] = [
            ("MIGRATE", address.ip, address.port, "", self.database, round(1000 * b.timeout_s),
             *options, *login, "KEYS", *b.keys)
            for b in batches
        ]  # fmt: skip
        return await self.pipeline(
            self.source, commands, timeout_s=sum(b.timeout_s for b in batches) * 2
        )

    def logins(self) -> list[tuple[str, ...]]:
        """Return what MIGRATE may log in with at the target, in the order to try."""
        first: tuple[str, ...] = (
            ("AUTH2", self.access.username) if self.access.username else ("AUTH",)
        )
        return [(*first, password) for password in self.access.passwords] + [()]

    async def databases(self, party: PrimaryNode, client: RedisNode) -> list[int]:
        """Return the databases with keys; a cluster has more than one from Valkey 9.0 on."""
        if party.view.engine != "valkey" or party.view.version < (9, 0, 0):
            return [0]
        info = parse_info(text(await client.call("INFO", "keyspace")))
        found = {int(name[2:]) for name in info if name[:2] == "db" and name[2:].isdecimal()}
        return sorted(found | {0})

    async def untouched(self, slots: Sequence[int]) -> list[int]:
        """Return the slots of which the target holds no key in any database."""
        empty = set(slots)
        for database in await self.databases(self.pair.target, self.target):
            self.database = database
            commands = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
            replies = await self.pipeline(self.target, commands)
            empty -= {slot for slot, n in zip(slots, replies, strict=True) if n != 0}
        return sorted(empty)
