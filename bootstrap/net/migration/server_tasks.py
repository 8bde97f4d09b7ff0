"""Migrations that servers run by themselves in the background, all keys of a range or none.

A run that ends early leaves its task behind, so what already runs is waited for first: a second
task over the same slots is refused. The servers log in to each other, Valkey with its primaryauth,
Redis with a secret that travels by gossip and comes late to a new member. Where that does not work,
or where the command fails again and again, slots go key by key: MIGRATE logs in with our password.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ...core.parsing import ParseError, Reply
from ...core.slots import SlotSet
from ...core.topology import NodeView
from ...errors import BootstrapError
from ..polling import BACKGROUND, in_proportion, wait_for
from ..replies import ReplyError, reading, text, without_echo
from ..transport import TASKS_LIMIT
from .reply_errors import out_of_memory, rejection, require, stale_view
from .session import MigrationSession, Pair

_MOST_RETRIES = 10
_MOST_FAILURES = 3
_NO_LOGIN = ("NOAUTH", "WRONGPASS", "NOPERM", "AUTH to target")
_SECRET_IS_LATE = "invalid internal password"  # noqa: S105 - what Redis says, no password
_DONE = frozenset({"completed", "success"})
_ENDED = _DONE | {"failed", "canceled", "cancelled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One migration as a server reports it; its last error, and how often it began again."""

    task_id: str
    slots: SlotSet
    state: str
    message: str
    retries: int

    @property
    def has_ended(self) -> bool:
        """Return whether it will not continue; Redis retries while a new secret is late."""
        is_waiting = self.state == "failed" and _SECRET_IS_LATE in self.message
        return self.state in _ENDED and not is_waiting

    @property
    def has_succeeded(self) -> bool:
        """Return whether the slots have a new owner."""
        return self.state in _DONE


def parse_tasks(reply: Reply) -> list[Task]:
    """Read CLUSTER MIGRATION STATUS (Redis) or CLUSTER GETSLOTMIGRATIONS (Valkey) in RESP2.

    Raises:
        ParseError: The reply is not of the documented form.
    """
    return [_parse_task(row) for row in _items(reply)]


def _parse_task(row: Reply) -> Task:
    words = ["" if word is None else text(word) for word in _items(row)]
    fields = dict(zip(words[::2], words[1::2], strict=False))
    try:
        return Task(
            task_id=fields.get("id") or fields.get("name", ""),
            slots=SlotSet.parse(fields.get("slots") or fields.get("slot_ranges", "")),
            state=fields.get("state", ""),
            message=without_echo(fields.get("last_error") or fields.get("message", "")),
            retries=int(fields.get("retries", "0")),
        )
    except ValueError as error:
        raise ParseError(f"not a slot migration: {str(words)[:80]}") from error


def _items(reply: Reply) -> Sequence[Reply]:
    if isinstance(reply, Sequence) and not isinstance(reply, str | bytes):
        return reply
    raise ParseError(f"not a list of slot migrations: {str(reply)[:80]!r}")


def bounds(slots: SlotSet) -> list[int]:
    """Return the first and last slot of every range, as both servers' commands take them."""
    return [bound for pair in slots.ranges() for bound in pair]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunner:
    """Starts the task of one pair, waits for its end, and says what its failure means."""

    session: MigrationSession
    pair: Pair

    async def tasks(self, node: NodeView, *words: str) -> list[Task]:
        """Ask a node for its tasks, past ones too, with a CLUSTER command."""
        client = self.session.client(node)
        (reply,) = await client.pipeline([("CLUSTER", *words)], limit=TASKS_LIMIT)
        with reading(node.name, f"CLUSTER {words[0]}"):
            return parse_tasks(require(reply))

    async def start(self, node: NodeView, *words: str | int) -> Reply:
        """Send the CLUSTER command that starts a task; raises as `failure` says."""
        try:
            return await self.session.client(node).write("CLUSTER", *words)
        except ReplyError as error:
            # Another task, an open slot, a slot that is elsewhere: the next observation shows it.
            raise await self.failure(node, error.command, error.message) from error

    def leave_to_keys(self, strays: SlotSet) -> None:
        """Let slots go key by key of which the target has keys already, or may have.

        A person who stops a move by hand leaves such keys. With them, a target that Valkey 9.1
        moves a slot to ends with a failed assertion, and one of Redis 8.6 deletes its copies.

        Raises:
            StaleViewError: There are such slots; the next pass moves them.
        """
        if strays:
            self.session.history.strays[self.pair.processes] |= strays
            what = f"may have keys of slots {strays} that it does not own, they go key by key"
            raise stale_view(self.pair.target.name, what)

    async def cancel(self, node: NodeView, *words: str) -> None:
        """Send the CLUSTER command that cancels tasks; one that just ended is no error."""
        (reply,) = await self.session.client(node).pipeline([("CLUSTER", *words)], writes=True)
        if isinstance(reply, ReplyError) and reply.code == "NOPERM":
            raise rejection(reply)

    async def wait_for_earlier(
        self, node: NodeView, *words: str, slots: SlotSet | None = None
    ) -> set[str]:
        """Wait for tasks that another run left; return the ids of past ones.

        Only tasks that touch `slots` are in the way, or all of them for None.

        Raises:
            StaleViewError: There were some, so the slots may be elsewhere now.
        """
        has_waited = False

        async def past_ids() -> set[str] | None:
            nonlocal has_waited
            tasks = await self.tasks(node, *words)
            if all(t.has_ended or (slots is not None and not t.slots & slots) for t in tasks):
                return {task.task_id for task in tasks}
            has_waited = True
            if self.session.is_ending:
                what = "still runs a slot migration that this run did not start"
                raise stale_view(node.name, what)
            return None

        past = await wait_for(past_ids, pause=BACKGROUND)
        if has_waited:
            raise stale_view(node.name, "ended a slot migration that an earlier run had started")
        return past

    async def follow(
        self,
        node: NodeView,
        find: Callable[[], Awaitable[Task | None]],
        cancel: Callable[[float], Awaitable[bool]],
    ) -> Task:
        """Wait until the task that `find` returns has ended.

        When the run is to stop, `cancel` cancels it where that is safe and returns whether it did;
        it takes the seconds since that was wanted first.
        """
        is_cancelled = False
        wanted_at: float | None = None

        async def ended() -> Task | None:
            nonlocal is_cancelled, wanted_at
            task = await find()
            if task is None:
                what = "lost a slot migration; it may have failed over or restarted"
                raise stale_view(node.name, what)
            if task.has_ended:
                return task
            if (self.session.stop.is_set() or task.retries > _MOST_RETRIES) and not is_cancelled:
                now = time.monotonic()
                wanted_at = now if wanted_at is None else wanted_at
                is_cancelled = await cancel(now - wanted_at)
            return None

        return await wait_for(ended, pause=in_proportion)

    async def finish(self, node: NodeView, word: str, task: Task, slots: SlotSet) -> None:
        """Count the slots of a task that has ended.

        Raises:
            BootstrapError: It failed, see `failure`; cancelled for a stop is no failure.
        """
        if task.has_succeeded:
            self.session.history.failures.pop(self.pair.processes, None)
            self.session.count(slots=len(slots), keys=self.pair.estimated_keys(slots))
        elif not self.session.stop.is_set():
            raise await self.failure(node, f"CLUSTER {word}", task.message or task.state)

    async def failure(self, node: NodeView, command: str, message: str) -> BootstrapError:
        """Return the error for a failure, after a pause; one that lasts is not repeated forever.

        Full memory is what MIGRATE would meet at the target too, but after half a slot.
        """
        session, processes = self.session, self.pair.processes
        source, target = self.pair.source, self.pair.target
        session.history.failures[processes] += 1
        count = session.history.failures[processes]
        lasts, is_full = count >= _MOST_FAILURES, "OOM" in message
        if is_full and lasts:
            return out_of_memory(target.name, f"{command} of {source.name}", message)
        what = ""
        if any(word in message for word in _NO_LOGIN):
            other = source if node is target else target
            what = f"cannot log in at {other.name} with its primaryauth, slots go key by key"
        elif lasts:
            what = "could not move slots, they go key by key"
        if what:
            session.history.by_keys.add(processes)
            return stale_view(node.name, f"{what}: {message}", command=command)
        await session.back_off(count)
        blamed = target if is_full else node
        return stale_view(blamed.name, f"could not move slots: {message}", command=command)
