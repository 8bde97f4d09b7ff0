"""What `run` and `wait` show at a terminal: a line for each step, and below what they wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..core.findings import counted
from .layout import duration
from .tables import text


@dataclass(slots=True, kw_only=True)
class RunScreen:
    """Draws the progress of one run on stderr.

    Attributes:
        screen: The terminal.
    """

    screen: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    _began: float = field(default_factory=time.monotonic)
    _waits: str = ""
    _waits_since: float = 0.0
    _bar: Table | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the run lasts; other lines of the log appear above."""
        with Live(self, console=self.screen, refresh_per_second=4, transient=True):
            yield

    def step(self, words: str) -> None:
        """Write a line that stays, with the time since the start."""
        self.screen.print(self._line(words, ""))
        self._bar = None

    def waits(self, words: str) -> None:
        """Show what the run waits for."""
        if words != self._waits:
            self._waits, self._waits_since = words, time.monotonic()

    def moved(self, slots: int, total: int, words: str) -> None:
        """Show how many slots were moved, and more about it."""
        words = f"{slots}/{counted(total, 'slot')}  {words}"
        cells = max(10, min(40, self.screen.width - len(words) - 12))
        bar = ProgressBar(total=total, completed=slots, width=cells)
        self._bar = Table.grid(padding=(0, 2, 0, 0))
        self._bar.add_row(Text(" " * 7), bar, Text(words, no_wrap=True))

    def __rich__(self) -> RenderableType:
        """Return what is drawn below the steps."""
        waited = duration(time.monotonic() - self._waits_since)
        waits = self._line(f"waiting for {waited}: {self._waits}", "dim")
        return self._bar or (waits if self._waits else Text())

    def _line(self, words: str, style: str) -> Table:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", no_wrap=True, min_width=7)
        grid.add_column(overflow="fold")
        grid.add_row(Text(f"{time.monotonic() - self._began:.1f} s", style), text(words, style))
        return grid
