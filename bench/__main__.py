"""`python -m bench`: measures, prints tables and writes docs/benchmarks.md.

Parts that were not asked for keep the text that an earlier run wrote.
"""

import argparse
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import forming, healing, rebalance, servers
from bench.program import ended_in, made_up
from bench.views import STATES
from bootstrap import __version__

PARTS = ("forming", "startup", "views", "healing", "rebalance")
SERVERS = "redis-7.0,redis-8.6,valkey-9.1"
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
_HEALED_NODES = 6
_HEAD = """# Benchmarks

Written by `make bench`. Both tools ran in turns on the same machine in the same run, on fresh
servers on loopback addresses with their default settings (node timeout 15 s,
`repl-diskless-sync-delay` 5 s), one replica per primary. The clock starts when the command starts
and stops when the cluster is *healthy* on every node's own view, by a check that shares no code
with the program (`faults` in `tests/support/rig.py`). Figures are medians of the runs that the
tables name.
"""
_FORMING = """## Fresh servers to a healthy cluster

"Ends" is when the command returned. `redis-cli` and `valkey-cli` end before the cluster is healthy:
they wait neither for `cluster_state:ok` nor for every node to know every replica. The servers set
a floor: a primary says `ok` 5 s after it first owned slots, and a replica's first copy starts up
to 5 s after it asks."""
_COST = """## What a run that creates a cluster costs

Counted by the program itself, from its last log line. A pipeline is one round trip."""
_AGAIN = """## A second run on a healthy cluster

It sends no write command. "Without the interpreter" has the time of `python -c pass` taken off."""
_VIEWS = """## Larger than what runs here: synthetic views

One pass over synthetic replies: observing (parsing every node's `CLUSTER NODES`), then
diagnosing and planning. The cluster is either healthy or all nodes are new. No network is in these
figures."""
_HEALING = """## All pods on new addresses

All servers are killed and come back with their data on other addresses; the clock starts with the
run after that. Roles are kept if each pod is primary or replica as before."""
_REBALANCE = """## Rebalance from three primaries to four

Ours is timed from the first command to the last slot, the CLI as a process. "Wanted" is the
ratio that this project set itself."""


class Document:
    """The file, as sections that can be replaced one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text() if path.exists() else ""
        self._sections = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", text, re.DOTALL))

    def put(self, part: str, *blocks: str) -> None:
        """Replace a part and write the file."""
        self._sections[part] = "\n\n".join((*blocks, f"_{_when()}_"))
        kept = [
            f"<!-- {name} -->\n{self._sections[name]}\n<!-- end -->"
            for name in PARTS
            if name in self._sections
        ]
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text("\n\n".join((_HEAD.rstrip(), *kept)) + "\n")


def _when() -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d')}, version {__version__}, {os.cpu_count()} CPUs, "
        f"{memory_gb:.0f} GiB, Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}."
    )


def _startup() -> list[str]:
    cases = {
        "`python -c pass`": ("-c", "pass"),
        "`python -m bootstrap --help`": ("-m", "bootstrap", "--help"),
        "imports of a run": ("-c", "import bootstrap.cli, bootstrap.commands.run"),
        "imports of `status` for people": ("-c", "import bootstrap.commands.run, rich.table"),
    }
    bare = 0.0
    lines = ["| | seconds | without the interpreter |", "|---|--:|--:|"]
    for name, args in cases.items():
        seconds = statistics.median(ended_in(*args) for _ in range(10))
        bare = bare or seconds
        lines.append(f"| {name} | {seconds:.2f} | {seconds - bare:.2f} |")
    return lines


def _views(sizes: Sequence[int]) -> list[str]:
    lines = [
        (
            "| nodes | state | lines read | read, s | diagnose and plan, s | actions | peak MB "
            "| before the pass, MB |"
        ),
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for nodes in sizes:
        for state in STATES:
            got = made_up(nodes, state)
            lines.append(
                f"| {nodes} | {state} | {got['lines']:.0f} | {got['read_s']:.2f} "
                f"| {got['plan_s']:.2f} | {got['actions']:.0f} | {got['peak_mb']:.0f} "
                f"| {got['before_mb']:.0f} |"
            )
    return lines


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--sizes", default="6,30,100", help="nodes of the clusters")
    parser.add_argument("--servers", default=SERVERS)
    parser.add_argument("--runs", type=int, default=3, help="at 6 nodes; fewer at more")
    parser.add_argument("--views", default="10,100,300,1000", help="nodes of synthetic views")
    parser.add_argument("--keys", type=int, default=500_000, help="keys of the rebalance")
    parser.add_argument("--output", type=Path, default=DOCUMENT)
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return options


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that were asked for."""
    options = _options(arguments)
    parts = options.parts or PARTS
    document = Document(options.output)
    found, notes = servers.find(options.servers.split(","))
    for note in notes:
        _say(note)
    left_out = "".join(f"{note}. " for note in notes).strip()

    def put(part: str, *pairs: tuple[str, list[str]]) -> None:
        blocks = [block for text, lines in pairs for block in (text, "\n".join(lines))]
        document.put(part, *blocks, *([left_out] if left_out and found else []))
        print("\n\n".join(blocks), end="\n\n", flush=True)

    def form() -> None:
        sizes = _numbers(options.sizes)
        measured = forming.measure(found, sizes, runs=options.runs, say=_say)
        put(
            "forming",
            (_FORMING, forming.healthy_table(measured)),
            (_COST, forming.cost_table(measured)),
            (_AGAIN, forming.again_table(measured)),
        )

    def heal() -> None:
        lines = healing.table(found, nodes=_HEALED_NODES, runs=min(options.runs, 3), say=_say)
        put("healing", (_HEALING, lines))

    def move() -> None:
        wanted = ["--keys", str(options.keys), "--runs", str(options.runs)]
        text = f"{_REBALANCE} {options.keys:,} keys of 100 bytes where no other is named, "
        text += f"{options.runs} runs."
        put("rebalance", (text, rebalance.main(wanted)))

    works: dict[str, Callable[[], None]] = {
        "forming": form,
        "startup": lambda: put("startup", ("## Start-up", _startup())),
        "views": lambda: put("views", (_VIEWS, _views(_numbers(options.views)))),
        "healing": heal,
        "rebalance": move,
    }
    for part in PARTS:
        if part in parts:
            works[part]()


if __name__ == "__main__":
    main()
