"""What a runbook shows for servers on machines, followed to the letter on real servers."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support import rig, runbooks
from tests.support.scenario import PROMPT
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


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("server", "only_sandbox")
def test_drills_end_as_the_runbook_says(tmp_path: Path) -> None:
    """Each run of the drills heals without a lost write; a lost shard is refused, then given up."""
    script = tmp_path / "script"
    script.write_text(runbooks.block("repair.md", "runs: drills"))
    result = rig.run({}, "sandbox", "--script", str(script), timeout_s=180)
    assert result.code == 0, result.stderr
    outcomes = re.findall(r"^(healthy|refused)\b.*exit code (\d)", result.stdout, re.MULTILINE)
    healthy = ("healthy", "0")
    assert outcomes == [*[healthy] * 4, ("refused", "3"), healthy], result.stdout
    summaries = re.findall(r"^traffic: .*$", result.stdout, re.MULTILINE)
    assert all(" 0 lost" in line for line in summaries[1:]), result.stdout
    sys.stdout.write("\n".join(summaries))  # for the figures of the runbook


@pytest.mark.redis
def test_servers_on_machines_grow_shrink_and_are_replaced(server: ServerBinary) -> None:
    """What adopt.md says of machines ends healthy, and what it says is refused is refused."""
    with World(nodes=8, server=server, node_timeout_ms=2000, config=PROMPT) as world:
        world.start()
        addresses = [f"{pod.address}:{pod.port}" for pod in world.pods]

        def run(used: list[str], *arguments: str) -> int:
            given = {"BOOTSTRAP_ENDPOINTS": ",".join(used), "BOOTSTRAP_TIMEOUT": "60"}
            return rig.run(given, "run", *arguments).code

        assert run(addresses[:6]) == 0
        assert run(addresses) == 0
        assert run(addresses[:6]) == 3
        assert run(addresses, "--nodes", "6") == 0
        for pod in world.pods[6:]:
            world.remove_pod(pod.ordinal)
        pod = world.pods[1]
        pod.kill()
        pod.wipe()
        pod.move()
        pod.start()
        addresses[1] = f"{pod.address}:{pod.port}"
        assert run(addresses[:6]) == 0
        assert rig.faults(world) == []
