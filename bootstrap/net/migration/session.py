"""What every way of moving slots shares: who takes part, how far it is, what an answer means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from ...core.topology import NodeId, NodeView
from ...errors import BootstrapError, CredentialsError, RefusedError, StaleViewError, TransientError
from ..connection import Access, NodeClient, RedisNode, ReplyError, acl_rule, missing_rule, refused

E = TypeVar("E", bound=BaseException)

# The world moved on: a failover, a node that is not ready, another run, a third node's slot.
_LOOK_AGAIN = frozenset(
    {
        "ASK", "BUSY", "CLUSTERDOWN", "IOERR", "LOADING", "MASTERDOWN", "MOVED", "NOREPLICAS",
        "NOTREADY", "READONLY", "TRYAGAIN", "UNBLOCKED",
    }
)  # fmt: skip
# Roles and members come by gossip: one node may not have heard yet what another one said.
_LOOK_AGAIN_WORDS = (
    "only with masters",
    "node is not a master",
    "nknown node",
    "know about node",
    "still hold keys",
    "atomic slot migration",
)
_CHANGED = "the cluster changed meanwhile; retried automatically on the next pass"
Processes: TypeAlias = tuple[tuple[NodeId, str], ...]
FROM_TARGET = "Target instance replied with error: "


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryNode:
    """One live primary.

    Attributes:
        client: The connection that everybody uses for it.
        view: What it said when the plan was made.
    """

    client: NodeClient
    view: NodeView

    @property
    def name(self) -> str:
        """Return the pod's name."""
        return self.view.name

    @property
    def node_id(self) -> NodeId:
        """Return the node's id."""
        return self.view.node_id


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Where slots come from and where they go."""

    source: PrimaryNode
    target: PrimaryNode

    @property
    def processes(self) -> Processes:
        """Return which two processes these are; one that was restarted is another one."""
        ends = (self.source.view, self.target.view)
        return tuple((view.node_id, view.run_id) for view in ends)


@dataclass(slots=True)
class Progress:
    """How far the moves of one plan are.

    Attributes:
        keys_total: Counted when a pair starts, so it grows at first; an estimate where the server
            moves slots itself.
    """

    slots_total: int = 0
    slots_moved: int = 0
    keys_total: int = 0
    keys_moved: int = 0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started_s

    @property
    def keys_per_s(self) -> float:
        """Return the rate so far."""
        return self.keys_moved / max(self.elapsed_s, 1e-6)

    @property
    def left_s(self) -> float | None:
        """Return the seconds left at the rate so far; None before anything has moved."""
        shares = []
        if self.slots_moved and self.slots_total:
            shares.append(self.slots_moved / self.slots_total)
        if self.keys_moved and self.keys_total:
            shares.append(min(1.0, self.keys_moved / self.keys_total))
        return self.elapsed_s * (1 / min(shares) - 1) if shares else None


Connect: TypeAlias = Callable[[PrimaryNode], RedisNode]
OpenedSlot: TypeAlias = tuple[int, NodeId, NodeId]


@dataclass(slots=True)
class MigrationHistory:
    """What one run of the program remembers from pass to pass.

    Attributes:
        opened: Slots (with source and target) of which the target held no key when this program
            opened them, and the source's process (`run_id`) then.
        failures: How often in a row the servers' own command failed between two processes.
        by_keys: Processes between which it cannot work, so that slots go key by key.
        gave_at: When a node last gave slots away, by the steady clock.
    """

    opened: dict[OpenedSlot, str] = field(default_factory=dict)
    failures: dict[Processes, int] = field(default_factory=dict)
    by_keys: set[Processes] = field(default_factory=set)
    gave_at: dict[NodeId, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class MigrationSession:
    """What all pairs of one run share.

    Attributes:
        halted: A pair failed; the others finish the slots in flight and start no more.
        silent: Primaries that did not answer when they were told of a new owner.
    """

    parties: Mapping[NodeId, PrimaryNode]
    access: Access
    connect: Connect
    stop: asyncio.Event
    report: Callable[[Progress], None]
    memory: MigrationHistory
    progress: Progress = field(default_factory=Progress)
    silent: set[NodeId] = field(default_factory=set)
    halted: bool = False

    @property
    def is_ending(self) -> bool:
        """Return whether no further slot may be opened."""
        return self.halted or self.stop.is_set()

    def count(self, *, slots: int = 0, keys: int = 0) -> None:
        """Add to the progress and tell it."""
        self.progress.slots_moved += slots
        self.progress.keys_moved += keys
        self.report(self.progress)

    async def together(self, works: Iterable[Coroutine[object, object, None]]) -> None:
        """Run all at the same time, each to its end; then raise the most severe error.

        One that fails must not cancel another in the middle of a slot.
        """

        async def watched(work: Coroutine[object, object, None]) -> None:
            try:
                await work
            except BaseException:
                self.halted = True
                raise

        results = await asyncio.gather(*map(watched, works), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise most_severe(errors)


def most_severe(errors: Sequence[E]) -> E:
    """Return one error: one that repeating cannot fix, if there is any."""
    return min(errors, key=lambda error: isinstance(error, TransientError))


def rejection(
    party: PrimaryNode, command: str, reply: ReplyError, *, target: PrimaryNode | None = None
) -> BootstrapError:
    """Return the error for a reply: look again, let us in, or a person must decide.

    Args:
        party: Who answered.
        command: What it was asked.
        reply: What it answered; MIGRATE groups on what the target said.
        target: Of MIGRATE.
    """
    words = reply.message.removeprefix("ERR ")
    rule = acl_rule(command.lower().split())
    if target and words.startswith(FROM_TARGET):
        words = words.removeprefix(FROM_TARGET)
        party, command, rule = target, f"{command} of {party.name}", "restore-asking"
    code = words.partition(" ")[0]
    if code == "OOM":
        return full(party, f"answered {command} with: {words}")
    if code in {"NOPERM", "NOAUTH", "WRONGPASS"}:
        return CredentialsError(
            node=party.name,
            cause=f"{party.name} answered {command} with: {words}",
            remedy=f"allow it: ACL SETUSER <user> {missing_rule(words, rule)}"
            if code == "NOPERM"
            else "set the password of every node in BOOTSTRAP_PASSWORD_FILE, one a line",
        )
    if code == "IOERR" and target:
        return stale(party, f"answered {command} with: {words}", remedy=_unreached(party, target))
    if code in _LOOK_AGAIN or any(phrase in words for phrase in _LOOK_AGAIN_WORDS):
        return stale(party, f"answered {command} with: {words}")
    return refused(party.name, command, ReplyError(words))


def full(party: PrimaryNode, what: str) -> RefusedError:
    """Return the error for a node without memory for more keys."""
    return RefusedError(
        node=party.name,
        cause=f"{party.name} {what}",
        remedy=f"raise maxmemory of {party.name} and run again, or leave the slots where they are "
        "with BOOTSTRAP_REBALANCE=false",
    )


def _unreached(source: PrimaryNode, target: PrimaryNode) -> str:
    port = target.view.address.port
    return f"check that a NetworkPolicy lets {source.name} reach port {port} of {target.name}"


def stale(party: PrimaryNode, what: str, *, remedy: str = _CHANGED) -> StaleViewError:
    """Return the error that makes the loop look again."""
    return StaleViewError(node=party.name, cause=f"{party.name} {what}", remedy=remedy)


async def close(*clients: RedisNode) -> None:
    """Close own connections."""
    for client in clients:
        await client.close()
