"""One connection to one node, and what its failures mean.

redis-py carries the bytes; replies stay raw, since its parsers drop what we need (two `noaddr`
nodes collapse into one, the bus port is lost). Its errors are mapped here, once: an
`AuthenticationError` is a `ConnectionError` to redis-py, but no retry fixes a wrong password.

Rules: every reply is bounded in bytes and in time; whatever a reply makes of our code is a declared
error that names the node (`reading`); a peer's words are escaped before they enter an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hiredis import pack_command
from redis import exceptions

from ..core.wire import Reply, WireError, printable
from ..errors import (
    BootstrapError,
    CredentialsError,
    InvariantError,
    NodeNotReadyError,
    RefusedError,
)
from .acl import acl_rule, missing_rule
from .connect_errors import ConnectErrors
from .transport import (
    REPLY_LIMIT,
    BoundedConnection,
    Limit,
    ReplyTooLongError,
    VerifiedConnection,
)

Command = Sequence[str | bytes | int]

COMMAND_TIMEOUT_S = 10.0
_NOT_READY = frozenset({"MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "LOADING"})
_ECHO = ", with args"
_MALFORMED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


@dataclass(slots=True)
class Traffic:
    """What was sent in one run.

    Attributes:
        commands: All commands. `writes`: those that change a server's state.
        round_trips: Times that a node was waited for; a pipeline counts once.
    """

    commands: int = 0
    writes: int = 0
    round_trips: int = 0


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


class ReplyError(RefusedError):
    """An error reply of a server; one that no caller handles ends the run and names the node.

    Attributes:
        code: Its first word, such as `ERR`, `BUSYKEY`, `LOADING`.
        message: All of it but an echo of what was sent, which may be a password or a key.
    """

    def __init__(self, message: str, *, node: str | None = None, command: str = "") -> None:
        self.message = printable(without_echo(message))
        self.code = self.message.partition(" ")[0]
        super().__init__(
            node=node,
            command=command or None,
            cause=f"{node or 'a node'} answered {command or 'a command'} with: {self.message}",
            remedy="see its log, fix the cause and run again",
        )


class RedisNode:
    """A node behind one TCP connection, connected at first use and again after a failure.

    Attributes:
        name: Pod name, for messages.
    """

    def __init__(self, *, name: str, host: str, ip: str, port: int, access: Access) -> None:
        self.name = name
        self.ip = ip
        self.port = port
        self._access = access
        self._lock = asyncio.Lock()
        self._is_understood = False
        self._connect_errors = ConnectErrors(
            name=name, ip=ip, port=port, is_tls=access.tls is not None
        )
        self._connection = (
            VerifiedConnection(ip=ip, port=port, context=access.tls, server_name=host)
            if access.tls
            else BoundedConnection(ip=ip, port=port)
        )

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open."""
        return bool(self._connection.is_connected)

    async def call(
        self,
        *command: str | bytes | int,
        timeout_s: float = COMMAND_TIMEOUT_S,
        limit: Limit = REPLY_LIMIT,
    ) -> Reply:
        """Send one reading command and return its reply.

        Raises:
            ReplyError: The server answered with an error.
            BootstrapError: See `pipeline`.
        """
        replies = await self.pipeline([command], timeout_s=timeout_s, limit=limit)
        return self.require(command, replies[0])

    async def write(
        self, *command: str | bytes | int, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Reply:
        """Send one changing command and return its reply; raises as `call`."""
        replies = await self.pipeline([command], writes=True, timeout_s=timeout_s)
        return self.require(command, replies[0])

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
            commands: What to send.
            writes: Whether they change something; for the count only.
            timeout_s: How long all of it may take, connecting included.
            limit: How many bytes all replies together may have, and which arrays.

        Raises:
            CredentialsError: NOAUTH or WRONGPASS; NOPERM stays a value, see `require`.
            NodeUnreachableError: No connection, no answer in time, or not ready to serve.
            SettingsError: Something else than Redis answers, or TLS does not fit.
            InvariantError: A reply is too long, or is none.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._connect()
                    self._count(len(commands), writes=writes)
                    self._connection.allow(limit)
                    await self._connection.send_packed_command(
                        b"".join(pack_command(tuple(command)) for command in commands),  # type: ignore[arg-type]  # any length
                        check_health=False,
                    )
                    return [await self._read(command) for command in commands]
            except (TimeoutError, exceptions.RedisError, OSError) as error:
                await self._connection.disconnect(nowait=True)
                if self._is_understood and isinstance(error, exceptions.InvalidResponse):
                    raise unreadable(self.name, _words(commands[0]), error) from error
                raise await self._connect_errors.diagnose(
                    error, is_first=not self._is_understood
                ) from error
            except ReplyTooLongError as error:
                await self._connection.disconnect(nowait=True)
                raise self._too_long(commands, limit) from error
            except _MALFORMED as error:
                await self._connection.disconnect(nowait=True)
                raise unreadable(self.name, _words(commands[0]), error) from error

    async def close(self) -> None:
        """Close the connection; the server forgets our name with it."""
        await self._connection.disconnect(nowait=True)

    def _count(self, commands: int, *, writes: bool) -> None:
        self._access.traffic.commands += commands
        self._access.traffic.writes += commands if writes else 0
        self._access.traffic.round_trips += 1

    async def _read(self, command: Command) -> Reply | ReplyError:
        """Read one reply; raises for those after which redis-py drops the connection."""
        try:
            reply: Reply = await self._connection.read_response(disable_decoding=True)
        except exceptions.AuthenticationError as error:
            raise self._rejected(self._reply_error(error, command)) from error
        except exceptions.BusyLoadingError as error:
            raise self._not_ready(self._reply_error(error, command)) from error
        except exceptions.ResponseError as error:
            refusal = self._reply_error(error, command)
            if refusal.code == "DENIED":
                raise self._rejected(refusal) from error
            return refusal
        finally:
            self._is_understood = self._is_understood or self._connection.is_connected
        return reply

    def _reply_error(self, error: exceptions.RedisError, command: Command) -> ReplyError:
        """Return the reply as the server sent it; redis-py takes the codes off that it knows."""
        words, code = str(error), getattr(error, "status_code", None)
        message = words if not code or words.startswith(f"{code} ") else f"{code} {words}"
        return ReplyError(message, node=self.name, command=_words(command))

    async def _connect(self) -> None:
        if self._connection.is_connected:
            return
        await self._connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        user = (self._access.username,) if self._access.username else ()
        last: CredentialsError | None = None
        for password in self._access.passwords:
            self._connection.allow(REPLY_LIMIT)
            await self._connection.send_command("AUTH", *user, password, check_health=False)
            try:
                reply = await self._read(("AUTH",))
            except CredentialsError as error:
                last = error
                continue
            if not isinstance(reply, ReplyError):
                return
            if reply.code in _NOT_READY:
                raise self._not_ready(reply)
            last = self._rejected(reply)
        if last is not None:
            await self._connection.disconnect(nowait=True)
            raise last

    def _rejected(self, reply: ReplyError) -> CredentialsError:
        """Return the error for a reply that rejects our user or password."""
        remedies = {
            "NOAUTH": "set BOOTSTRAP_PASSWORD or BOOTSTRAP_PASSWORD_FILE",
            "WRONGPASS": "check BOOTSTRAP_USERNAME, BOOTSTRAP_PASSWORD and BOOTSTRAP_PASSWORD_FILE",
            "DENIED": "set `protected-mode no` in its redis.conf, or a password",
        }
        unset = "unset BOOTSTRAP_USERNAME, _PASSWORD and _PASSWORD_FILE, or set a password there"
        return CredentialsError(
            node=self.name,
            cause=f"authentication failed at {self.name}: {reply.message}",
            remedy=remedies.get(reply.code, unset),
        )

    def _not_ready(self, reply: ReplyError) -> NodeNotReadyError:
        """Return the error for a reply that says that it cannot serve now."""
        return NodeNotReadyError(
            node=self.name,
            cause=f"{self.name} is not ready: {reply.message}",
            remedy="wait until it has loaded its data, or see its log",
        )

    def _too_long(self, commands: Sequence[Command], limit: Limit) -> InvariantError:
        return InvariantError(
            node=self.name,
            cause=f"{self.name} answered {_words(commands[0])} with more than {limit.size} bytes, "
            "or with an array that it cannot have",
            remedy=_CHECK_PEER,
        )

    def require(self, command: Command, reply: Reply | ReplyError) -> Reply:
        """Return a reply that is no error.

        Raises:
            CredentialsError: NOPERM, with the ACL rule that is missing.
            NodeNotReadyError: It cannot serve now (MASTERDOWN, BUSY, TRYAGAIN, CLUSTERDOWN).
            ReplyError: Any other error reply.
        """
        if not isinstance(reply, ReplyError):
            return reply
        if reply.code in _NOT_READY:
            raise self._not_ready(reply)
        if reply.code != "NOPERM":
            raise reply
        user = self._access.username or "default"
        raise CredentialsError(
            node=self.name,
            cause=f"{self.name} refuses {_words(command)}: {reply.message}",
            remedy=f"allow it: ACL SETUSER {user} {missing_rule(reply.message, acl_rule(command))}",
        )


_CHECK_PEER = (
    "check that a Redis or Valkey server answers at its address; if so, report this with its "
    "version"
)


@contextmanager
def reading(node: str, what: str) -> Iterator[None]:
    """Turn whatever a reply makes of our code into a declared error that names the node.

    Raises:
        InvariantError: A reply to `what` cannot be read.
    """
    try:
        yield
    except _MALFORMED as error:
        raise unreadable(node, what, error) from error


def unreadable(node: str, what: str, error: Exception) -> BootstrapError:
    """Return the error for a reply that does not have the documented form."""
    words = printable(str(error))
    detail = words if isinstance(error, WireError) else f"{type(error).__name__}: {words}"
    return InvariantError(
        node=node,
        cause=f"{node} answered {what} with a reply that cannot be read: {detail}",
        remedy=_CHECK_PEER,
    )


def refused(node: str, command: str, error: ReplyError) -> RefusedError:
    """Return the error for a command that a server refuses to carry out."""
    return ReplyError(error.message, node=node, command=command)


def without_echo(words: str) -> str:
    """Cut what a server repeats of a command that it does not know: a password, or a key."""
    return words.partition(_ECHO)[0].strip()


def text(reply: Reply) -> str:
    """Return a string or integer reply as text.

    Raises:
        WireError: It is a list, nil, or of a type that RESP2 does not have.
    """
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    if isinstance(reply, str) or type(reply) is int:
        return str(reply)
    kind = "nil" if reply is None else f"a {type(reply).__name__}"
    raise WireError(f"{kind}, not a string")


def _words(command: Command) -> str:
    """Return a command as an error names it: without keys and values."""
    return acl_rule(command).replace("|", " ").upper()
