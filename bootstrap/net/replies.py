"""What a server's reply means: a value, an error of its own, or something that cannot be read.

Whatever a reply makes of our code is a declared error that names the node (`reading`), and a peer's
words are escaped before they enter an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..core.parsing import ParseError, Reply, printable
from ..errors import (
    BootstrapError,
    CredentialsError,
    InvariantError,
    NodeNotReadyError,
    RefusedError,
    StaleViewError,
)

Command = Sequence[str | bytes | int]

MALFORMED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
CHECK_PEER = (
    "check that a Redis or Valkey server answers at its address; if so, report this with its "
    "version"
)
RETRIED = "retried automatically on the next pass"
_ECHO = ", with args"
_NOT_READY = frozenset({"MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "LOADING"})
_CONTAINERS = frozenset({"cluster", "config", "client", "function", "acl", "memory"})
_DENIED = re.compile(r"run the '([^' ]+)' command")
_DENIED_KEY = re.compile(r"access (a|one of the) keys?")
_LOGIN_REMEDIES = {
    "NOAUTH": "set BOOTSTRAP_PASSWORD or BOOTSTRAP_PASSWORD_FILE",
    "WRONGPASS": "check BOOTSTRAP_USERNAME, BOOTSTRAP_PASSWORD and BOOTSTRAP_PASSWORD_FILE",
    "DENIED": "set `protected-mode no` in its redis.conf, or a password",
}
_NO_LOGIN_NEEDED = "unset BOOTSTRAP_USERNAME, _PASSWORD and _PASSWORD_FILE, or set a password there"


class ReplyError(RefusedError):
    """An error reply of a server; one that no caller handles ends the run and names the node.

    Attributes:
        code: Its first word, such as `ERR`, `BUSYKEY`, `LOADING`.
        message: All of it but an echo of what was sent, which may be a password or a key.
        command: The command as an error names it: without keys and values.
    """

    node: str
    command: str

    def __init__(self, message: str, *, node: str, command: str) -> None:
        self.message = printable(without_echo(message))
        self.code = self.message.partition(" ")[0]
        super().__init__(
            node=node,
            command=command,
            cause=f"{node} answered {command} with: {self.message}",
            remedy="see its log, fix the cause and run again",
        )

    @property
    def is_not_ready(self) -> bool:
        """Return whether the server cannot serve now, and may soon."""
        return self.code in _NOT_READY

    def declared(self, user: str) -> BootstrapError:
        """Return what is raised where no caller expects an error reply; `user` lacks a rule."""
        if self.is_not_ready:
            return self.not_ready()
        if self.code != "NOPERM":
            return self
        rule = missing_rule(self.message, acl_rule(self.command.lower().split()))
        return CredentialsError(
            node=self.node,
            cause=f"{self.node} refuses {self.command}: {self.message}",
            remedy=f"allow it: ACL SETUSER {user} {rule}",
        )

    def not_ready(self) -> NodeNotReadyError:
        """Return the error for a reply that says that the server cannot serve now."""
        return NodeNotReadyError(
            node=self.node,
            cause=f"{self.node} is not ready: {self.message}",
            remedy="wait until it has loaded its data, or see its log",
        )

    def login_failed(self) -> CredentialsError:
        """Return the error for a reply that rejects our user or password."""
        return CredentialsError(
            node=self.node,
            cause=f"authentication failed at {self.node}: {self.message}",
            remedy=_LOGIN_REMEDIES.get(self.code, _NO_LOGIN_NEEDED),
        )


@contextmanager
def reading(node: str, what: str) -> Iterator[None]:
    """Turn whatever a reply makes of our code into a declared error that names the node.

    Raises:
        InvariantError: A reply to `what` cannot be read.
    """
    try:
        yield
    except MALFORMED as error:
        raise unreadable(node, what, error) from error


def unreadable(node: str, what: str, error: Exception) -> InvariantError:
    """Return the error for a reply that does not have the documented form."""
    words = printable(str(error))
    detail = words if isinstance(error, ParseError) else f"{type(error).__name__}: {words}"
    return InvariantError(
        node=node,
        cause=f"{node} answered {what} with a reply that cannot be read: {detail}",
        remedy=CHECK_PEER,
    )


def stale_view(
    node: str, what: str, *, command: str | None = None, remedy: str = RETRIED
) -> StaleViewError:
    """Return the error that makes the loop observe again."""
    return StaleViewError(node=node, command=command, cause=f"{node} {what}", remedy=remedy)


def without_echo(words: str) -> str:
    """Cut what a server repeats of a command that it does not know: a password, or a key."""
    return words.partition(_ECHO)[0].strip()


def text(reply: Reply) -> str:
    """Return a string or integer reply as text.

    Raises:
        ParseError: It is a list, nil, or of a type that RESP2 does not have.
    """
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace")
    if isinstance(reply, str) or type(reply) is int:
        return str(reply)
    kind = "nil" if reply is None else f"a {type(reply).__name__}"
    raise ParseError(f"{kind}, not a string")


def name_of(command: Command) -> str:
    """Return a command as an error names it: without keys and values."""
    return acl_rule(command).replace("|", " ").upper()


def acl_rule(command: Command) -> str:
    """Return the ACL rule that allows a command, `cluster|meet` for a subcommand."""
    words = [str(word).lower() for word in command[:2]]
    return "|".join(words) if words[0] in _CONTAINERS and len(words) > 1 else words[0]


def missing_rule(message: str, rule: str) -> str:
    """Return the rule that a user lacks, according to a NOPERM reply: a command, or keys.

    Args:
        message: The reply; MIGRATE's may be about AUTH, SELECT or RESTORE-ASKING on the target.
        rule: The rule of the command that was sent; before 7.0 a reply names no subcommand.
    """
    if found := _DENIED.search(message):
        denied = found[1].lower()
        is_subcommand = rule.startswith(f"{denied}|")
        return "+" + (rule if is_subcommand else denied)
    return "'~*'" if _DENIED_KEY.search(message) else f"+{rule}"
