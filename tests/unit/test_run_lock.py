"""The lock as one run uses it, with a made-up lock and clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from bootstrap.core.topology import ClusterView
from bootstrap.errors import CredentialsError, NodeUnreachableError
from bootstrap.loop.run_lock import KEEP_ALIVE_EVERY_S, RunLock
from tests.support import virtual_time
from tests.support.builders import endpoint, view

SEEN = view("3x0")
LOST = NodeUnreachableError(node="redis-app-0", cause="no answer", remedy="wait")
GONE = NodeUnreachableError(node="redis-app-0", cause="it closed the connection", remedy="wait")
REJECTED = CredentialsError(node="redis-app-0", cause="WRONGPASS", remedy="set it")


@dataclass(slots=True)
class OneLock:
    """A lock whose answers follow each other; the last one is repeated.

    `GONE` ends its connection.
    """

    answers: list[str | Exception | None]
    asked_at: list[float] = field(default_factory=list)
    released: int = 0
    address: str | None = endpoint(0).addresses[0]

    async def try_acquire(self) -> str | None:
        """Return or raise the next answer."""
        self.asked_at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is GONE:
            self.address = None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def release(self) -> None:
        """Take note."""
        self.released += 1


def locked(*answers: str | Exception | None) -> tuple[RunLock, OneLock, list[ClusterView]]:
    """Return the lock of a run, what it is made of, and the views that it was looked for in."""
    lock, views = OneLock(list(answers)), list[ClusterView]()

    def lock_on(seen: ClusterView) -> OneLock:
        views.append(seen)
        return lock

    return RunLock(lock_on), lock, views


def logged(work: Callable[[], Coroutine[Any, Any, None]]) -> list[dict[str, Any]]:
    """Return what is logged while the work runs in made-up time."""
    with capture_logs() as events:
        virtual_time.run(work())
    return [dict(event) for event in events]


def test_a_lock_is_looked_for_once_and_confirmed_after_that() -> None:
    """The node of the lock is that of the first view, until the lock is released."""
    run, lock, views = locked(None)

    async def work() -> None:
        assert not run.is_ours
        for _ in range(2):
            assert await run.acquire(SEEN)
            assert (run.is_ours, run.holder) == (True, None)
        assert (len(views), views[0]) == (1, SEEN)
        await run.release()
        assert (run.is_ours, lock.released) == (False, 1)
        await run.release()
        assert lock.released == 1
        assert await run.acquire(SEEN)
        assert len(views) == 2

    assert logged(work) == []


def test_each_holder_that_is_waited_for_is_logged_once() -> None:
    """The holder of the last attempt is known until the lock is ours."""
    run, _, _ = locked("run-1", "run-1", "run-2", None)

    async def work() -> None:
        for holder in ("run-1", "run-1", "run-2", None):
            assert await run.acquire(SEEN) is (holder is None)
            assert (run.holder, run.is_ours) == (holder, holder is None)

    events = logged(work)
    assert [(e["event"], e["holder"], e["log_level"]) for e in events] == [
        ("lock.waited", "run-1", "info"),
        ("lock.waited", "run-2", "info"),
    ]


def test_a_lock_whose_node_does_not_answer_is_not_ours_any_more() -> None:
    """The plan was made under a lock that may be gone, and the node is looked for again."""
    run, lock, views = locked(None, LOST, None)

    async def work() -> None:
        assert await run.acquire(SEEN)
        with pytest.raises(NodeUnreachableError):
            await run.acquire(SEEN)
        assert (run.is_ours, lock.released) == (False, 1)
        assert await run.acquire(SEEN)
        assert len(views) == 2

    logged(work)


def test_a_lock_is_used_while_a_change_is_under_way() -> None:
    """A failure does not end that, and nothing is sent after the change."""
    run, lock, _ = locked(None, REJECTED, None)

    async def work() -> None:
        await run.acquire(SEEN)
        async with run.kept_alive():
            await asyncio.sleep(3.5 * KEEP_ALIVE_EVERY_S)
        await asyncio.sleep(5 * KEEP_ALIVE_EVERY_S)
        assert [at - lock.asked_at[0] for at in lock.asked_at[1:]] == [
            KEEP_ALIVE_EVERY_S * number for number in (1, 2, 3)
        ]

    logged(work)


def test_a_lock_whose_connection_ends_is_not_ours_and_is_not_asked_again() -> None:
    """The pod may be gone, and its address that of another process."""
    run, lock, views = locked(None, GONE, None)

    async def work() -> None:
        await run.acquire(SEEN)
        assert run.is_new
        async with run.kept_alive():
            await asyncio.sleep(3.5 * KEEP_ALIVE_EVERY_S)
            assert (run.is_ours, lock.released) == (False, 1)
        assert len(lock.asked_at) == 2
        lock.address = endpoint(0).addresses[0]
        assert await run.acquire(SEEN)
        assert (len(views), run.is_new) == (2, True)

    logged(work)


@pytest.mark.parametrize("address", ["10.9.9.9", None], ids=["another", "ended"])
def test_a_lock_at_a_former_address_is_dropped(address: str | None) -> None:
    """The pod that was observed has another address, or the connection ended meanwhile."""
    run, lock, views = locked(None)

    async def work() -> None:
        for _ in range(2):
            assert await run.acquire(SEEN)
        assert (len(views), lock.released, run.is_new) == (1, 0, False)
        lock.address = address
        assert await run.acquire(SEEN)
        assert (len(views), lock.released, run.is_new) == (2, 1, True)

    logged(work)


def test_nothing_is_kept_alive_without_a_lock() -> None:
    """A change that needs no lock sends nothing for it."""
    run, lock, _ = locked(None)

    async def work() -> None:
        async with run.kept_alive():
            await asyncio.sleep(3 * KEEP_ALIVE_EVERY_S)
        assert lock.asked_at == []

    logged(work)
