"""How often and how long a server is asked again; tenacity runs every such loop.

`retry` repeats work that failed, `wait_for` repeats a question that has no answer yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
    wait_random,
)

from ..errors import TransientError

T = TypeVar("T")
Pause: TypeAlias = Callable[[RetryCallState], float]

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0
_FIRST_POLL_S = 0.002
_LONGEST_POLL_S = 0.25
_SHARE_OF_TIME = 0.03

# A server ends its part of a migration within milliseconds of the other server's part.
SHORTLY: Pause = wait_fixed(_FIRST_POLL_S)
# A task of unknown length, of which nothing but the end matters.
BACKGROUND: Pause = wait_exponential(
    multiplier=_FIRST_POLL_S, exp_base=1.2, min=_FIRST_POLL_S, max=_LONGEST_POLL_S
)


def in_proportion(state: RetryCallState) -> float:
    """Pause for a small share of the time that the task has taken so far.

    A long list of past tasks is slow to read, so never spend most of the time on reading it.
    """
    elapsed_s = state.seconds_since_start or 0.0
    reading_s = (elapsed_s - state.idle_for) / state.attempt_number
    pause_s = min(_LONGEST_POLL_S, max(_FIRST_POLL_S, _SHARE_OF_TIME * elapsed_s))
    return max(pause_s, 2 * reading_s)


async def retry(work: Callable[[], Awaitable[T]], *, for_s: float) -> T:
    """Repeat `work` while it fails with a `TransientError`, for about `for_s` seconds.

    Raises:
        TransientError: The last one, when the time is over; other errors at once.
    """
    return await AsyncRetrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)
        + wait_random(0, FIRST_WAIT_S),
        stop=stop_after_delay(for_s),
        reraise=True,
    )(work)


async def wait_for(ask: Callable[[], Awaitable[T | None]], *, pause: Pause) -> T:
    """Ask again until there is an answer; `ask` itself gives up, with an error."""
    answer: T | None = await AsyncRetrying(
        retry=retry_if_result(lambda answer: answer is None), wait=pause
    )(ask)
    if answer is None:
        msg = "tenacity ends by an answer or an error"
        raise AssertionError(msg)
    return answer
