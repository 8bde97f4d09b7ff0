"""What a runbook shows for servers on machines, followed to the letter on real servers."""

import re
import subprocess
from collections.abc import Mapping

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support import rig, runbooks
from tests.support.world import World


@pytest.fixture(params=["redis-6.2", "redis-8.6", "valkey-9.1"])
def server_with_cli(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """A server that came with its command-line tool."""
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    return find_server(installed[request.param])


@pytest.mark.redis
def test_cluster_made_by_the_servers_own_tool_is_taken_over_unchanged(
    server_with_cli: ServerBinary,
) -> None:
    """A run beside a cluster that redis-cli has created writes nothing."""
    with World(nodes=6, server=server_with_cli) as world:
        world.start()
        addresses = [f"{pod.address}:{pod.port}" for pod in world.pods]
        create = ["--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(
            [str(server_with_cli.cli), *create], check=True, capture_output=True, timeout=60
        )
        rig.until(lambda: not rig.faults(world))
        before = world.pods[0].command("CLUSTER", "MYID"), slots(world)
        done = runbooks.follow(runbooks.block("adopt.md"), {"HOSTS": ",".join(addresses)})
        assert done.returncode == 0, done.stderr
        assert re.search(r"healthy: exit code 0, \d passes, 0 actions", done.stdout), done.stdout
        assert (world.pods[0].command("CLUSTER", "MYID"), slots(world)) == before


def slots(world: World) -> list[str]:
    """Return the slots that each pod's own line names."""
    lines = [str(pod.command("CLUSTER", "NODES")).splitlines() for pod in world.pods]
    return [line.split(" ", 8)[-1] for each in lines for line in each if "myself" in line]
