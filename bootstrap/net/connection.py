"""One connection to one node, and what its failures mean.

redis-py carries the bytes; replies stay raw, since its parsers drop what we need (two `noaddr`
nodes collapse into one, the bus port is lost). Its errors are mapped here, once: an
`AuthenticationError` is a `ConnectionError` to redis-py, but no retry fixes a wrong password.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hiredis import pack_command
from redis import exceptions
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..core.wire import Reply
from ..errors import CredentialsError, NodeNotReadyError, RefusedError
from .connect_errors import ConnectErrors

Command = Sequence[str | bytes | int]

CONNECT_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0
_NOT_NOW = frozenset({"MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "LOADING"})
_ECHO = ", with args"
_DENIED = re.compile(r"run the '([^' ]+)' command")
_DENIED_KEY = re.compile(r"access (a|one of the) keys?")


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


class ReplyError(Exception):
    """An error reply of a server.

    Attributes:
        code: Its first word, such as `ERR`, `BUSYKEY`, `LOADING`.
        message: All of it but an echo of what was sent, which may be a password or a key.
    """

    def __init__(self, message: str) -> None:
        message = without_echo(message)
        super().__init__(message)
        self.message = message
        self.code = message.partition(" ")[0]


class _VerifiedConnection(Connection):
    """A TLS connection to an address, verified against the DNS name it was found under."""

    def __init__(
        self,
        *,
        context: ssl.SSLContext,
        server_name: str,
        **kwargs: Any,  # noqa: ANN401 - handed on to redis-py as they are
    ) -> None:
        super().__init__(**kwargs)
        self._context = context
        self._server_name = server_name

    def _connection_arguments(self) -> Mapping[str, object]:
        return {
            **super()._connection_arguments(),
            "ssl": self._context,
            "server_hostname": self._server_name,
        }


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
        options: dict[str, Any] = {
            "host": ip,
            "port": port,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "driver_info": None,
            "retry": Retry(NoBackoff(), 0),
        }
        self._connection = (
            _VerifiedConnection(context=access.tls, server_name=host, **options)
            if access.tls
            else Connection(**options)
        )

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is open."""
        return bool(self._connection.is_connected)

    async def call(
        self, *command: str | bytes | int, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Reply:
        """Send one reading command and return its reply.

        Raises:
            ReplyError: The server answered with an error.
            CredentialsError, NodeUnreachableError, SettingsError: See `pipeline`.
        """
        replies = await self.pipeline([command], timeout_s=timeout_s)
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
    ) -> list[Reply | ReplyError]:
        """Send commands in one go and return their replies, error replies among them as values.

        Raises:
            CredentialsError: NOAUTH or WRONGPASS; NOPERM stays a value, see `require`.
            NodeUnreachableError: No connection, no answer in time, or not ready to serve.
            SettingsError: Something else than Redis answers, or TLS does not fit.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._connect()
                    self._count(len(commands), writes=writes)
                    await self._connection.send_packed_command(
                        b"".join(pack_command(tuple(command)) for command in commands),  # type: ignore[arg-type]  # any length
                        check_health=False,
                    )
                    return [await self._read() for _ in commands]
            except (TimeoutError, exceptions.RedisError, OSError) as error:
                await self._connection.disconnect(nowait=True)
                if not self._is_understood and (
                    wrong := await self._connect_errors.detect_protocol_mismatch(error)
                ):
                    raise wrong from error
                raise self._connect_errors.explain(error) from error

    async def close(self) -> None:
        """Close the connection; the server forgets our name with it."""
        await self._connection.disconnect(nowait=True)

    def _count(self, commands: int, *, writes: bool) -> None:
        self._access.traffic.commands += commands
        self._access.traffic.writes += commands if writes else 0
        self._access.traffic.round_trips += 1

    async def _read(self) -> Reply | ReplyError:
        """Read one reply; raises for those after which redis-py drops the connection."""
        try:
            reply: Reply = await self._connection.read_response(disable_decoding=True)
        except exceptions.AuthenticationError as error:
            raise self._not_let_in(ReplyError(_message(error))) from error
        except exceptions.BusyLoadingError as error:
            raise self._unready(ReplyError(_message(error))) from error
        except exceptions.ResponseError as error:
            refusal = ReplyError(_message(error))
            if refusal.code == "DENIED":
                raise self._not_let_in(refusal) from error
            return refusal
        finally:
            self._is_understood = self._is_understood or self._connection.is_connected
        return reply

    async def _connect(self) -> None:
        if self._connection.is_connected:
            return
        await self._connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        user = (self._access.username,) if self._access.username else ()
        last: CredentialsError | None = None
        for password in self._access.passwords:
            await self._connection.send_command("AUTH", *user, password, check_health=False)
            try:
                reply = await self._read()
            except CredentialsError as error:
                last = error
                continue
            if not isinstance(reply, ReplyError):
                return
            if reply.code in _NOT_NOW:
                raise self._unready(reply)
            last = self._not_let_in(reply)
        if last is not None:
            await self._connection.disconnect(nowait=True)
            raise last

    def _not_let_in(self, reply: ReplyError) -> CredentialsError:
        """Return the error for a reply that says that who we are is wrong."""
        remedies = {
            "NOAUTH": "set BOOTSTRAP_PASSWORD or BOOTSTRAP_PASSWORD_FILE",
            "WRONGPASS": "check BOOTSTRAP_USERNAME, BOOTSTRAP_PASSWORD and BOOTSTRAP_PASSWORD_FILE",
            "DENIED": "set `protected-mode no` in its redis.conf, or a password",
        }
        unasked = "unset BOOTSTRAP_USERNAME, _PASSWORD and _PASSWORD_FILE, or set a password there"
        return CredentialsError(
            node=self.name,
            cause=f"{self.name} did not let us in: {reply.message}",
            remedy=remedies.get(reply.code, unasked),
        )

    def _unready(self, reply: ReplyError) -> NodeNotReadyError:
        """Return the error for a reply that says that it cannot serve now."""
        return NodeNotReadyError(
            node=self.name,
            cause=f"{self.name} is not ready: {reply.message}",
            remedy="wait until it has loaded its data, or look at its log",
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
        if reply.code in _NOT_NOW:
            raise self._unready(reply)
        if reply.code != "NOPERM":
            raise reply
        words = " ".join(str(word).upper() for word in command[:2])
        user = self._access.username or "default"
        raise CredentialsError(
            node=self.name,
            cause=f"{self.name} refuses {words}: {reply.message}",
            remedy=f"allow it: ACL SETUSER {user} {missing_rule(reply.message, acl_rule(command))}",
        )


def refused(node: str, command: str, error: ReplyError) -> RefusedError:
    """Return the error for a command that a server will not do."""
    return RefusedError(
        node=node,
        cause=f"{node} answered {command} with: {error.message}",
        remedy="look at its log, fix that and run again",
    )


def without_echo(words: str) -> str:
    """Cut what a server repeats of a command that it does not know: a password, or a key."""
    return words.partition(_ECHO)[0].strip()


def acl_rule(command: Command) -> str:
    """Return the ACL rule that allows a command, `cluster|meet` for a subcommand."""
    words = [str(word).lower() for word in command[:2]]
    containers = {"cluster", "config", "client", "function", "acl", "memory"}
    return "|".join(words) if words[0] in containers and len(words) > 1 else words[0]


def missing_rule(message: str, rule: str) -> str:
    """Return what a user lacks by what NOPERM says: a command, not always ours, or keys.

    Args:
        message: The reply; MIGRATE's may be about AUTH, SELECT or RESTORE-ASKING on the target.
        rule: What was sent, as `acl` spells it; before 7.0 a reply names no subcommand.
    """
    if found := _DENIED.search(message):
        denied = found[1].lower()
        return f"+{rule if rule.startswith(f'{denied}|') else denied}"
    return "'~*'" if _DENIED_KEY.search(message) else f"+{rule}"


def text(reply: Reply) -> str:
    """Return a bulk or simple string reply as text."""
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    return str(reply)


def _message(error: exceptions.RedisError) -> str:
    """Return the reply as the server sent it; redis-py takes the codes off that it knows."""
    words, code = str(error), getattr(error, "status_code", None)
    return words if not code or words.startswith(f"{code} ") else f"{code} {words}"
