"""Discovery that gives what a test says."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from bootstrap.core.topology import Absent, Endpoint
from bootstrap.net.discovery import Found


@dataclass(slots=True)
class Names:
    """Names of pods.

    Attributes:
        endpoints: The pods that have addresses now.
        absent: Those that have none.
        asked: The pods that were said to be silent, for each time that it was asked.
    """

    endpoints: Iterable[Endpoint] = ()
    absent: tuple[Absent, ...] = ()
    asked: list[frozenset[str]] = field(default_factory=list)

    async def find(self, silent: Collection[str] = ()) -> Found:
        """Return them."""
        self.asked.append(frozenset(silent))
        return Found(endpoints=tuple(self.endpoints), absent=self.absent)
