"""Fresh servers to a healthy cluster, a second run, and what both cost."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.program import Outcome, ended_in, ours, theirs, unwatched
from bench.servers import Server
from bootstrap.sandbox.world import World

Lines = list[str]
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


def healthy_table(measured: Sequence[Series]) -> Lines:
    """Return the seconds until healthy, and until the command ended."""
    lines = [
        (
            "| servers | nodes | runs | CLI ends, s | CLI healthy, s | ours ends, s "
            "| ours healthy, s | CLI / ours |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in measured:
        our_s = _median(each.ours, lambda o: o.healthy_s)
        their_s = _median(each.theirs, lambda o: o.healthy_s)
        figures = [
            _median(each.theirs, lambda o: o.ended_s),
            their_s,
            _median(each.ours, lambda o: o.ended_s),
            our_s,
            their_s / our_s,
        ]
        cells = " | ".join(f"{figure:.1f}" for figure in figures).replace("nan", "-")
        lines.append(f"| {each.server.title} | {each.nodes} | {len(each.ours)} | {cells} |")
    return lines


def cost_table(measured: Sequence[Series]) -> Lines:
    """Return what a run that creates sends and holds."""
    lines = [
        (
            "| servers | nodes | passes | commands | of these writes | round trips "
            "| round trips a pass and node | peak MB |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_cost_line(each, each.ours) for each in measured]
    return lines


def again_table(measured: Sequence[Series]) -> Lines:
    """Return what a run costs that finds everything healthy."""
    bare_s = statistics.median(ended_in("-c", "pass") for _ in range(_AGAIN))
    lines = [
        (
            "| servers | nodes | seconds | without the interpreter | passes | commands "
            "| of these writes | round trips | round trips a pass and node | peak MB |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for each in measured:
        seconds = _median(each.again, lambda o: o.ended_s)
        timing = f"| {seconds:.2f} | {seconds - bare_s:.2f} "
        head, nodes, rest = _cost_line(each, each.again)[1:].split("|", 2)
        lines.append(f"|{head}|{nodes}{timing}|{rest}")
    return lines


def _cost_line(series: Series, outcomes: Sequence[Outcome]) -> str:
    def told(name: str) -> float:
        return _median(outcomes, lambda o: o.last[name])

    passes, trips = told("passes"), told("round_trips")
    return (
        f"| {series.server.title} | {series.nodes} | {passes:.0f} | {told('commands'):.0f} "
        f"| {told('write_commands'):.0f} | {trips:.0f} "
        f"| {trips / passes / series.nodes:.2f} | {_median(outcomes, lambda o: o.peak_mb):.0f} |"
    )
