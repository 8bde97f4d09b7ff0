"""All pods come back on new addresses with their volumes: how long until healthy again."""

import statistics
from collections.abc import Callable, Sequence

from bench.program import Outcome, ours
from bench.servers import Server
from bootstrap.sandbox.world import World


def table(
    servers: Sequence[Server], *, nodes: int, runs: int, say: Callable[[str], None]
) -> list[str]:
    """Return the seconds from the start of the run until healthy, and whether roles stayed."""
    lines = [
        "| servers | nodes | runs | ends, s | healthy, s | roles kept |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for server in servers:
        outcomes, kept = [], True
        for _ in range(runs):
            outcome, same = _heal(server, nodes)
            outcomes.append(outcome)
            kept = kept and same
            say(f"{server.title}, {nodes} nodes on new addresses: {outcome.healthy_s:.1f} s")
        ended = statistics.median(o.ended_s for o in outcomes)
        healthy = statistics.median(o.healthy_s for o in outcomes)
        lines.append(
            f"| {server.title} | {nodes} | {runs} | {ended:.1f} | {healthy:.1f} "
            f"| {'yes' if kept else 'no'} |"
        )
    return lines


def _heal(server: Server, nodes: int) -> tuple[Outcome, bool]:
    with World(nodes=nodes, server=server.binary, node_timeout_ms=15000) as world:
        world.start()
        ours(world)
        before = _roles(world)
        for pod in world.pods:
            pod.kill()
        for pod in world.pods:
            pod.move()
        world.start()
        outcome = ours(world)
        return outcome, before == _roles(world)


def _roles(world: World) -> list[str]:
    return [str(pod.command("ROLE")).partition(",")[0] for pod in world.pods]
