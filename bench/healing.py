"""All pods come back on new addresses with their volumes: how long until healthy again."""

import statistics
from collections.abc import Callable, Sequence

from bench.program import Outcome, ours
from bench.servers import Server
from bench.tables import Row
from bootstrap.sandbox.world import World


def rows(
    servers: Sequence[Server], *, nodes: int, runs: int, say: Callable[[str], None]
) -> list[Row]:
    """Return the seconds from the start of the run until healthy, and whether roles stayed."""
    measured: list[Row] = []
    for server in servers:
        outcomes, kept = [], True
        for _ in range(runs):
            outcome, same = _heal(server, nodes)
            outcomes.append(outcome)
            kept = kept and same
            say(f"{server.title}, {nodes} nodes on new addresses: {outcome.healthy_s:.1f} s")
        measured.append(
            {
                "servers": server.title,
                "nodes": nodes,
                "runs": runs,
                "ends_s": statistics.median(o.ended_s for o in outcomes),
                "healthy_s": statistics.median(o.healthy_s for o in outcomes),
                "roles_kept": "yes" if kept else "no",
            }
        )
    return measured


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
