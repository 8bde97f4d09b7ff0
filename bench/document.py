"""docs/benchmarks.json has the figures; docs/benchmarks.md and docs/benchmarks.svg show them."""

import json
import os
import platform
import time
from pathlib import Path
from typing import TypedDict

from bench import chart, tables
from bootstrap import __version__

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.json"
_HEAD = f"""# Benchmarks

Written by `make bench`, which keeps the figures in [benchmarks.json](benchmarks.json). Both tools
ran in turns on the same machine in the same run, on fresh servers on loopback addresses with their
default settings (node timeout 15 s, `repl-diskless-sync-delay` 5 s), one replica per primary. The
clock starts when the command starts and stops when the cluster is *healthy* on every node's own
view, by a check that shares no code with the program (`faults` in `tests/support/rig.py`). Figures
are medians of the runs that the tables name.

![{chart.SUMMARY}](benchmarks.svg)
"""
_TEXTS = {
    "healthy": """## Fresh servers to a healthy cluster

"Ends" is when the command returned. `redis-cli` and `valkey-cli` end before the cluster is healthy:
they wait neither for `cluster_state:ok` nor for every node to know every replica. The servers set
a floor: a primary says `ok` 5 s after it first owned slots, and a replica's first copy starts up
to 5 s after it asks.""",
    "cost": """## What a run that creates a cluster costs

Counted by the program itself, from its last log line. A pipeline is one round trip.""",
    "again": """## A second run on a healthy cluster

It sends no write command. "Without the interpreter" has the time of `python -c pass` taken off.""",
    "startup": "## Start-up",
    "views": """## Larger than what runs here: synthetic views

One pass over synthetic replies: observing (parsing every node's `CLUSTER NODES`), then
diagnosing and planning. The cluster is either healthy or all nodes are new. No network is in these
figures.""",
    "healing": """## All pods on new addresses

All servers are killed and come back with their data on other addresses; the clock starts with the
run after that. Roles are kept if each pod is primary or replica as before.""",
    "rebalance": """## Rebalance from three primaries to four

Ours is timed from the first command to the last slot, the CLI as a process. "Wanted" is the
ratio that this project set itself. {keys:,} keys of 100 bytes where no other is named,
{runs} runs.""",
}
# Parts that are measured together, with their tables.
PARTS = {
    "forming": ("healthy", "cost", "again"),
    "startup": ("startup",),
    "views": ("views",),
    "healing": ("healing",),
    "rebalance": ("rebalance",),
}


class Part(TypedDict):
    """What one measurement gave: when and where, with which options, and its tables."""

    measured: str
    left_out: str
    options: dict[str, int]
    tables: dict[str, list[tables.Row]]


Figures = dict[str, Part]


def read(path: Path = FIGURES) -> Figures:
    """Return the figures of a file, if there is one."""
    figures: Figures = json.loads(path.read_text()) if path.exists() else {}
    return figures


def measured(rows: dict[str, list[tables.Row]], *, left_out: str, **options: int) -> Part:
    """Return a part that was measured now, on this machine."""
    kept = {name: tables.rounded(name, each) for name, each in rows.items()}
    return {"measured": _when(), "left_out": left_out, "options": options, "tables": kept}


def markdown(name: str, part: Part) -> str:
    """Return the text of one part."""
    blocks = [
        block
        for table in PARTS[name]
        for block in (
            _TEXTS[table].format(**part["options"]),
            tables.markdown(table, part["tables"][table]),
        )
    ]
    left_out = [part["left_out"]] if part["left_out"] else []
    return "\n\n".join([*blocks, *left_out, f"_{part['measured']}_"])


def document(figures: Figures) -> str:
    """Return docs/benchmarks.md."""
    parts = [markdown(name, figures[name]) for name in PARTS if name in figures]
    return "\n\n".join([_HEAD.rstrip(), *parts]) + "\n"


def picture(figures: Figures) -> str:
    """Return docs/benchmarks.svg."""
    rows = figures["forming"]["tables"]["healthy"] if "forming" in figures else []
    moves = figures["rebalance"]["tables"]["rebalance"] if "rebalance" in figures else []
    return chart.drawn(rows, moves)


def write(figures: Figures, path: Path = FIGURES) -> None:
    """Write the figures, and beside them the document and the picture."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    path.with_suffix(".md").write_text(document(figures))
    path.with_suffix(".svg").write_text(picture(figures))


def _when() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d')}, version {__version__}, {os.cpu_count()} CPUs, "
        f"{memory_gb:.0f} GiB, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}."
    )
