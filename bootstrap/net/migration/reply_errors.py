"""What an error reply during a migration means: retry, wrong credentials, or a refusal.

Every error names the pod that refused and the command that it refused, also where another pod's
MIGRATE only passes its answer on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from ...core.parsing import Reply
from ...errors import BootstrapError, CredentialsError, RefusedError, TransientError
from .. import replies
from ..connection import RedisNode
from ..replies import RETRIED, ReplyError, acl_rule, missing_rule

E = TypeVar("E", bound=BaseException)

FROM_TARGET = "Target instance replied with error: "
stale_view = partial(replies.stale_view, remedy=f"the cluster changed meanwhile; {RETRIED}")

# A failover, a node that is not ready, another run, or a slot that went to a third node.
_TRANSIENT_CODES = frozenset(
    {
        "ASK", "BUSY", "CLUSTERDOWN", "IOERR", "LOADING", "MASTERDOWN", "MOVED", "NOREPLICAS",
        "NOTREADY", "READONLY", "TRYAGAIN", "UNBLOCKED",
    }
)  # fmt: skip
# Roles and members spread by gossip: one node may not have heard yet what another one reported.
_TRANSIENT_PHRASES = (
    "only with masters",
    "node is not a master",
    "nknown node",
    "know about node",
    "still hold keys",
    "atomic slot migration",
)


def rejection(reply: ReplyError, *, target: str | None = None) -> BootstrapError:
    """Return the error for an error reply.

    Args:
        reply: What was answered; a source passes on what the target answered to its MIGRATE.
        target: The target of MIGRATE.
    """
    node, command, words = reply.node, reply.command, reply.message.removeprefix("ERR ")
    rule = acl_rule(command.lower().split())
    if target and words.startswith(FROM_TARGET):
        words = words.removeprefix(FROM_TARGET)
        node, command, rule = target, f"{command} of {node}", "restore-asking"
    code = words.partition(" ")[0]
    what = f"answered {command} with: {words}"
    if code == "OOM":
        return out_of_memory(node, command, words)
    if code in {"NOPERM", "NOAUTH", "WRONGPASS"}:
        remedy = "set the password of every node in BOOTSTRAP_PASSWORD_FILE, one a line"
        if code == "NOPERM":
            remedy = f"allow it: ACL SETUSER <user> {missing_rule(words, rule)}"
        return CredentialsError(node=node, command=command, cause=f"{node} {what}", remedy=remedy)
    if code in _TRANSIENT_CODES or any(phrase in words for phrase in _TRANSIENT_PHRASES):
        return stale_view(node, what, command=command)
    return ReplyError(words, node=node, command=command)


def out_of_memory(node: str, command: str, words: str) -> RefusedError:
    """Return the error for a node without memory for more keys."""
    return RefusedError(
        node=node,
        command=command,
        cause=f"{node} answered {command} with: {words}",
        remedy=f"raise maxmemory of {node} and run again, or leave the slots where they are with "
        "BOOTSTRAP_REBALANCE=false",
    )


def most_severe(errors: Sequence[E]) -> E:
    """Return one error: one that repeating cannot fix, if there is any."""
    return min(errors, key=lambda error: isinstance(error, TransientError))


def require(reply: Reply | ReplyError) -> Reply:
    """Return a reply that is no error; otherwise raise its `rejection`."""
    if isinstance(reply, ReplyError):
        raise rejection(reply)
    return reply


async def call(client: RedisNode, *command: str | bytes | int) -> Reply:
    """Send one reading command and return its reply; raise the `rejection` of an error reply."""
    (reply,) = await client.pipeline([command])
    return require(reply)
