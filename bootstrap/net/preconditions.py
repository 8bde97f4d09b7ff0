"""Asks nodes whether what a plan saw is still true, right before what cannot be taken back.

A program that was halted (SIGSTOP, a paused machine) continues with the plan that it had, although
another run may have taken the lock, changed owners, and clients have written since. A new claim of
a former owner would win then, and the owner would delete its keys. So the node that a command goes
to is asked for its CLUSTER NODES first, and an answer that was not sent on within a second does not
count: the program may have been halted since. What differs is planned again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from operator import attrgetter
from typing import TypeAlias

from ..core.actions import Action, ClaimSlots, CloseSlots, Failover, FailoverMode
from ..core.facts import is_linked
from ..core.parsing import NodesReply, parse_nodes
from ..core.slots import SlotSet
from ..core.topology import NodeView
from .connection import RedisNode
from .replies import reading, stale_view, text

Difference: TypeAlias = Callable[[NodeView, NodesReply], str]

MOST_AGE_S = 1.0
_ATTEMPTS = 3
_identity = attrgetter("node_id", "role", "primary_id")


async def recently(
    name: str, ask: Callable[[], Awaitable[object]], clock: Callable[[], float] = time.monotonic
) -> None:
    """Ask until there is an answer that is at most a second old.

    Raises:
        StaleViewError: Every answer took longer.
    """
    for _ in range(_ATTEMPTS):
        asked = clock()
        await ask()
        if clock() - asked < MOST_AGE_S:
            return
    raise stale_view(name, "answers too slowly to rely on what it says")


async def check(ends: Iterable[tuple[RedisNode, NodeView, Difference]]) -> None:
    """Make sure that nodes say what the plan saw, as far as it matters.

    Raises:
        StaleViewError: A node says something else.
    """

    async def ask(client: RedisNode, seen: NodeView, differs: Difference) -> None:
        with reading(client.name, "CLUSTER NODES"):
            now = parse_nodes(text(await client.call("CLUSTER", "NODES")))
        is_same = _identity(now.known[now.node_id]) == _identity(seen.myself)
        what = differs(seen, now) if is_same else "is another node now, or has another role"
        if what:
            raise stale_view(client.name, what)

    asked = list(ends)
    await recently(asked[0][0].name, lambda: asyncio.gather(*(ask(*each) for each in asked)))


def of_action(action: Action) -> Difference | None:
    """Return what must still be true at the node of an action; None where nothing must."""
    match action:
        case ClaimSlots(slots=slots):
            return partial(new_owners, slots)
        case CloseSlots(slots=slots):
            return lambda seen, now: moved(slots, seen, now) or new_owners(slots, seen, now)
        case Failover(mode=FailoverMode.FORCE | FailoverMode.TAKEOVER):
            return primary_replaced
    return None


def new_owners(slots: SlotSet, seen: NodeView, now: NodesReply) -> str:
    """Return which slots another node that lives owns, where the plan did not know of that.

    A plan may claim slots of an owner that the claimant only believes to be one. The owner's epoch
    shows whether it is one since.
    """
    for node_id, line in now.known.items():
        before = seen.known.get(node_id)
        was_so = before and is_linked(before) and before.config_epoch == line.config_epoch
        taken = line.slots & slots - (before.slots if before and was_so else SlotSet())
        if node_id != now.node_id and taken and is_linked(line):
            return f"knows a new owner of slots {taken}"
    return ""


def primary_replaced(seen: NodeView, now: NodesReply) -> str:
    """Return whether the primary of a replica lives again, or another node has its slots."""
    before, line = seen.known.get(seen.shard_primary), now.known.get(seen.shard_primary)
    if before and line and is_linked(line) and not is_linked(before):
        return "has a primary again"
    return new_owners(before.slots, seen, now) if before else ""


def newly_opened(slots: SlotSet, seen: NodeView, now: NodesReply) -> str:
    """Return which slots are open at a node in another way than the plan saw."""
    opened = set(now.migrating.items()) - set(seen.migrating.items())
    opened |= set(now.importing.items()) - set(seen.importing.items())
    found = slots & SlotSet.of(slot for slot, _ in opened)
    return f"has slots {found} open in another way" if found else ""


def moved(slots: SlotSet, seen: NodeView, now: NodesReply) -> str:
    """Return whether a node with open slots, or an end of a move, opened, gained or lost some."""
    if now.known[now.node_id].slots & slots != seen.slots & slots:
        return f"does not own the same part of slots {slots} any more"
    return newly_opened(slots, seen, now)


def lost(slots: SlotSet, seen: NodeView, now: NodesReply) -> str:
    """Return whether the node to which keys are brought neither owns nor imports slots.

    A claim may have come first, which closes them, so it may only have less of them open than the
    plan saw.
    """
    missing = slots - now.known[now.node_id].slots - SlotSet.of(now.importing)
    return f"has slots {missing} no more" if missing else newly_opened(slots, seen, now)
