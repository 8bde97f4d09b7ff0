"""SIGTERM and SIGINT, from the first line of the program to its last.

Nothing but `signal` is imported here, so that handlers are set before anything else is loaded. As
the first process of a container the program has no default action for signals (man 7
pid_namespaces): one that comes before its handler is lost, and the pod lives until its grace period
ends.
"""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class _Stop:
    """The one stop that a process has.

    Attributes:
        came: A signal came, whoever was waiting.
        wake: What to call when one comes.
    """

    __slots__ = ("came", "wake")

    def __init__(self) -> None:
        self.came = False
        self.wake: Callable[[], object] | None = None

    def handle(self, _number: int, _frame: object) -> None:
        """Record the signal and wake who waits; to raise here would interrupt cleanup."""
        self.came = True
        if (wake := self.wake) is not None:
            wake()


stop = _Stop()


def listen() -> None:
    """Handle the signals."""
    for number in _NUMBERS:
        signal.signal(number, stop.handle)


def ignore() -> None:
    """Ignore the signals from now on, so that nothing changes the exit code any more."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)
