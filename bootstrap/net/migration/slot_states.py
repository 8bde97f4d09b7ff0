"""The states of open slots at both ends of a move: CLUSTER SETSLOT, in the order that is safe.

Order within a slot: IMPORTING at the target before MIGRATING at the source, otherwise an ASK names
a node that answers MOVED; NODE at the target before the source, otherwise no node owns the slot
when the run dies in between (redis/redis#7116); then the other primaries. Every step can be
repeated, and a slot that an earlier run left in any of these states continues from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tenacity import stop_after_attempt

from ...core import wire
from ...core.slots import SlotSet
from ...core.topology import NodeId
from ...errors import BootstrapError, NodeUnreachableError
from .. import databases
from ..connection import Command, RedisNode, ReplyError, text
from ..polling import AT_ONCE, poll
from .link import MigrationLink
from .reply_errors import call, most_severe, rejection, require, stale_view
from .session import MigrationSession, OpenedSlot, PrimaryNode

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

    def __init__(self, session: MigrationSession, link: MigrationLink, slots: list[int]) -> None:
        self._session = session
        self._link = link
        self._pair = link.pair
        self._slots = slots
        self.served_by_target: set[int] = set()
        self.not_at_source: set[int] = set()
        self.errors: list[BootstrapError] = []

    async def open(self) -> None:
        """Open the slots at both ends.

        Raises:
            StaleViewError: A third node owns one.
        """
        await self._open_target()
        await self._open_source()
        await self._check_owner(self.not_at_source | self.served_by_target)

    async def _open_target(self) -> None:
        """Open the slots at the target; take note of those that it owns already."""
        target, client = self._pair.target, self._link.target
        commands: list[Command] = []
        for slot in self._slots:
            commands.append(("CLUSTER", "COUNTKEYSINSLOT", slot))
            commands.append(_command(slot, "IMPORTING", self._pair.source.node_id))
        replies = await client.pipeline(commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S)
        # The source sends no client to the target before it migrates, so this is early enough.
        others = [number for number in await databases.occupied(client, target.view) if number]
        in_others = await databases.count_keys(client, self._slots, others)
        errors = []
        for slot, count, reply in zip(self._slots, replies[::2], replies[1::2], strict=True):
            if isinstance(reply, ReplyError) and "owner of hash slot" in reply.message:
                self.served_by_target.add(slot)
            elif isinstance(reply, ReplyError):
                errors.append(rejection(target.name, "CLUSTER SETSLOT", reply))
            elif count == 0 and not in_others[slot]:
                self._session.history.opened[self._key(slot)] = self._pair.source.view.run_id
        raise_any(errors)

    async def _open_source(self) -> None:
        """Open the slots at the source; take note of those that it does not own any more."""
        commands = [_command(s, "MIGRATING", self._pair.target.node_id) for s in self._slots]
        replies = await self._link.source.pipeline(
            commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S
        )
        errors = []
        for slot, reply in zip(self._slots, replies, strict=True):
            if isinstance(reply, ReplyError) and "owner of hash slot" in reply.message:
                self.not_at_source.add(slot)
            elif isinstance(reply, ReplyError):
                errors.append(rejection(self._pair.source.name, "CLUSTER SETSLOT", reply))
        raise_any(errors)

    async def _check_owner(self, slots: set[int]) -> None:
        """Make sure that slots which one end says are not where the plan saw them are at the other.

        Raises:
            StaleViewError: A third node owns one in the eyes of the source.
        """
        if not slots:
            return
        reply = wire.parse_nodes(text(await call(self._link.source, "CLUSTER", "NODES")))
        ends = {self._pair.source.node_id, self._pair.target.node_id}
        owned = SlotSet()
        for node_id in ends & reply.known.keys():
            owned |= reply.known[node_id].slots
        if SlotSet.of(slots) - owned:
            raise stale_view(self._pair.source.name, "does not own the slots any more")

    async def open_source_only(self) -> None:
        """Let the source import slots that the target owns, so that its stray keys can be sent.

        The owner is closed first: one that migrates answers ASK to a key that it lacks. The source
        must be importing, or it answers MOVED to MIGRATE.
        """
        source, target = self._pair.source, self._pair.target
        await self._setslot(target, self._link.target, self._slots, "STABLE")
        unheard = self._unknown_to_source()
        await self._setslot(source, self._link.source, unheard, "NODE", target.node_id)
        await self._setslot(source, self._link.source, self._slots, "IMPORTING", target.node_id)
        raise_any(self.errors)

    async def close_source(self, slots: list[int]) -> None:
        """Close slots at the source."""
        await self._setslot(self._pair.source, self._link.source, slots, "STABLE")

    def _unknown_to_source(self) -> list[int]:
        """Return the slots of which the source does not know that the target is their owner.

        A node takes no news of a slot that it imports (clusterUpdateSlotsConfigWith). Where the
        owner that it knows is gone it says CLUSTERDOWN, to MIGRATE too.
        """
        source, owner = self._pair.source.view, self._pair.target.node_id
        known = source.known[owner].slots if owner in source.known else SlotSet.all()
        return list(SlotSet.of(self._slots) - known - source.slots)

    def _key(self, slot: int) -> OpenedSlot:
        return slot, self._pair.source.node_id, self._pair.target.node_id

    def is_untouched(self, slot: int) -> bool:
        """Return whether the target was empty since this process of the source has the slot."""
        run_id = self._pair.source.view.run_id
        return self._session.history.opened.get(self._key(slot)) == run_id

    async def still_migrating(self, slots: list[int]) -> list[int]:
        """Return the slots that are as they were opened, or that the source had given away.

        Another run, or a person, may have closed one meanwhile: then the source takes writes for
        it again, and would delete them as soon as it heard of the target's claim.
        """
        source, client = self._pair.source, self._link.source
        commands: list[Command] = [("CLUSTER", "NODES")]
        commands += [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
        nodes, *counts = await client.pipeline(commands)
        migrating = wire.parse_nodes(text(require(source.name, commands[0], nodes))).migrating
        others = [number for number in await databases.occupied(client, source.view) if number]
        in_others = await databases.count_keys(client, slots, others)
        target = self._pair.target.node_id
        return [
            slot
            for slot, count in zip(slots, counts, strict=True)
            if slot in self.not_at_source
            or (migrating.get(slot) == target and count == 0 and not in_others[slot])
        ]

    async def give_to_target(self, slots: list[int]) -> None:
        """Make the target the owner of emptied slots, at every primary."""
        target = self._pair.target
        given = await self._setslot(target, self._link.target, slots, "NODE", target.node_id)
        # The source learns it from gossip too, and one that lost its last slot may have become a
        # replica by then (redis/redis#9223); so no answer of it can undo the move.
        await self._set_owner_at_source(given)
        await asyncio.gather(*(self._set_owner_at(p, given) for p in self._others()))
        self._session.count(slots=len(given))
        raise_any(self.errors)

    async def _set_owner_at_source(self, slots: list[int]) -> None:
        commands = [_command(slot, "NODE", self._pair.target.node_id) for slot in slots]
        replies = await self._link.source.pipeline(
            commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S
        )
        for reply in replies:
            if isinstance(reply, ReplyError) and not _is_learned_by_gossip(reply):
                self.errors.append(rejection(self._pair.source.name, "CLUSTER SETSLOT", reply))

    def _others(self) -> list[PrimaryNode]:
        skipped = {self._pair.source.node_id, self._pair.target.node_id} | self._session.silent
        return [p for node_id, p in self._session.primaries.items() if node_id not in skipped]

    async def _set_owner_at(self, primary: PrimaryNode, slots: list[int]) -> None:
        """Spare a primary the wait for gossip; where that fails, it learns the owner by gossip."""
        commands = [_command(slot, "NODE", self._pair.target.node_id) for slot in slots]
        try:
            await primary.client.pipeline(commands, writes=True, timeout_s=_OTHERS_TIMEOUT_S)
        except NodeUnreachableError:
            self._session.silent.add(primary.node_id)

    async def revert(self, emptied: Sequence[int]) -> None:
        """Close slots of which the target holds no key, except those that the source gave away.

        The source first: it never sends clients to a target that sends them back. What a client
        that was on its way wrote there meanwhile is in reach again as soon as it is seen.
        """
        source, target = self._pair.source, self._pair.target
        given = self.served_by_target | self.not_at_source | set(emptied)
        slots = await self._empty_at_target([slot for slot in self._slots if slot not in given])
        closed = await self._setslot(source, self._link.source, slots, "STABLE")
        still = await self._empty_at_target(closed)
        late = [slot for slot in closed if slot not in still]
        await self._setslot(source, self._link.source, late, "MIGRATING", target.node_id)
        await self._setslot(target, self._link.target, still, "STABLE")

    async def _empty_at_target(self, slots: Sequence[int]) -> list[int]:
        """Return the slots of which the target holds no key in any database."""
        client = self._link.target
        occupied = await databases.occupied(client, self._pair.target.view)
        counts = await databases.count_keys(client, slots, occupied)
        return [slot for slot in slots if not counts[slot]]

    async def _setslot(
        self,
        primary: PrimaryNode,
        client: RedisNode,
        slots: Sequence[int],
        state: str,
        node: NodeId | None = None,
    ) -> list[int]:
        """Set slots at one node; return those done, the others' errors are kept.

        Valkey asks its replicas first and answers NOREPLICAS when one is late; a second attempt
        follows at once.
        """
        done: list[int] = []
        failed: list[tuple[int, ReplyError]] = []
        left = list(slots)

        async def are_set() -> bool | None:
            commands = [_command(slot, state, node) for slot in left]
            replies = await client.pipeline(commands, writes=True, timeout_s=_SETSLOT_TIMEOUT_S)
            pairs = list(zip(left, replies, strict=True))
            done.extend(slot for slot, reply in pairs if not isinstance(reply, ReplyError))
            failed[:] = [(slot, reply) for slot, reply in pairs if isinstance(reply, ReplyError)]
            left[:] = [slot for slot, _ in failed]
            return None if any(reply.code == "NOREPLICAS" for _, reply in failed) else True

        await poll(are_set, pause=AT_ONCE, stop=stop_after_attempt(_ATTEMPTS))
        self.errors += [rejection(primary.name, "CLUSTER SETSLOT", reply) for _, reply in failed]
        return done


def raise_any(errors: Sequence[BootstrapError]) -> None:
    """Raise the most severe of these errors, if there is any."""
    if errors:
        raise most_severe(errors)


def _command(slot: int, state: str, node: NodeId | None = None) -> Command:
    return ("CLUSTER", "SETSLOT", slot, state, *((node,) if node else ()))


def _is_learned_by_gossip(reply: ReplyError) -> bool:
    return reply.code in {"NOREPLICAS", "UNBLOCKED"} or "only with masters" in reply.message
