"""How one lane of a move reaches both ends, and how MIGRATE reaches the target from the source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...core.topology import Address
from ...errors import BootstrapError, RefusedError, StaleViewError
from .. import server_ports
from ..connection import RedisNode
from ..replies import Command, reading, text
from .reply_errors import stale_view
from .session import MigrationSession, Pair

LANES = 2
_BYTES_PER_S = 10_000_000
_LONGEST_SILENCE_S = 0.5
_SHORTEST_SILENCE_S = 0.1
_DEFAULT_NODE_TIMEOUT_S = 15.0
_BLOCKED_SHARE = 0.8
# A reply that took longer may have waited for a program that was halted.
_CHECK_AGE_S = 1.0


class Batch(NamedTuple):
    """Keys of one slot for one MIGRATE, and their bytes; 0 where they were not asked for."""

    slot: int
    keys: Sequence[bytes]
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the MIGRATEs of a source go, and how long they may block it.

    Attributes:
        uses_tls: Whether the source connects with TLS; None where its settings are hidden.
        node_timeout_s: After so long a source that MIGRATE blocks is failed over by the others.
    """

    ip: str
    port: int
    uses_tls: bool | None = None
    node_timeout_s: float = _DEFAULT_NODE_TIMEOUT_S

    def __str__(self) -> str:
        """Return address and protocol, for messages."""
        address = Address(self.ip, self.port, 0)
        if self.uses_tls is None:
            return str(address)
        how, setting = ("with", "yes") if self.uses_tls else ("without", "no")
        return f"{address} {how} TLS (its tls-cluster is {setting})"

    def timeout_s(self, batch: Batch) -> float:
        """Return how long the target may be silent: it loads a whole batch before it answers."""
        silence_s = max(_SHORTEST_SILENCE_S, min(_LONGEST_SILENCE_S, self.node_timeout_s / 4))
        return silence_s + batch.size / _BYTES_PER_S

    @property
    def most_blocked_s(self) -> float:
        """Return how long one lane may block the source, if every MIGRATE in flight times out.

        Commands of a pipeline are carried out one after the other, and a source that does not
        answer the other nodes for its node timeout is failed over.
        """
        return _BLOCKED_SHARE * self.node_timeout_s / LANES


async def find_destination(session: MigrationSession, pair: Pair) -> Destination:
    """Return where the source's MIGRATE reaches the target.

    Raises:
        RefusedError: The target does not listen with the protocol of the source.
        CredentialsError: CONFIG GET is not allowed.
        NodeUnreachableError: One of both does not answer.
    """
    source, target = pair.source, pair.target
    ours, theirs = await asyncio.gather(
        server_ports.read(session.client(source)), server_ports.read(session.client(target))
    )
    if ours is None or theirs is None:
        return Destination(ip=target.address.ip, port=target.address.port)
    uses_tls = ours.connects_with_tls
    port = theirs.port(tls=uses_tls)
    if not port:
        setting, missing = ("yes", "tls-port") if uses_tls else ("no", "port")
        raise RefusedError(
            node=target.name,
            cause=f"{source.name} has `tls-cluster {setting}`, but {target.name} has no {missing}",
            remedy="set port, tls-port and tls-cluster alike in the redis.conf of every pod",
        )
    return Destination(
        ip=target.address.ip, port=port, uses_tls=uses_tls, node_timeout_s=ours.node_timeout_s
    )


@dataclass(slots=True, kw_only=True)
class MigrationLink:
    """One lane's own connections to both ends of a move, and the state that its commands need.

    Attributes:
        source_asks: The source only imports the slots: its keys are reached after ASKING only.
        database: The one that commands on keys go to.
        credential: Which of the logins MIGRATE uses at the target.
    """

    session: MigrationSession
    pair: Pair
    destination: Destination
    source: RedisNode
    target: RedisNode
    source_asks: bool = False
    database: int = 0
    credential: int = 0

    @property
    def is_proven(self) -> bool:
        """Return whether a MIGRATE between these two processes has reached the target."""
        return self.pair.processes in self.session.history.connected

    async def check_target(self) -> None:
        """Make sure that the target is still there, before the source sends it keys and a password.

        The lane's own connection is asked: it ends with the target, whose address can then be
        another process's. After a long wait the target is asked once more: the program may have
        been halted since the reply arrived.

        Raises:
            StaleViewError: It is another node now, or DNS gives another address for its pod.
            TransientError: It does not answer.
        """
        node = self.pair.target
        clock = asyncio.get_running_loop().time
        for _ in range(2):
            asked = clock()
            with reading(node.name, "CLUSTER MYID"):
                if text(await self.target.call("CLUSTER", "MYID")) != node.node_id:
                    raise stale_view(node.name, "is another node now")
            if clock() - asked < _CHECK_AGE_S:
                return

    def unreachable(self, words: str, *, is_final: bool = False) -> BootstrapError:
        """Return the error for a MIGRATE that got no answer from the target."""
        source, target = self.pair.source.name, self.pair.target.name
        what = f"cannot reach {target} at {self.destination}: MIGRATE failed with {words}"
        remedy = (
            f"check that a NetworkPolicy lets {source} reach port {self.destination.port} of "
            f"{target}, and that port, tls-port and tls-cluster are the same in both"
        )
        kind = RefusedError if is_final else StaleViewError
        return kind(node=source, command="MIGRATE", cause=f"{source} {what}", remedy=remedy)

    def at_source(self, *command: str | bytes | int) -> list[Command]:
        """Return a command on a key of the source; its reply is the last one."""
        return [("ASKING",), command] if self.source_asks else [command]

    def logins(self) -> list[tuple[str, ...]]:
        """Return what MIGRATE may log in with at the target, in the order to try."""
        access = self.session.pool.access
        user = access.username
        first: tuple[str, ...] = ("AUTH2", user) if user else ("AUTH",)
        return [(*first, password) for password in access.passwords] + [()]

    @property
    def most_keys(self) -> int | None:
        """Return how many keys one MIGRATE can take; None for any number.

        Before 7.0 a server finds the keys behind the first word `keys`, and takes a user or a
        password of that name for it (redis/redis#11253). The form with one key has no such word.
        """
        words = self.logins()[self.credential]
        return 1 if any(word.lower() == "keys" for word in words) else None

    def migrate(self, batch: Batch, *, replace: bool = False) -> Command:
        """Return the MIGRATE of a batch."""
        one = self.most_keys == 1
        to = self.destination
        head = ("MIGRATE", to.ip, to.port, batch.keys[0] if one else "", self.database)
        options = (*(("REPLACE",) if replace else ()), *self.logins()[self.credential])
        keys = () if one else ("KEYS", *batch.keys)
        return (*head, round(1000 * to.timeout_s(batch)), *options, *keys)
