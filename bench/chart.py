"""The picture of docs/benchmarks.md."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from bench.tables import Cell, Row
from docs.svg import Picture, Point

SUMMARY = (
    "Seconds until new servers are a healthy cluster, and seconds of a rebalance from three "
    "primaries to four, each with the servers' own command line and with this program"
)
_WIDTH, _LEFT, _RIGHT = 880, 290, 800
_BAR_PX, _GROUP_PX, _ROW_PX = 14, 40, 27
_FIGURE_PX = 44  # what a figure beside the lowest mark needs


def _number(value: Cell) -> float | None:
    return None if value is None or isinstance(value, str) else value


def drawn(created: Sequence[Row], moved: Sequence[Row]) -> str:
    """Return the SVG of both tables, as far as there are figures."""
    first = 76
    second = first + len(created) * _GROUP_PX + 76
    height = second + len(moved) * _ROW_PX + 30
    picture = Picture(_WIDTH, height, title=SUMMARY, description=_spoken(created, moved))
    for x, kind, words in ((24, "cli", "redis-cli or valkey-cli"), (220, "ours", "this program")):
        picture.rectangle((x, 15, 14, 14), kind=kind)
        picture.text((x + 21, 27), words)
    picture.text(
        (24, first - 20), "Fresh servers to a healthy cluster, seconds", size=15, bold=True
    )
    _bars(picture, created, first)
    title = "Rebalance from three primaries to four, seconds (logarithmic)"
    picture.text((24, second - 20), title, size=15, bold=True)
    _pairs(picture, moved, second)
    return picture.svg()


def _spoken(created: Sequence[Row], moved: Sequence[Row]) -> str:
    cases = [
        *(
            (f"{row['servers']}, {row['nodes']} nodes", row["cli_healthy_s"], row["ours_healthy_s"])
            for row in created
        ),
        *((f"Rebalance, {row['case']}", row["cli_s"], row["ours_s"]) for row in moved),
    ]
    return "; ".join(f"{name}: {theirs or '-'} and {ours} s" for name, theirs, ours in cases)


def _grid(
    picture: Picture,
    values: Sequence[float],
    place: Callable[[float], float],
    top: float,
    end: float,
) -> None:
    for value in values:
        x = place(value)
        picture.line((x, top - 4), (x, end), kind="grid")
        picture.text((x, end + 17), f"{value:g}", anchor="middle", kind="muted", size=12)


def _bars(picture: Picture, rows: Sequence[Row], top: float) -> None:
    highest = max(
        (v for r in rows for k in ("cli_healthy_s", "ours_healthy_s") if (v := _number(r[k]))),
        default=1.0,
    )
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if highest / s <= 8)
    steps = ceil(highest / step)

    def place(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * value / (steps * step)

    _grid(picture, [n * step for n in range(steps + 1)], place, top, top + len(rows) * _GROUP_PX)
    for number, row in enumerate(rows):
        y = top + number * _GROUP_PX + 3
        label = f"{row['servers']}, {row['nodes']} nodes"
        picture.text((_LEFT - 12, y + _BAR_PX + 5), label, anchor="end")
        for kind, key, lower in (
            ("cli", "cli_healthy_s", 0),
            ("ours", "ours_healthy_s", _BAR_PX + 1),
        ):
            if (value := _number(row[key])) is not None:
                width = place(value) - _LEFT
                picture.rectangle((_LEFT, y + lower, width, _BAR_PX), kind=kind)
                _figure(picture, (_LEFT + width + 7, y + lower + 11.5), f"{value:.1f}", kind)


def _pairs(picture: Picture, rows: Sequence[Row], top: float) -> None:
    values = [v for r in rows for k in ("cli_s", "ours_s") if (v := _number(r[k]))]
    low, high = (floor(log10(min(values))), ceil(log10(max(values)))) if values else (0, 1)

    def place(value: float) -> float:
        start = _LEFT + _FIGURE_PX
        return start + (_RIGHT - start) * (log10(value) - low) / (high - low)

    ticks = [10.0**power for power in range(low, high + 1)]
    _grid(picture, ticks, place, top, top + len(rows) * _ROW_PX)
    for number, row in enumerate(rows):
        y = top + number * _ROW_PX + _ROW_PX / 2
        label = str(row["case"]).replace("use-atomic-slot-migration", "atomic")
        picture.text((_LEFT - 12, y + 4.5), label, anchor="end")
        theirs, ours = _number(row["cli_s"]), _number(row["ours_s"])
        if theirs and ours:
            picture.line((place(ours), y), (place(theirs), y))
        slower = max(theirs or 0, ours or 0)
        for kind, value in (("cli", theirs), ("ours", ours)):
            if value:
                picture.circle((place(value), y), 6, kind=kind)
                right = value == slower
                at = (place(value) + (11 if right else -11), y + 4.5)
                _figure(picture, at, f"{value:.2f}", kind, anchor="start" if right else "end")


def _figure(picture: Picture, at: Point, words: str, kind: str, *, anchor: str = "start") -> None:
    width = 8 * len(words)  # hides the grid behind the figure
    left = at[0] - (width if anchor == "end" else 0)
    picture.rectangle((left, at[1] - 11, width, 13), kind="page")
    picture.text(at, words, size=12, anchor=anchor, bold=kind == "ours")
