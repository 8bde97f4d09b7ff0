"""SIGTERM and SIGINT, from the first line of the program to its last.

asyncio's own handlers go with the loop and leave the system's behind, so that a signal after that
would end the process with its last words unsaid. The handler here stays for the life of the
process and raises nothing by itself: an exception that comes anywhere breaks what cleans up, and
is lost where one is ignored. It notes the stop and wakes whatever says that it listens.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from ..errors import StoppedError

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class _Stop:
    """What there is once in a process, as signals are.

    Attributes:
        came: A signal came, whoever listened.
        wake: What to call when one comes.
    """

    came: bool = False
    wake: Callable[[], object] | None = None

    def handle(self, _number: int, _frame: object) -> None:
        self.came = True
        if (wake := self.wake) is not None:
            wake()


_stop = _Stop()


def listen() -> None:
    """Take the signals over."""
    for number in _NUMBERS:
        signal.signal(number, _stop.handle)


def ignore() -> None:
    """Let nothing change the exit code any more; the interpreter gives other handlers back."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def calling(wake: Callable[[], object]) -> Iterator[None]:
    """Call this when a signal comes, and at once when one came before."""
    _stop.wake = wake
    try:
        if _stop.came:
            wake()
        yield
    finally:
        _stop.wake = None


@contextmanager
def setting(event: asyncio.Event) -> Iterator[None]:
    """Set the event of the running loop, and wake the loop, when a signal comes or came."""
    loop = asyncio.get_running_loop()
    with calling(lambda: loop.call_soon_threadsafe(event.set)):
        if _stop.came:
            event.set()
        yield


def interrupt() -> NoReturn:
    """Raise, out of code that blocks and that can be left anywhere.

    Raises:
        StoppedError: Always.
    """
    raise StoppedError(cause="stopped by a signal", remedy="run it again")
