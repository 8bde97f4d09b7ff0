"""What a stop by SIGTERM or SIGINT wakes; the handlers are in `stop_signal`.

They stay for the life of the process. Those of asyncio end with its loop
and restore the default action, so that a later signal would end the process without a last line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from ..errors import StoppedError
from .stop_signal import stop


@contextmanager
def calling(wake: Callable[[], object]) -> Iterator[None]:
    """Call this when a signal comes, and at once when one came before."""
    stop.wake = wake
    try:
        if stop.came:
            wake()
        yield
    finally:
        stop.wake = None


@contextmanager
def setting(event: asyncio.Event) -> Iterator[None]:
    """Set the event of the running loop, and wake the loop, when a signal comes or came before."""
    loop = asyncio.get_running_loop()
    with calling(lambda: loop.call_soon_threadsafe(event.set)):
        if stop.came:
            event.set()
        yield


def interrupt() -> NoReturn:
    """Raise out of code that blocks and that can be left anywhere.

    Raises:
        StoppedError: Always.
    """
    raise StoppedError(cause="stopped by a signal", remedy="run it again")
