"""How a run is ended from outside: by a signal, or by its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")
CLOSING_S = 20.0


def now() -> float:
    """Return the seconds of the loop's steady clock."""
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class Deadline:
    """Sets an event when the time of a run is over.

    Attributes:
        stop: The event, which a signal may set as well.
        seconds: How long the run may take.
        is_over: Whether the time was over before the run ended.
    """

    stop: asyncio.Event
    seconds: float
    is_over: bool = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count from here."""
        timer = asyncio.get_running_loop().call_later(self.seconds, self._expire)
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self.is_over = not self.stop.is_set()
        self.stop.set()


async def run_until(
    stop: asyncio.Event,
    work: Coroutine[object, object, _T],
    *,
    is_closing: Callable[[], bool] = lambda: False,
    closing_s: float = CLOSING_S,
) -> _T | None:
    """Return the result of the work, or None where the stop was set before it had one.

    Work that `is_closing` has changes under way and may take `closing_s` to finish them.
    """
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and is_closing():
            await asyncio.wait({task}, timeout=closing_s)
    finally:
        stopping.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    return None if task.cancelled() else task.result()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, at most until the stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


@asynccontextmanager
async def stopped_with(stop: asyncio.Event) -> AsyncIterator[asyncio.Event]:
    """Provide an event that is set with another one, and can be set without it."""
    own = asyncio.Event()

    async def follow() -> None:
        await stop.wait()
        own.set()

    following = asyncio.ensure_future(follow())
    try:
        yield own
    finally:
        following.cancel()
