"""An event loop whose clock jumps to the next timer, so that tests of waiting take no time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

_T = TypeVar("_T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop in which nothing but timers passes time. It must not wait for sockets or threads."""

    def __init__(self) -> None:
        super().__init__()
        self._time = 1000.0

    def time(self) -> float:
        """Return the made-up time in seconds."""
        return self._time

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]  # of BaseEventLoop
        if not ready:
            timers = [timer.when() for timer in scheduled if not timer.cancelled()]
            if not timers:
                raise RuntimeError("nothing is ready and no timer is set: the test would hang")
            self._time = max(self._time, min(timers))
        super()._run_once()  # type: ignore[misc]  # of BaseEventLoop


def run(work: Coroutine[object, object, _T]) -> _T:
    """Run to the end in made-up time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
