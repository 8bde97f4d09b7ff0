"""The state of a cluster for people: the verdict first, then causes, the slot space and the nodes.

On a terminal it fits, and says what was left out; elsewhere nothing is left out or broken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..core.facts import Facts
from ..core.findings import abbreviate, counted
from ..core.slots import SLOT_COUNT, SlotSet
from ..core.verdict import Severity, causes
from ..process.cleaning import clean
from . import layout
from .layout import Look, Row, Shard

STYLES = {
    Severity.OK: "bold green",
    Severity.INFO: "bold cyan",
    Severity.WARNING: "bold yellow",
    Severity.CRITICAL: "bold red",
}
_NO_TERMINAL = 10_000  # columns: enough for the longest row
_LEAST_ROWS = 6
_COLUMNS = (
    "SHARD", "POD", "ADDRESS", "ROLE", "SLOTS", "RANGES", "KEYS", "LAG", "MEMORY", "STATE", "PLACE",
)  # fmt: skip
_NUMBERS = {"SLOTS", "KEYS", "LAG", "MEMORY"}
# What a narrow terminal can do without, the first one first.
_SPARED = ("RANGES", "ADDRESS", "MEMORY", "LAG", "KEYS", "PLACE")
# What is printed again when it changes, where there is no terminal.
_LASTING = ("POD", "ADDRESS", "ROLE", "RANGES", "STATE")
Draw = Callable[[Look, datetime, str], None]


def console() -> Console:
    """Return a console on stdout; wide enough for a row a line where there is no terminal."""
    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else _NO_TERMINAL
    return Console(width=width, force_terminal=is_terminal, highlight=False, soft_wrap=False)


def rendered(drawn: RenderableType, screen: Console) -> str:
    """Return what would be printed, without the last line's end."""
    with screen.capture() as capture:
        screen.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


@contextmanager
def live(write: Callable[[str], None]) -> Iterator[Draw]:
    """Yield what redraws `status --watch`; without a terminal it writes what has changed."""
    screen = console()
    if screen.is_terminal and not screen.is_dumb_terminal:
        with Live(console=screen, auto_refresh=False) as display:
            yield lambda look, now, late: display.update(
                status(look, screen, now=now, late=late), refresh=True
            )
        return
    printed: object = None

    def print_changed(look: Look, _now: datetime, _late: str) -> None:
        nonlocal printed
        rows = [r for shard in layout.shards(Facts(look.view, look.desired)) for r in shard.rows]
        new = (look.verdict, [{n: r.get(n) for n in _LASTING} for r in rows])
        if printed != new:
            printed = new
            write(rendered(status(look, screen), screen))

    yield print_changed


def status(
    look: Look, screen: Console, *, now: datetime | None = None, late: str = ""
) -> RenderableType:
    """Return the verdict, the causes, the slot space and the nodes by shard.

    Args:
        look: What was observed.
        screen: Where it is to fit.
        now: The time, where the observation may be older.
        late: What has not come yet.
    """
    facts = Facts(look.view, look.desired)
    drawn = layout.shards(facts)
    head = [headline(look, screen, now=now, late=late), Text(), *_bar(facts, drawn, screen)]
    room = screen.height - 1 - height(head, screen) if screen.is_terminal else None
    return Group(*head, Text(), nodes(drawn, screen, room and max(_LEAST_ROWS, room - 1)))


def headline(
    look: Look, screen: Console, *, now: datetime | None = None, late: str = ""
) -> RenderableType:
    """Return the verdict, and the causes as sentences."""
    facts, verdict, stamp = Facts(look.view, look.desired), look.verdict, f"{look.at:%H:%M:%S}"
    since = datetime.fromisoformat(verdict.since).astimezone(look.at.tzinfo)
    lasted = ((now or look.at) - since).total_seconds()
    words = f" ({verdict.severity}) at {stamp}"
    if lasted >= 1:
        words = f" ({verdict.severity}) since {since:%H:%M:%S}, {layout.duration(lasted)}"
    title = Text(verdict.state.words, STYLES[verdict.severity]).append(words)
    seen = (
        f"{len(facts.staying)} of {counted(look.desired.nodes, 'pod')} answered; "
        f"they own {len(facts.owned)} of {SLOT_COUNT} slots"
    )
    if now:
        age = layout.duration((now - look.at).total_seconds())
        seen = f"{age} ago, at {stamp} (now {now:%H:%M:%S}): {seen}"
    rows = [("late", late, "bold yellow")] if late else []
    rows += [("reason", verdict.reason, "")] if verdict.reason else []
    rows += [("next", verdict.next, ""), ("seen", seen, "")]
    found = causes(look.plan, look.view, most=3 if screen.is_terminal else None)
    others = ["; ".join(filter(None, (c.text, c.remedy))) for c in islice(found, 1, None)]
    for shown in range(len(others), -1, -1):
        also = [("also", other, "") for other in others[:shown]]
        if left := len(others) - shown:
            also.append(("also", f"{counted(left, 'more cause')} (piped output shows all)", ""))
        drawn = Group(title, _grid([*rows, *also]))
        if not screen.is_terminal or height([drawn], screen) <= screen.height // 2:
            break
    return drawn


def _grid(rows: Sequence[tuple[str, str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, words, style in rows:
        grid.add_row(Text(label, "bold"), text(words, style))
    return grid


def height(parts: Sequence[RenderableType], screen: Console) -> int:
    """Return how many lines something takes."""
    return len(screen.render_lines(Group(*parts), pad=False))


def text(words: str, style: str = "") -> Text:
    """Return text that may contain what peers said, in which brackets are no markup of rich."""
    return Text(clean(words), style)


def _bar(facts: Facts, drawn: Sequence[Shard], screen: Console) -> Iterator[Text]:
    """Yield the slot space, a digit for the shard that owns a part of it, and the legend."""
    cells = min(128, max(32, screen.width - 16)) if screen.is_terminal else 64
    line = Text("slots   ", "bold")
    marks = layout.bar(facts, drawn, cells)
    for mark in marks:
        owner = "black on cyan" if mark in "02468" else "black on blue"
        line.append(mark, "black on red" if mark in layout.LEGEND else owner)
    yield line
    if legend := [f"{mark} {words}" for mark, words in layout.LEGEND.items() if mark in marks]:
        yield Text(f"        {', '.join(legend)}")


def nodes(drawn: Sequence[Shard], screen: Console, room: int | None) -> RenderableType:
    """Return a table with a row for each node, or, in too little room, those that matter.

    Args:
        drawn: All shards.
        screen: Where it is to fit.
        room: Lines; None for as many as it takes.
    """
    shown = _chosen(drawn, room)
    rows = [row for shard in shown for row in _rows(shard, most=3 if screen.is_terminal else None)]
    # A column that says nothing, or what another one says, is no loss.
    names = [n for n in _COLUMNS if n == "POD" or any(r[n] not in ("", r["POD"]) for r in rows)]
    widths = {name: 2 + max(len(row[name]) for row in [*rows, {name: name}]) for name in names}
    hidden = []
    for name in (name for name in _SPARED if name in names):
        if sum(widths[name] for name in names) - 2 > screen.width:
            names.remove(name)
            hidden.append(name)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        style = "" if row["STATE"] == "ok" else "yellow"
        table.add_row(*(text(row[name], style) for name in names))
    left = [shard for shard in drawn if shard not in shown]
    return Group(table, *_left_out(left, hidden))


def _rows(shard: Shard, most: int | None) -> Iterator[Row]:
    for index, row in enumerate(shard.rows):
        number = "-" if shard.number is None else str(shard.number)
        cells = {**dict.fromkeys(_COLUMNS, ""), **row, "SHARD": "" if index else number}
        yield {**cells, "RANGES": abbreviate(SlotSet.parse(cells["RANGES"]), most=most)}


def _chosen(drawn: Sequence[Shard], room: int | None) -> list[Shard]:
    """Return the shards that fit, those with something to say first, in their order."""
    if room is None or sum(len(shard.rows) for shard in drawn) < room:
        return list(drawn)
    chosen: list[int] = []
    left = room - 3
    for index in sorted(range(len(drawn)), key=lambda i: drawn[i].is_ok):
        left -= len(drawn[index].rows)
        if left < 0:
            break
        chosen.append(index)
    return [drawn[index] for index in sorted(chosen)]


def _left_out(shards: Sequence[Shard], columns: Sequence[str]) -> Iterator[Text]:
    """Yield what is not shown, and how to see it."""
    words = [f"columns {', '.join(columns)}"] if columns else []
    for is_ok, kind in ((True, "that are ok"), (False, "with findings")):
        numbers = [s.number for s in shards if s.number is not None and s.is_ok is is_ok]
        if numbers:
            count = counted(len(numbers), "shard")
            words.insert(0, f"{count} {kind} ({layout.ranges_of(numbers)})")
    if others := sum(shard.number is None for shard in shards):
        words.insert(0, counted(others, "other pod"))
    if words:
        yield Text(f"not shown: {'; '.join(words)} (piped output shows all)", "italic")
