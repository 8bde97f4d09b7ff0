"""Fresh servers to a healthy cluster, a second run, and what both cost."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.program import Outcome, ended_in, ours, theirs, unwatched
from bench.servers import Server
from bench.tables import Row
from bootstrap.sandbox.world import World

_AGAIN = 5


@dataclass(kw_only=True)
class Series:
    """All runs at one size on one server."""

    server: Server
    nodes: int
    ours: list[Outcome] = field(default_factory=list)
    theirs: list[Outcome] = field(default_factory=list)
    again: list[Outcome] = field(default_factory=list)


def measure(
    servers: Sequence[Server], sizes: Sequence[int], *, runs: int, say: Callable[[str], None]
) -> list[Series]:
    """Create clusters in turns, ours and theirs, and run ours again on each of ours."""
    measured = []
    for nodes in sizes:
        for server in servers:
            series = Series(server=server, nodes=nodes)
            for number in range(_repeats(nodes, runs)):
                _one_turn(series)
                say(f"{server.title}, {nodes} nodes, run {number + 1}: {_figures(series)}")
            measured.append(series)
    return measured


def _repeats(nodes: int, runs: int) -> int:
    return runs if nodes < 30 else max(1, min(runs, 2 if nodes < 100 else 1))


def _one_turn(series: Series) -> None:
    with World(nodes=series.nodes, server=series.server.binary, node_timeout_ms=15000) as world:
        world.start()
        series.ours.append(ours(world))
        series.again += [unwatched(world) for _ in range(_AGAIN)]
    if series.server.cli is not None:
        with World(nodes=series.nodes, server=series.server.binary, node_timeout_ms=15000) as world:
            world.start()
            series.theirs.append(theirs(world, series.server))


def _figures(series: Series) -> str:
    words = [f"ours {series.ours[-1].healthy_s:.1f} s"]
    if series.theirs:
        words.append(f"{series.server.tool} {series.theirs[-1].healthy_s:.1f} s")
    return ", ".join(words)


def _median(outcomes: Sequence[Outcome], choose: Callable[[Outcome], float]) -> float:
    return statistics.median(map(choose, outcomes)) if outcomes else float("nan")


def healthy_rows(measured: Sequence[Series]) -> list[Row]:
    """Return the seconds until healthy, and until the command ended."""
    rows = []
    for each in measured:
        our_s = _median(each.ours, lambda o: o.healthy_s)
        their_s = _median(each.theirs, lambda o: o.healthy_s)
        figures: Row = {
            "runs": len(each.ours),
            "cli_ends_s": _median(each.theirs, lambda o: o.ended_s),
            "cli_healthy_s": their_s,
            "ours_ends_s": _median(each.ours, lambda o: o.ended_s),
            "ours_healthy_s": our_s,
            "ratio": their_s / our_s,
        }
        rows.append(_named(each) | figures)
    return rows


def cost_rows(measured: Sequence[Series]) -> list[Row]:
    """Return what a run that creates sends and holds."""
    return [_named(each) | _cost(each, each.ours) for each in measured]


def again_rows(measured: Sequence[Series]) -> list[Row]:
    """Return what a run costs that finds everything healthy."""
    bare_s = statistics.median(ended_in("-c", "pass") for _ in range(_AGAIN))
    rows = []
    for each in measured:
        seconds = _median(each.again, lambda o: o.ended_s)
        timing: Row = {"seconds": seconds, "without_interpreter_s": seconds - bare_s}
        rows.append(_named(each) | timing | _cost(each, each.again))
    return rows


def _named(series: Series) -> Row:
    return {"servers": series.server.title, "nodes": series.nodes}


def _cost(series: Series, outcomes: Sequence[Outcome]) -> Row:
    def told(name: str) -> float:
        return _median(outcomes, lambda o: o.last[name])

    passes, trips = told("passes"), told("round_trips")
    return {
        "passes": passes,
        "commands": told("commands"),
        "writes": told("write_commands"),
        "round_trips": trips,
        "round_trips_per_pass_and_node": trips / passes / series.nodes,
        "peak_mb": _median(outcomes, lambda o: o.peak_mb),
    }
