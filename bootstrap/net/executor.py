"""Carries out actions; every action can be repeated.

Rules: actions of one kind run at the same time, in one pipeline for each node; the next kind starts
when they are done, so the order of a plan is kept. Before servers are sent to another one, who
answers at the address that it announces is asked for its id. No command is repeated here: a refused
one raises an error with `node` and `command`, a `StaleViewError` where the cluster may have changed
since it was observed. The loop then observes again, and ends the run where the same error comes
back too often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..core.actions import (
    Action,
    CopyFunctions,
    Failover,
    FailoverMode,
    GatherKeys,
    MoveSlots,
    Reset,
)
from ..core.topology import ClusterView, NodeId, NodeView, Role
from ..errors import BootstrapError, NodeUnreachableError
from . import announced, preconditions
from .commands import commands_of, is_done_already, place_of, reached_by_others
from .migration import migrator
from .migration.session import MigrationHistory, MigrationSession, Progress
from .polling import retry
from .pool import ConnectionPool
from .replies import ReplyError, reading, stale_view
from .reset import reset
from .transport import LIBRARIES_LIMIT

ANSWER_AFTER_STOP_S = 1.0
# Servers give a manual failover up after 5 s (CLUSTER_MF_TIMEOUT); then it is asked for again.
FAILOVER_TIMEOUT_S = 6.0


@dataclass(slots=True)
class Totals:
    """What an executor has carried out so far, also in a plan that failed half-way."""

    actions: int = 0
    slots_moved: int = 0
    keys_moved: int = 0


class Executor:
    """Carries out the actions of one plan after the other, and counts them in `totals`."""

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
        """Carry out what was planned from a view, in this order; less when a stop was asked for.

        `despite_stop` is for actions that end a run: all of them are carried out.

        Raises:
            TransientError: A node could not be reached, or the cluster has changed.
            RefusedError: A server refuses, or an announced address is another node's.
        """
        self._nodes = view.by_id()
        self._despite_stop = despite_stop
        has_changed = False
        # An address may have found another process: all are asked before the first change, and once
        # more right before servers are sent there, where something was changed in between.
        await self._identify(actions)
        for kind, group in groupby(actions, key=type):
            if self._stop.is_set() and not despite_stop:
                break
            batch = list(group)
            if has_changed:
                await self._identify(batch)
            if kind in (MoveSlots, GatherKeys):
                await self._migrate(batch)
            elif kind is Failover:
                batch = await self._fail_over_in_turn(batch)
            else:
                await self._apply_batch(batch)
            has_changed = True
            self.totals.actions += len(batch)

    async def _apply_batch(self, batch: Sequence[Action]) -> None:
        """Carry out actions of one kind, all nodes at once, each node's in one pipeline."""
        by_node: dict[NodeId, list[Action]] = {}
        for action in batch:
            by_node.setdefault(place_of(action), []).append(action)
        groups = [(self._nodes[node_id], group) for node_id, group in by_node.items()]
        works = [self._in_time(node, self._on_node(node, group)) for node, group in groups]
        for result in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _fail_over_in_turn(self, batch: Sequence[Action]) -> list[Action]:
        """Carry out failovers one after the other, also after one that has failed; return them.

        Each primary has one vote for an epoch. Of elections at the same time some are lost (Redis
        8.6: one of three, in four rounds of fourteen), and such a shard takes no writes for a
        while.
        """
        done: list[Action] = []
        failures: list[BootstrapError] = []
        for action in batch:
            if self._stop.is_set() and not self._despite_stop:
                break
            try:
                await self._apply_batch([action])
                done.append(action)
            except BootstrapError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return done

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
        first, client = actions[0], self._pool.client(node.name)
        asked = [differs for action in actions if (differs := preconditions.of_action(action))]
        with reading(node.name, type(first).__name__):
            if asked:
                await preconditions.check((client, node, differs) for differs in asked)
            if isinstance(first, CopyFunctions):
                await self._copy_functions(first)
            elif isinstance(first, Failover):
                await self._fail_over(node, first)
            elif isinstance(first, Reset):
                await reset(client, node)
            else:
                await self._send(node, actions)

    async def _send(self, node: NodeView, actions: Sequence[Action]) -> None:
        pairs = [(a, command) for a in actions for command in commands_of(a, self._nodes)]
        client = self._pool.client(node.name)
        commands = [command for _, command in pairs]
        replies = await client.pipeline(commands, writes=True, timeout_s=60.0)
        for (action, _), reply in zip(pairs, replies, strict=True):
            if isinstance(reply, ReplyError) and not is_done_already(action, reply):
                if reply.code == "ERR":
                    what = f"answered {reply.command} with: {reply.message}"
                    raise stale_view(node.name, what, command=reply.command)
                client.require(reply)

    async def _identify(self, actions: Sequence[Action]) -> None:
        """Make sure that each node to which others are sent is the one that was observed."""
        targets = {node_id for action in actions for node_id in reached_by_others(action)}
        nodes = [self._nodes[target] for target in targets]
        checks = [(node, announced.check(node, self._pool, self._nodes)) for node in nodes]
        await asyncio.gather(*(self._in_time(node, check) for node, check in checks))

    async def _copy_functions(self, action: CopyFunctions) -> None:
        source, target = self._nodes[action.source], self._nodes[action.target]
        dump = await self._pool.client(source.name).call("FUNCTION", "DUMP", limit=LIBRARIES_LIMIT)
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
        client, command = self._pool.client(node.name), "CLUSTER FAILOVER"
        option = () if action.mode is FailoverMode.COORDINATED else (action.mode.upper(),)
        try:
            await client.write("CLUSTER", "FAILOVER", *option)
        except ReplyError as error:
            what = f"answered {command} with: {error.message}"
            raise stale_view(node.name, what, command=command) from error

        async def check() -> None:
            role = await client.call("ROLE")
            if not isinstance(role, list) or role[0] != b"master":
                raise stale_view(
                    node.name, f"did not become primary after {command}", command=command
                )

        await retry(check, for_s=FAILOVER_TIMEOUT_S)

    async def _migrate(self, batch: Sequence[Action]) -> None:
        nodes = self._nodes
        session = MigrationSession(
            pool=self._pool,
            primaries={i: node for i, node in nodes.items() if node.role is Role.PRIMARY},
            stop=self._stop,
            history=self._history,
            on_progress=self._on_progress,
        )
        names = ", ".join(sorted({nodes[place_of(action)].name for action in batch}))
        try:
            # Replies are read by node in `migration`; this names the sources for what is left.
            with reading(names, "the commands that move slots"):
                await migrator.move(session, [a for a in batch if isinstance(a, MoveSlots)])
                await migrator.gather(session, [a for a in batch if isinstance(a, GatherKeys)])
        finally:
            self.totals.slots_moved += session.progress.slots_moved
            self.totals.keys_moved += session.progress.keys_moved
