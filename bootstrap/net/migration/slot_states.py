"""The states of open slots at both ends of a move: CLUSTER SETSLOT, in the order that is safe.

Order within a slot: IMPORTING at the target before MIGRATING at the source, otherwise an ASK names
a node that answers MOVED; NODE at the target before the source, otherwise no node owns the slot
when the run dies in between (redis/redis#7116); then the other primaries. Every step can be
repeated, and a slot that an earlier run left in any of these states continues from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ...core import parsing
from ...core.parsing import Reply
from ...core.slots import SlotSet
from ...core.topology import NodeId, NodeView
from ...errors import BootstrapError, TransientError
from .. import databases
from ..connection import RedisNode
from ..replies import Command, ReplyError, text
from .link import MigrationLink
from .reply_errors import call, most_severe, rejection, require, stale_view
from .session import OpenedSlot

_SETSLOT_TIMEOUT_S = 30.0
_OTHERS_TIMEOUT_S = 2.0
_ATTEMPTS = 3


class SlotStates:
    """The slots of one window.

    Attributes:
        served_by_target: Slots that the target owned already when they were opened.
        not_at_source: Slots that the source did not own any more.
        errors: Refusals of single slots; the other slots were moved.
    """

    def __init__(self, link: MigrationLink, slots: list[int]) -> None:
        self._session = link.session
        self._link = link
        self._pair = link.pair
        self._slots = slots
        self.served_by_target: set[int] = set()
        self.not_at_source: set[int] = set()
        self.errors: list[BootstrapError] = []

    async def open(self) -> None:
        """Open the slots at both ends; a `StaleViewError` where a third node owns one."""
        await self._open_target()
        commands = _setslots(self._slots, "MIGRATING", self._pair.target.node_id)
        replies = await _write(self._link.source, commands)
        self._note_owners(replies, self.not_at_source)
        misplaced = self.not_at_source | self.served_by_target
        if misplaced:
            # What one end says is not where the plan saw it must be at the other, not at a third.
            nodes = parsing.parse_nodes(
                text(await call(self._link.source, "CLUSTER", "NODES"))
            ).known
            ends = {self._pair.source.node_id, self._pair.target.node_id} & nodes.keys()
            if not all(any(slot in nodes[end].slots for end in ends) for slot in misplaced):
                raise stale_view(self._pair.source.name, "does not own the slots any more")

    async def _open_target(self) -> None:
        """Open the slots at the target; take note of those that it owns already.

        Keys are counted after that: Redis from 8.4 on counts none of a slot that is not the node's
        own and not open there.
        """
        client = self._link.target
        setslots = _setslots(self._slots, "IMPORTING", self._pair.source.node_id)
        counts = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in self._slots]
        both = [command for each in zip(setslots, counts, strict=True) for command in each]
        replies = await _write(client, both)
        # The source sends no client to the target before it migrates, so this is early enough.
        in_others = await _count_in_others(client, self._pair.target, self._slots)
        opened, run_id = self._session.history.opened, self._pair.source.run_id
        for slot, reply, count in zip(self._slots, replies[::2], replies[1::2], strict=True):
            if not isinstance(reply, ReplyError) and count == 0 and not in_others[slot]:
                opened[self._key(slot)] = run_id
        self._note_owners(replies[::2], self.served_by_target)

    def _note_owners(self, replies: Sequence[Reply | ReplyError], noted: set[int]) -> None:
        """Note the slots whose owner is not who the plan saw; raise any other refusal."""
        errors = []
        for slot, reply in zip(self._slots, replies, strict=True):
            if isinstance(reply, ReplyError) and "owner of hash slot" in reply.message:
                noted.add(slot)
            elif isinstance(reply, ReplyError):
                errors.append(rejection(reply))
        raise_any(errors)

    async def open_source_only(self) -> None:
        """Let the source import slots that the target has, so that its stray keys can be sent.

        An owner is closed first: one that migrates answers ASK to a key that it lacks. A target
        that imports the slots takes keys as it is. The source must be importing, or it answers
        MOVED to MIGRATE. A node takes no news of a slot that it imports
        (clusterUpdateSlotsConfigWith), and where the owner that it knows is gone it says
        CLUSTERDOWN, to MIGRATE too: so NODE comes before IMPORTING.
        """
        source, target = self._pair.source, self._pair.target
        slots = SlotSet.of(self._slots)
        owned = slots - (SlotSet.of(target.importing) - target.slots)
        await self._set(self._link.target, owned, "STABLE")
        line = source.known.get(target.node_id)
        unheard = owned - line.slots - source.slots if line else SlotSet()
        await self._set(self._link.source, unheard, "NODE", target.node_id)
        await self._set(self._link.source, slots, "IMPORTING", target.node_id)
        raise_any(self.errors)

    async def close_source(self, slots: list[int]) -> None:
        """Close slots at the source."""
        await self._set(self._link.source, slots, "STABLE")

    def untouched(self) -> set[int]:
        """Return the slots that were empty at the target since this source process has them."""
        opened, run_id = self._session.history.opened, self._pair.source.run_id
        return {slot for slot in self._slots if opened.get(self._key(slot)) == run_id}

    def _key(self, slot: int) -> OpenedSlot:
        return slot, self._pair.source.node_id, self._pair.target.node_id

    async def still_migrating(self, slots: list[int]) -> list[int]:
        """Return the slots that are as they were opened, or that the source had given away.

        Another run, or a person, may have closed one meanwhile: then the source takes writes for
        it again, and would delete them as soon as it heard of the target's claim.
        """
        client = self._link.source
        commands: list[Command] = [("CLUSTER", "NODES")]
        commands += [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
        nodes, *counts = await client.pipeline(commands)
        migrating = parsing.parse_nodes(text(require(nodes))).migrating
        in_others = await _count_in_others(client, self._pair.source, slots)
        target = self._pair.target.node_id
        return [
            slot
            for slot, count in zip(slots, counts, strict=True)
            if slot in self.not_at_source
            or (migrating.get(slot) == target and count == 0 and not in_others[slot])
        ]

    async def give_to_target(self, slots: list[int]) -> None:
        """Make the target the owner of emptied slots, at every primary."""
        target = self._pair.target.node_id
        given = await self._set(self._link.target, slots, "NODE", target)
        commands = _setslots(given, "NODE", target)
        # The source learns it from gossip too, and one that lost its last slot may have become a
        # replica by then (redis/redis#9223); so no answer of it can undo the move.
        for reply in await _write(self._link.source, commands):
            if isinstance(reply, ReplyError) and not _is_learned_by_gossip(reply):
                self.errors.append(rejection(reply))
        done = {self._pair.source.node_id, target} | self._session.silent
        others = [node_id for node_id in self._session.primaries if node_id not in done]
        await asyncio.gather(*(self._tell(node_id, commands) for node_id in others))
        self._session.count(slots=len(given))
        raise_any(self.errors)

    async def _tell(self, node_id: NodeId, commands: Sequence[Command]) -> None:
        """Spare a primary the wait for gossip; where that fails, it learns the owner by gossip."""
        client = self._session.client(self._session.primaries[node_id])
        try:
            await _write(client, commands, timeout_s=_OTHERS_TIMEOUT_S)
        except TransientError:
            self._session.silent.add(node_id)

    async def revert(self, emptied: Sequence[int]) -> None:
        """Close slots of which the target holds no key, except those that the source gave away.

        The source first: it never sends clients to a target that sends them back. What a client
        that was on its way wrote there meanwhile is in reach again as soon as it is seen.
        """
        source, target = self._link.source, self._link.target
        given = self.served_by_target | self.not_at_source | set(emptied)
        slots = await self._empty_at_target([slot for slot in self._slots if slot not in given])
        closed = await self._set(source, slots, "STABLE")
        still = await self._empty_at_target(closed)
        late = [slot for slot in closed if slot not in still]
        await self._set(source, late, "MIGRATING", self._pair.target.node_id)
        await self._set(target, still, "STABLE")

    async def _empty_at_target(self, slots: Sequence[int]) -> list[int]:
        """Return the slots of which the target holds no key in any database."""
        client = self._link.target
        occupied = await databases.occupied(client, self._pair.target)
        counts = await databases.count_keys(client, slots, occupied)
        return [slot for slot in slots if not counts[slot]]

    async def _set(
        self, client: RedisNode, slots: Iterable[int], state: str, node: NodeId | None = None
    ) -> list[int]:
        """Set slots at one node; return those done, the others' errors are kept.

        Valkey asks its replicas first and answers NOREPLICAS when one is late; a second attempt
        follows at once.
        """
        done: list[int] = []
        left = list(slots)
        failed: dict[int, ReplyError] = {}
        for _ in range(_ATTEMPTS):
            replies = zip(left, await _write(client, _setslots(left, state, node)), strict=True)
            failed = {slot: reply for slot, reply in replies if isinstance(reply, ReplyError)}
            done += [slot for slot in left if slot not in failed]
            left = list(failed)
            if not any(reply.code == "NOREPLICAS" for reply in failed.values()):
                break
        self.errors += map(rejection, failed.values())
        return done


def raise_any(errors: Sequence[BootstrapError]) -> None:
    """Raise the most severe of these errors, if there is any."""
    if errors:
        raise most_severe(errors)


def _setslots(slots: Iterable[int], state: str, node: NodeId | None = None) -> list[Command]:
    more = (node,) if node else ()
    return [("CLUSTER", "SETSLOT", slot, state, *more) for slot in slots]


async def _write(
    client: RedisNode, commands: Sequence[Command], *, timeout_s: float = _SETSLOT_TIMEOUT_S
) -> list[Reply | ReplyError]:
    return await client.pipeline(commands, writes=True, timeout_s=timeout_s)


async def _count_in_others(
    client: RedisNode, node: NodeView, slots: Sequence[int]
) -> dict[int, int]:
    """Return how many keys a node has in each slot, in all databases but 0."""
    others = [number for number in await databases.occupied(client, node) if number]
    return await databases.count_keys(client, slots, others)


def _is_learned_by_gossip(reply: ReplyError) -> bool:
    return reply.code in {"NOREPLICAS", "UNBLOCKED"} or "only with masters" in reply.message
