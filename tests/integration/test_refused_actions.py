"""A server that refuses a command ends the run soon, whatever the action is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import get_args

import pytest

from bootstrap.core.actions import (
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
    Plan,
    Replicate,
    Reset,
    SetConfigEpoch,
    SetNoFailover,
    Stage,
)
from bootstrap.core.findings import Finding, FindingCode
from bootstrap.core.planner import Policy
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Address, ClusterView, NodeView
from bootstrap.errors import BootstrapError, CredentialsError, RefusedError
from bootstrap.loop.converge import Converger
from bootstrap.loop.observation import Assessor, Observation
from bootstrap.loop.progress import ProgressLog
from bootstrap.loop.run_lock import RunLock
from bootstrap.loop.stopping import Deadline
from bootstrap.net.connection import Access
from bootstrap.net.executor import Executor
from bootstrap.net.pool import ConnectionPool
from tests.support import builders
from tests.support.builders import node_id
from tests.support.naming import Names
from tests.support.refusing import RefusingServer, run_fast
from tests.unit.test_converge import FakeLock, Script

TIMEOUT_S = 600.0
MOST_SENT = 40
WHY = FindingCode.SLOTS_UNEVEN
SLOTS = SlotSet.of([3])
FIRST, SECOND = node_id(0), node_id(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An action, and the command that is refused.

    Attributes:
        pod: Who refuses.
        commands: CLUSTER subcommands that every server lists.
        accepted: Changing commands that are not refused.
    """

    action: Action
    command: str
    pod: str = "redis-app-0"
    commands: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Return a name for the test."""
        mode = f"-{self.action.mode}" if isinstance(self.action, Failover) else ""
        return f"{type(self.action).__name__}{mode}-{self.command}".replace(" ", "_")


MOVE = MoveSlots(source=FIRST, target=SECOND, slots=SLOTS, reason=WHY)
# Keys go to the owner of their slot.
GATHER = GatherKeys(source=SECOND, target=FIRST, slots=SLOTS, reason=WHY)
CASES = (
    Case(
        action=SetConfigEpoch(node=FIRST, epoch=9, reason=WHY), command="CLUSTER SET-CONFIG-EPOCH"
    ),
    Case(action=AssignSlots(node=FIRST, slots=SLOTS, reason=WHY), command="CLUSTER ADDSLOTS"),
    Case(
        action=AssignSlots(node=FIRST, slots=SLOTS, reason=WHY),
        command="CLUSTER ADDSLOTSRANGE",
        commands=frozenset({"ADDSLOTSRANGE"}),
    ),
    Case(action=Meet(node=FIRST, target=SECOND, reason=WHY), command="CLUSTER MEET"),
    Case(action=BumpEpoch(node=FIRST, reason=WHY), command="CLUSTER BUMPEPOCH"),
    Case(action=CopyFunctions(source=SECOND, target=FIRST, reason=WHY), command="FUNCTION RESTORE"),
    Case(action=Replicate(node=FIRST, primary=SECOND, reason=WHY), command="CLUSTER REPLICATE"),
    Case(action=SetNoFailover(node=FIRST, no_failover=True, reason=WHY), command="CONFIG SET"),
    Case(action=CloseSlots(node=FIRST, slots=SLOTS, reason=WHY), command="CLUSTER SETSLOT"),
    Case(action=ClaimSlots(node=FIRST, slots=SLOTS, reason=WHY), command="CLUSTER SETSLOT"),
    Case(action=MOVE, command="CLUSTER SETSLOT", pod="redis-app-1"),
    Case(
        action=MOVE,
        command="CLUSTER SETSLOT",
        pod="redis-app-1",
        commands=frozenset({"MIGRATION"}),
    ),
    Case(
        action=MOVE,
        command="CLUSTER SETSLOT",
        pod="redis-app-1",
        commands=frozenset({"MIGRATESLOTS"}),
    ),
    Case(action=MOVE, command="MIGRATE", accepted=frozenset({"CLUSTER SETSLOT"})),
    Case(action=GATHER, command="CLUSTER SETSLOT"),
    Case(
        action=GATHER,
        command="MIGRATE",
        pod="redis-app-1",
        accepted=frozenset({"CLUSTER SETSLOT"}),
    ),
    *(
        Case(action=Failover(node=FIRST, mode=mode, reason=WHY), command="CLUSTER FAILOVER")
        for mode in FailoverMode
    ),
    Case(action=Reset(node=FIRST, reason=WHY), command="CLUSTER RESET"),
    Case(action=Forget(node=FIRST, gone=SECOND, reason=WHY), command="CLUSTER FORGET"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanging(Assessor):
    """Always returns the same view and the same plan."""

    seen: Observation

    async def observe(self, *, shards: bool) -> Observation:
        """Return it."""
        del shards
        return self.seen


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    error: BootstrapError
    seconds: float
    refused: dict[str, int]


def outcome_of(case: Case) -> Outcome:
    return run_fast(_run(case))


async def _run(case: Case) -> Outcome:
    async with AsyncExitStack() as stack:
        servers = [RefusingServer(node, case.accepted) for node in _nodes(case)]
        for server in servers:
            listener = await asyncio.start_server(server.talk, "127.0.0.1", 0)
            stack.push_async_callback(_close, listener)
            port = listener.sockets[0].getsockname()[1]
            server.view = _at(server.view, port)
        view = ClusterView(nodes=tuple(server.view for server in servers))
        endpoints = [node.endpoint for node in view.nodes]
        pool = ConnectionPool(Access(), Names(endpoints))
        stack.push_async_callback(pool.close)
        await pool.update(endpoints)
        return await _converge(case, view, pool, servers)


async def _converge(
    case: Case, view: ClusterView, pool: ConnectionPool, servers: Iterable[RefusingServer]
) -> Outcome:
    finding = Finding(code=WHY, detail="made up")
    plan = Plan(stage=Stage.REBALANCE, actions=(case.action,), findings=(finding,))
    desired = builders.wanted("3x0")
    deadline = Deadline(asyncio.Event(), TIMEOUT_S)
    converger = Converger(
        assessor=Unchanging(
            source=Script([view]),
            desired=desired,
            policy=Policy(),
            seen=Observation(view=view, plan=plan),
        ),
        executor=Executor(pool=pool, stop=deadline.stop, on_progress=lambda _: None),
        lock=RunLock(lambda _: FakeLock(address="127.0.0.1")),
        progress=ProgressLog(desired=desired),
        deadline=deadline,
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(BootstrapError) as caught:
        await converger.run()
    refused: dict[str, int] = {}
    for server in servers:
        for command, count in server.refused.items():
            refused[command] = refused.get(command, 0) + count
    return Outcome(error=caught.value, seconds=loop.time() - began, refused=refused)


async def _close(listener: asyncio.Server) -> None:
    listener.close()


def _nodes(case: Case) -> Iterable[NodeView]:
    shape = builders.view("3x0", commands=case.commands)
    for node in shape.nodes:
        owns_nothing = isinstance(case.action, Reset)
        own = replace(node.myself, slots=SlotSet()) if owns_nothing else node.myself
        yield replace(node, known={**node.known, node.node_id: own})


def _at(node: NodeView, port: int) -> NodeView:
    endpoint = replace(node.endpoint, addresses=("127.0.0.1",), port=port)
    return replace(node, endpoint=endpoint, address=Address("127.0.0.1", port, port + 10_000))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused_action_ends_the_run_soon(case: Case) -> None:
    """The error names command and pod, long before the deadline, after a few attempts."""
    outcome = outcome_of(case)
    assert isinstance(outcome.error, RefusedError | CredentialsError), outcome.error
    assert outcome.error.node == case.pod
    assert case.pod in outcome.error.cause
    assert case.command in outcome.error.cause
    assert outcome.seconds < TIMEOUT_S / 4
    assert 1 <= outcome.refused[case.command] <= MOST_SENT, outcome.refused
    assert max(outcome.refused.values()) <= MOST_SENT, outcome.refused


def test_every_kind_of_action_is_walked() -> None:
    """A new kind of action needs a line in the table."""
    assert {type(case.action) for case in CASES} == set(get_args(Action))
