"""`python -m bench`: measures, prints tables, and writes docs/benchmarks.json and what shows it.

Parts that were not asked for keep the figures of an earlier run.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import document, forming, healing, rebalance, servers
from bench.program import ended_in, made_up
from bench.tables import Row
from bench.views import STATES

SERVERS = "redis-7.0,redis-8.6,valkey-9.1"
_HEALED_NODES = 6


def _startup() -> list[Row]:
    cases = {
        "`python -c pass`": ("-c", "pass"),
        "`python -m bootstrap --help`": ("-m", "bootstrap", "--help"),
        "imports of a run": ("-c", "import bootstrap.cli, bootstrap.commands.run"),
        "imports of `status` for people": ("-c", "import bootstrap.commands.run, rich.table"),
    }
    bare = 0.0
    rows: list[Row] = []
    for name, args in cases.items():
        seconds = statistics.median(ended_in(*args) for _ in range(10))
        bare = bare or seconds
        rows.append({"what": name, "seconds": seconds, "without_interpreter_s": seconds - bare})
    return rows


def _views(sizes: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    for nodes in sizes:
        for state in STATES:
            row: Row = {"nodes": nodes, "state": state}
            rows.append(row | dict(made_up(nodes, state)))
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(document.PARTS)}; all by default")
    parser.add_argument("--sizes", default="6,30,100", help="nodes of the clusters")
    parser.add_argument("--servers", default=SERVERS)
    parser.add_argument("--runs", type=int, default=3, help="at 6 nodes; fewer at more")
    parser.add_argument("--views", default="10,100,300,1000", help="nodes of synthetic views")
    parser.add_argument("--keys", type=int, default=500_000, help="keys of the rebalance")
    parser.add_argument("--output", type=Path, default=document.FIGURES, help="the JSON file")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write what it shows")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(document.PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return options


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that were asked for."""
    options = _options(arguments)
    figures = document.read(options.output)
    if options.draw:
        document.write(figures, options.output)
        return
    found, notes = servers.find(options.servers.split(","))
    for note in notes:
        _say(note)
    left_out = "".join(f"{note}. " for note in notes).strip() if found else ""

    def form() -> dict[str, list[Row]]:
        measured = forming.measure(found, _numbers(options.sizes), runs=options.runs, say=_say)
        return {
            "healthy": forming.healthy_rows(measured),
            "cost": forming.cost_rows(measured),
            "again": forming.again_rows(measured),
        }

    def heal() -> dict[str, list[Row]]:
        runs = min(options.runs, 3)
        return {"healing": healing.rows(found, nodes=_HEALED_NODES, runs=runs, say=_say)}

    moved = {"keys": options.keys, "runs": options.runs}
    works: dict[str, Callable[[], dict[str, list[Row]]]] = {
        "forming": form,
        "startup": lambda: {"startup": _startup()},
        "views": lambda: {"views": _views(_numbers(options.views))},
        "healing": heal,
        "rebalance": lambda: {
            "rebalance": rebalance.main([f"--{name}={value}" for name, value in moved.items()])
        },
    }
    for part in document.PARTS:
        if part in (options.parts or document.PARTS):
            kept = moved if part == "rebalance" else {}
            figures[part] = document.measured(works[part](), left_out=left_out, **kept)
            document.write(figures, options.output)
            print(document.markdown(part, figures[part]), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
