"""One connection to one node, and what its failures mean.

redis-py carries the bytes; replies stay raw, since its parsers drop what we need (two `noaddr`
nodes collapse into one, the bus port is lost). Its errors are mapped here, once: an
`AuthenticationError` is a `ConnectionError` to redis-py, but no retry fixes a wrong password.

Rules: every reply is bounded in bytes and in time, and whatever goes wrong is a declared error that
names the node.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from hiredis import pack_command
from redis import exceptions

from ..core.parsing import Reply
from ..errors import BootstrapError, CredentialsError, InvariantError
from .connect_errors import ConnectErrors
from .replies import CHECK_PEER, MALFORMED, Command, ReplyError, name_of, unreadable
from .transport import REPLY_LIMIT, BoundedConnection, Limit, ReplyTooLongError

COMMAND_TIMEOUT_S = 10.0
# Raises where a node must not be connected; takes whether it has been before.
Check: TypeAlias = Callable[[bool], Awaitable[None]]
_LOST = (TimeoutError, exceptions.RedisError, OSError)


@dataclass(slots=True)
class Traffic:
    """What was sent in one run: commands, those that write, and pipelines."""

    commands: int = 0
    writes: int = 0
    round_trips: int = 0

    def count(self, commands: int, *, writes: bool) -> None:
        """Add one pipeline."""
        self.commands += commands
        self.writes += commands if writes else 0
        self.round_trips += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to talk to every node.

    Attributes:
        passwords: Tried in order, so that a rotation needs no moment of agreement.
        tls: Context that verifies; None for plain TCP.
    """

    username: str | None = None
    passwords: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    traffic: Traffic = field(default_factory=Traffic)


class RedisNode:
    """A node behind one TCP connection, connected at first use and again after a failure.

    `check` is awaited before every connection, and so before the password is sent.
    """

    def __init__(
        self,
        *,
        name: str,
        host: str,
        ip: str,
        port: int,
        access: Access,
        check: Check | None = None,
    ) -> None:
        self.name = name
        self.ip = ip
        self.port = port
        self._access = access
        self._check = check
        self._was_connected = False
        self._lock = asyncio.Lock()
        self._is_understood = False
        self._connect_errors = ConnectErrors(
            name=name, ip=ip, port=port, is_tls=access.tls is not None
        )
        self._connection = BoundedConnection(ip=ip, port=port, tls=access.tls, server_name=host)

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open."""
        return bool(self._connection.is_connected)

    async def call(self, *command: str | bytes | int, limit: Limit = REPLY_LIMIT) -> Reply:
        """Send one reading command and return its reply; raises as `pipeline` and `require`."""
        (reply,) = await self.pipeline([command], limit=limit)
        return self.require(reply)

    async def write(self, *command: str | bytes | int) -> Reply:
        """Send one changing command and return its reply; raises as `call`."""
        (reply,) = await self.pipeline([command], writes=True)
        return self.require(reply)

    async def pipeline(
        self,
        commands: Sequence[Command],
        *,
        writes: bool = False,
        timeout_s: float = COMMAND_TIMEOUT_S,
        limit: Limit = REPLY_LIMIT,
    ) -> list[Reply | ReplyError]:
        """Send commands in one go and return their replies, error replies among them as values.

        Args:
            commands: Those of one node.
            writes: Whether they change something; for the count only.
            timeout_s: How long all of it may take, connecting included.
            limit: How many bytes all replies together may have, and which arrays.

        Raises:
            CredentialsError: NOAUTH or WRONGPASS; NOPERM stays a value, see `require`.
            NodeUnreachableError: No connection, no answer in time, or not ready to serve.
            SettingsError: Something else than Redis answers, or TLS does not fit.
            InvariantError: A reply is too long, or is none.
            TransientError: It must not be connected now, see `ConnectionPool.open`.
        """
        if not commands:
            return []
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._connect()
                    self._access.traffic.count(len(commands), writes=writes)
                    self._connection.allow(limit)
                    await self._connection.send_packed_command(
                        b"".join(pack_command(tuple(command)) for command in commands),  # type: ignore[arg-type]  # any length
                        check_health=False,
                    )
                    return [await self._read(command) for command in commands]
            except (*_LOST, ReplyTooLongError, *MALFORMED) as error:
                await self._connection.disconnect(nowait=True)
                raise await self._declared(error, commands[0], limit) from error

    def require(self, reply: Reply | ReplyError) -> Reply:
        """Return a reply that is no error.

        Raises:
            CredentialsError: NOPERM, with the ACL rule that is missing.
            NodeNotReadyError: It cannot serve now (MASTERDOWN, BUSY, TRYAGAIN, CLUSTERDOWN).
            ReplyError: Any other error reply.
        """
        if isinstance(reply, ReplyError):
            raise reply.declared(self._access.username or "default")
        return reply

    async def close(self) -> None:
        """Close the connection; the server forgets our name with it."""
        await self._connection.disconnect(nowait=True)

    async def _connect(self) -> None:
        if self._connection.is_connected:
            return
        if self._check is not None:
            await self._check(self._was_connected)
        await self._connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        self._was_connected = True
        user = (self._access.username,) if self._access.username else ()
        last: CredentialsError | None = None
        for password in self._access.passwords:
            self._connection.allow(REPLY_LIMIT)
            await self._connection.send_command("AUTH", *user, password, check_health=False)
            try:
                reply = await self._read(("AUTH",))
            except CredentialsError as error:
                last = error
            else:
                if not isinstance(reply, ReplyError):
                    return
                if reply.is_not_ready:
                    raise reply.not_ready()
                last = reply.login_failed()
        if last is not None:
            await self._connection.disconnect(nowait=True)
            raise last

    async def _read(self, command: Command) -> Reply | ReplyError:
        """Read one reply; raises for those after which redis-py drops the connection."""
        try:
            reply: Reply = await self._connection.read_response(disable_decoding=True)
        except exceptions.AuthenticationError as error:
            raise self._reply_error(error, command).login_failed() from error
        except exceptions.BusyLoadingError as error:
            raise self._reply_error(error, command).not_ready() from error
        except exceptions.ResponseError as error:
            refusal = self._reply_error(error, command)
            if refusal.code == "DENIED":
                raise refusal.login_failed() from error
            return refusal
        finally:
            self._is_understood = self._is_understood or self._connection.is_connected
        return reply

    def _reply_error(self, error: exceptions.RedisError, command: Command) -> ReplyError:
        """Return the reply as the server sent it; redis-py takes the codes off that it knows."""
        words, code = str(error), getattr(error, "status_code", None)
        message = words if not code or words.startswith(f"{code} ") else f"{code} {words}"
        return ReplyError(message, node=self.name, command=name_of(command))

    async def _declared(self, error: Exception, command: Command, limit: Limit) -> BootstrapError:
        """Return the error for what went wrong between sending and the last reply."""
        if isinstance(error, ReplyTooLongError):
            return InvariantError(
                node=self.name,
                cause=f"{self.name} answered {name_of(command)} with more than {limit.size} bytes, "
                "or with an array that it cannot have",
                remedy=CHECK_PEER,
            )
        is_no_reply = self._is_understood and isinstance(error, exceptions.InvalidResponse)
        if is_no_reply or not isinstance(error, _LOST):
            return unreadable(self.name, name_of(command), error)
        return await self._connect_errors.diagnose(error, is_first=not self._is_understood)
