"""The tables of docs/benchmarks.md: which figures they show, and how."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Cell = str | float | None
Row = dict[str, Cell]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; a text without digits, otherwise a number."""

    heading: str
    digits: int | None = None

    def rounded(self, value: Cell) -> Cell:
        """Return what is kept of a figure."""
        if value is None or isinstance(value, str) or math.isnan(value):
            return value if isinstance(value, str) else None
        return round(value, self.digits) if self.digits else round(value)

    def shown(self, value: Cell) -> str:
        """Return the text of a cell."""
        if value is None:
            return "-"
        return value if isinstance(value, str) else f"{value:.{self.digits or 0}f}"


Columns = Mapping[str, Column]
_SERIES: Columns = {
    "servers": Column(heading="servers"),
    "nodes": Column(heading="nodes", digits=0),
}
_COST: Columns = {
    "passes": Column(heading="passes", digits=0),
    "commands": Column(heading="commands", digits=0),
    "writes": Column(heading="of these writes", digits=0),
    "round_trips": Column(heading="round trips", digits=0),
    # 1.00: one pipeline for each node was enough.
    "round_trips_per_pass_and_node": Column(heading="round trips a pass and node", digits=2),
    "peak_mb": Column(heading="peak MB", digits=0),
}
_TIMED: Columns = {
    "seconds": Column(heading="seconds", digits=2),
    "without_interpreter_s": Column(heading="without the interpreter", digits=2),
}
TABLES: Mapping[str, Columns] = {
    "healthy": {
        **_SERIES,
        "runs": Column(heading="runs", digits=0),
        "cli_ends_s": Column(heading="CLI ends, s", digits=1),
        "cli_healthy_s": Column(heading="CLI healthy, s", digits=1),
        "ours_ends_s": Column(heading="ours ends, s", digits=1),
        "ours_healthy_s": Column(heading="ours healthy, s", digits=1),
        "ratio": Column(heading="CLI / ours", digits=1),
    },
    "cost": {**_SERIES, **_COST},
    "again": {**_SERIES, **_TIMED, **_COST},
    "startup": {"what": Column(heading=""), **_TIMED},
    "views": {
        "nodes": Column(heading="nodes", digits=0),
        "state": Column(heading="state"),
        "lines": Column(heading="lines read", digits=0),
        "read_s": Column(heading="read, s", digits=2),
        "plan_s": Column(heading="diagnose and plan, s", digits=2),
        "actions": Column(heading="actions", digits=0),
        "peak_mb": Column(heading="peak MB", digits=0),
        "before_mb": Column(heading="before the pass, MB", digits=0),
    },
    "healing": {
        **_SERIES,
        "runs": Column(heading="runs", digits=0),
        "ends_s": Column(heading="ends, s", digits=1),
        "healthy_s": Column(heading="healthy, s", digits=1),
        "roles_kept": Column(heading="roles kept"),
    },
    "rebalance": {
        "case": Column(heading="rebalance 3 to 4"),
        "cli_s": Column(heading="CLI s", digits=2),
        "ours_s": Column(heading="ours s", digits=2),
        "ratio": Column(heading="times", digits=1),
        "wanted": Column(heading="wanted", digits=1),
    },
}


def rounded(table: str, rows: Sequence[Row]) -> list[Row]:
    """Return the figures as they are kept."""
    columns = TABLES[table]
    return [{key: column.rounded(row[key]) for key, column in columns.items()} for row in rows]


def markdown(table: str, rows: Sequence[Row]) -> str:
    """Return a table of Markdown."""
    columns = TABLES[table]
    lines = [
        [column.heading for column in columns.values()],
        *([column.shown(row[key]) for key, column in columns.items()] for row in rows),
    ]
    lines.insert(1, ["---" if column.digits is None else "--:" for column in columns.values()])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return text.replace("| --- ", "|---").replace("| --: ", "|--:").replace("|  |", "| |")
