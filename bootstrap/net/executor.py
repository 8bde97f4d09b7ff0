"""Carries out actions; every action can be repeated.

Rules: actions of one kind run at the same time, in one pipeline for each node; the next kind starts
when they are done, so the order of a plan is kept. Right before a MEET the target is asked for its
id. No command is repeated here: a refused one raises an error with `node` and `command`, a
`StaleViewError` where the cluster may have changed since it was observed. The loop then observes
again, and ends the run where the same error comes back too often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import assert_never

from ..core.actions import (
    Action,
    AssignSlots,
    BumpEpoch,
    ClaimSlots,
    CloseSlots,
    CopyFunctions,
    Failover,
    FailoverMode,
    Forget,
    GatherKeys,
    Meet,
    MoveSlots,
    Replicate,
    Reset,
    SetConfigEpoch,
    SetNoFailover,
)
from ..core.slots import SlotSet
from ..core.topology import Address, ClusterView, NodeId, NodeView, Role
from ..errors import NodeUnreachableError, RefusedError, StaleViewError
from . import announced, server_ports
from .connection import Command, ReplyError, reading, text
from .migration.migrator import Migrator
from .migration.session import MigrationHistory, MigrationSession, PrimaryNode, Progress
from .polling import retry
from .pool import ConnectionPool
from .reset import reset
from .transport import DATA_LIMIT

SLOTS_PER_COMMAND = 1000
# Servers give a manual failover up after 5 s (CLUSTER_MF_TIMEOUT); then it is asked for again.
ANSWER_AFTER_STOP_S = 1.0
FAILOVER_TIMEOUT_S = 6.0


@dataclass(slots=True)
class Totals:
    """What an executor has carried out so far, also in a plan that failed half-way."""

    actions: int = 0
    slots_moved: int = 0
    keys_moved: int = 0


class Executor:
    """Carries out the actions of one plan after the other.

    Attributes:
        totals: Of all plans.
    """

    def __init__(
        self,
        *,
        pool: ConnectionPool,
        stop: asyncio.Event,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._pool = pool
        self._nodes: Mapping[NodeId, NodeView] = {}
        self._stop = stop
        self._despite_stop = False
        self._on_progress = on_progress
        self._history = MigrationHistory()
        self.totals = Totals()

    async def apply(
        self, view: ClusterView, actions: Sequence[Action], *, despite_stop: bool = False
    ) -> None:
        """Carry the actions out, or the first of them when a stop was asked for.

        Args:
            view: What the actions were planned from.
            actions: In the order to apply.
            despite_stop: Carry out all of them: they are how a run ends.

        Raises:
            TransientError: A node could not be reached, or the cluster has changed.
            RefusedError: A server refuses, or an announced address is another node's.
        """
        self._nodes = view.by_id()
        self._despite_stop = despite_stop
        has_changed = False
        # An address may have found another process: all targets are asked before the first change,
        # and once more right before the MEETs where something was changed in between.
        met = {action.target for action in actions if isinstance(action, Meet)}
        await self._identify(met)
        for kind, group in groupby(actions, key=type):
            if self._stop.is_set() and not despite_stop:
                break
            batch = list(group)
            if kind in (MoveSlots, GatherKeys):
                await self._migrate(batch)
            else:
                if kind is Meet and has_changed:
                    await self._identify(met)
                await self._apply_batch(batch)
            has_changed = True
            self.totals.actions += len(batch)

    async def _apply_batch(self, batch: Sequence[Action]) -> None:
        """Carry out actions of one kind, all nodes at once, each node's in one pipeline."""
        by_node: dict[NodeId, list[Action]] = {}
        for action in batch:
            by_node.setdefault(_place_of(action), []).append(action)
        results = await asyncio.gather(
            *(
                self._in_time(self._nodes[i], self._on_node(self._nodes[i], group))
                for i, group in by_node.items()
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _in_time(self, node: NodeView, work: Coroutine[None, None, None]) -> None:
        """Wait for a node, but not much longer than the run lasts; every action can be repeated.

        Raises:
            NodeUnreachableError: It did not answer in that time.
        """
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            if not self._despite_stop:
                await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({task}, timeout=ANSWER_AFTER_STOP_S)
            if not task.done():
                raise NodeUnreachableError(
                    node=node.name,
                    cause=f"{node.name} did not answer before the run ended",
                    remedy="see its log, and check that it is not overloaded",
                )
        finally:
            stopping.cancel()
            task.cancel()
        await task

    async def _on_node(self, node: NodeView, actions: Sequence[Action]) -> None:
        first = actions[0]
        with reading(node.name, type(first).__name__):
            if isinstance(first, CopyFunctions):
                await self._copy_functions(first)
            elif isinstance(first, Failover):
                await self._fail_over(node, first)
            elif isinstance(first, Reset):
                await reset(self._pool.client(node.name), node)
            else:
                await self._send(node, actions)

    async def _send(self, node: NodeView, actions: Sequence[Action]) -> None:
        pairs = [(action, command) for action in actions for command in self._commands(action)]
        client = self._pool.client(node.name)
        replies = await client.pipeline(
            [command for _, command in pairs], writes=True, timeout_s=60.0
        )
        for (action, command), reply in zip(pairs, replies, strict=True):
            if isinstance(reply, ReplyError) and not _is_done_already(action, reply):
                if reply.code == "ERR":
                    what = f"answered {reply.command} with: {reply.message}"
                    raise _stale_view(node, what, command=reply.command)
                client.require(command, reply)

    def _commands(self, action: Action) -> list[Command]:
        """Return the commands of an action that is nothing but commands to one node."""
        match action:
            case SetConfigEpoch(epoch=epoch):
                return [("CLUSTER", "SET-CONFIG-EPOCH", epoch)]
            case AssignSlots(node=node, slots=slots):
                return _add_slots(self._nodes[node], slots)
            case Meet(target=target):
                return [_meet(self._nodes[target])]
            case BumpEpoch():
                return [("CLUSTER", "BUMPEPOCH")]
            case Replicate(primary=primary):
                return [("CLUSTER", "REPLICATE", primary)]
            case SetNoFailover(no_failover=no_failover):
                value = "yes" if no_failover else "no"
                return [("CONFIG", "SET", "cluster-replica-no-failover", value)]
            case CloseSlots(slots=slots):
                return [("CLUSTER", "SETSLOT", slot, "STABLE") for slot in slots]
            case ClaimSlots(node=node, slots=slots):
                # The epoch last: it makes the others accept the claim, which must be complete then.
                owned = [("CLUSTER", "SETSLOT", slot, "NODE", node) for slot in slots]
                return [*owned, ("CLUSTER", "BUMPEPOCH")]
            case Forget(gone=gone):
                return [("CLUSTER", "FORGET", gone)]
            case MoveSlots() | GatherKeys() | CopyFunctions() | Failover() | Reset():
                msg = f"not a plain command: {action}"
                raise AssertionError(msg)
            case _:
                assert_never(action)

    async def _identify(self, targets: set[NodeId]) -> None:
        """Make sure that every target of a MEET is the node that was observed."""
        nodes = [self._nodes[target] for target in targets]
        await asyncio.gather(*(self._in_time(node, self._identify_one(node)) for node in nodes))

    async def _identify_one(self, node: NodeView) -> None:
        client = self._pool.client(node.name)
        with reading(node.name, "CLUSTER MYID"):
            answer = text(await client.call("CLUSTER", "MYID"))
        if answer != node.node_id:
            raise _stale_view(node, f"at {node.address} is another node now")
        # A MEET goes where the node announces itself, not where discovery found it.
        address = await self._announced_address(node)
        if (client.ip, client.port) == (address.ip, address.port):
            return
        found = await announced.identify(replace(node, address=address), self._pool)
        if found != node.node_id:
            other = (
                self._nodes[found].name
                if found and found in self._nodes
                else announced.describe(found)
            )
            raise RefusedError(
                node=node.name,
                cause=f"{node.name} announces {node.address}, where {other} answers",
                remedy=f"set cluster-announce-ip and -port of {node.name} to an address of its own",
            )

    async def _announced_address(self, node: NodeView) -> Address:
        """Return where a node announces itself to clients that connect as this program does.

        Before 7.2 CLUSTER NODES shows the port without TLS to a client with TLS, unless the servers
        use TLS among themselves.
        """
        client, address = self._pool.client(node.name), node.address
        if (client.ip, client.port) == (address.ip, address.port):
            return address
        ports = await server_ports.read(client)
        port = ports.port(tls=self._pool.access.tls is not None) if ports else 0
        return replace(address, port=port or address.port)

    async def _copy_functions(self, action: CopyFunctions) -> None:
        source, target = self._nodes[action.source], self._nodes[action.target]
        dump = await self._pool.client(source.name).call("FUNCTION", "DUMP", limit=DATA_LIMIT)
        if not isinstance(dump, bytes):
            return
        client = self._pool.client(target.name)
        try:
            await client.write("FUNCTION", "RESTORE", dump, "REPLACE")
        except ReplyError:
            # One of its own libraries has a function of the same name. No client calls functions at
            # a primary without slots, so that library can go.
            await client.write("FUNCTION", "RESTORE", dump, "FLUSH")

    async def _fail_over(self, node: NodeView, action: Failover) -> None:
        """Start a failover and wait until the node says it is primary."""
        client = self._pool.client(node.name)
        option = () if action.mode is FailoverMode.COORDINATED else (action.mode.upper(),)
        try:
            await client.write("CLUSTER", "FAILOVER", *option)
        except ReplyError as error:
            what = f"answered CLUSTER FAILOVER with: {error.message}"
            raise _stale_view(node, what, command=error.command) from error

        async def check() -> None:
            role = await client.call("ROLE")
            if not isinstance(role, list) or role[0] != b"master":
                command = "CLUSTER FAILOVER"
                raise _stale_view(node, f"did not become primary after {command}", command=command)

        await retry(check, for_s=FAILOVER_TIMEOUT_S)

    async def _migrate(self, batch: Sequence[Action]) -> None:
        progress = Progress()
        migrator = Migrator(self._session(progress))
        names = ", ".join(sorted({self._nodes[_place_of(action)].name for action in batch}))
        try:
            # Replies are read by node in `migration`; this names the sources for what is left.
            with reading(names, "the commands that move slots"):
                if isinstance(batch[0], MoveSlots):
                    await migrator.move([a for a in batch if isinstance(a, MoveSlots)])
                else:
                    await migrator.gather([a for a in batch if isinstance(a, GatherKeys)])
        finally:
            self.totals.slots_moved += progress.slots_moved
            self.totals.keys_moved += progress.keys_moved

    def _session(self, progress: Progress) -> MigrationSession:
        return MigrationSession(
            pool=self._pool,
            primaries={
                node_id: PrimaryNode(client=self._pool.client(node.name), view=node)
                for node_id, node in self._nodes.items()
                if node.role is Role.PRIMARY
            },
            stop=self._stop,
            history=self._history,
            on_progress=self._on_progress,
            progress=progress,
        )


def _stale_view(node: NodeView, what: str, *, command: str | None = None) -> StaleViewError:
    """Return the error that makes the loop observe again."""
    return StaleViewError(
        node=node.name,
        command=command,
        cause=f"{node.name} {what}",
        remedy="retried automatically on the next pass",
    )


def _place_of(action: Action) -> NodeId:
    """Return the node that an action is sent to."""
    if isinstance(action, CopyFunctions):
        return action.target
    if isinstance(action, MoveSlots | GatherKeys):
        return action.source
    return action.node


def _add_slots(node: NodeView, slots: SlotSet) -> list[Command]:
    if "ADDSLOTSRANGE" in node.commands:
        bounds = [bound for pair in slots.ranges() for bound in pair]
        return [("CLUSTER", "ADDSLOTSRANGE", *bounds)]
    numbers = list(slots)
    return [
        ("CLUSTER", "ADDSLOTS", *numbers[first : first + SLOTS_PER_COMMAND])
        for first in range(0, len(numbers), SLOTS_PER_COMMAND)
    ]


def _meet(target: NodeView) -> Command:
    """Return a MEET; with the bus port only where it is not the usual one.

    Moved pods and fresh ones are met where they answered.
    """
    address = target.address
    command: list[str | int] = ["CLUSTER", "MEET", address.ip, address.port]
    if address.cport not in (0, address.port + 10000):
        command.append(address.cport)
    return command


def _is_done_already(action: Action, reply: ReplyError) -> bool:
    """Return whether an error says that the wanted state is there.

    An emptied primary may have become a replica by itself (redis/redis#9223), a forgotten id may
    be unknown already because FORGET spreads by gossip since 7.2.
    """
    words = reply.message.lower()
    match action:
        case Forget():
            return "unknown node" in words
        case CloseSlots():
            return "only with masters" in words
        case _:
            return False
