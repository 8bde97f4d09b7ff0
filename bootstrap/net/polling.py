"""The one retry policy: which errors, how long, with how much back-off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from ..errors import TransientError

T = TypeVar("T")

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0


async def retry(work: Callable[[], Awaitable[T]], *, for_s: float) -> T:
    """Repeat `work` while it fails with a `TransientError`, for about `for_s` seconds.

    Raises:
        TransientError: The last one, when the time is over; other errors at once.
    """
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_exponential_jitter(initial=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=FIRST_WAIT_S),
        stop=stop_after_delay(for_s),
        reraise=True,
    ):
        with attempt:
            return await work()
    msg = "tenacity ends by a return or a raise"
    raise AssertionError(msg)
