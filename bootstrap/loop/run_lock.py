"""The lock of a run: acquired before the first change, kept alive, released at the end.

A run that has lost it carries on the plan that is under way, since every step can be repeated
(`net.connection_lock`); it applies no further one and asks for the lock again at every pass
(`converge`). It is lost with its connection, which is not opened again: the address may be another
process's by then. The next pass takes the lock at the pod that it observes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from ..core.topology import ClusterView
from ..errors import BootstrapError, TransientError

KEEP_ALIVE_EVERY_S = 5.0

_log = structlog.get_logger()


class Lock(Protocol):
    """What `net.connection_lock.ConnectionLock` offers."""

    @property
    def address(self) -> str | None:
        """Return the address of its connection; None once that has ended."""

    async def try_acquire(self) -> str | None:
        """Return None when the lock is ours, otherwise its holder."""

    async def release(self) -> None:
        """Release the lock."""


@dataclass(slots=True)
class RunLock:
    """The lock as one run uses it.

    Attributes:
        lock_on: Returns the lock on the agreed node of a view (`ClusterView.lock_node`).
        holder: The other run that has it; None when no other run is known to.
        is_ours: Whether the last attempt acquired it.
        is_new: Whether it was not ours before the last attempt of a pass: another run may have
            worked until then.
    """

    lock_on: Callable[[ClusterView], Lock]
    holder: str | None = None
    is_ours: bool = False
    is_new: bool = False
    _lock: Lock | None = None

    async def acquire(self, view: ClusterView) -> bool:
        """Acquire the lock, or confirm it; return whether it is ours."""
        addresses = view.lock_node().endpoint.addresses
        if self._lock is not None and self._lock.address not in addresses:
            await self.release()
        self._lock = self._lock or self.lock_on(view)
        was_ours = self.is_ours
        try:
            holder = await self._lock.try_acquire()
        except TransientError:
            # The pod of the lock may have moved; the next observation shows where it is.
            await self.release()
            raise
        if holder and holder != self.holder:
            _log.info("lock.waited", holder=holder)
        self.holder, self.is_ours = holder, holder is None
        self.is_new = self.is_ours and not was_ours
        return self.is_ours

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Keep using the lock's connection: other runs consider a silent one dead."""
        keeping = asyncio.ensure_future(self._keep_alive())
        try:
            yield
        finally:
            keeping.cancel()

    async def _keep_alive(self) -> None:
        while (lock := self._lock) is not None:
            await asyncio.sleep(KEEP_ALIVE_EVERY_S)
            with suppress(BootstrapError):
                self.holder = await lock.try_acquire()
                self.is_ours = self.holder is None
            if lock.address is None:
                await self.release()

    async def release(self) -> None:
        """Release the lock, if there is one."""
        lock, self._lock, self.is_ours = self._lock, None, False
        if lock is not None:
            await lock.release()
