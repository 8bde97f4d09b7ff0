"""docs/runbooks/valkey.md, followed to the letter on real servers while an application writes."""

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox import traffic
from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.errors import SandboxError
from tests.support import rig, runbooks
from tests.support.commands import commands
from tests.support.scenario import DURABLE, fill, lost, make_healthy, primaries, replicas
from tests.support.world import World

KEYS = 5000
CONFIG = {**DURABLE, "appendfsync": "everysec"}

pytestmark = pytest.mark.redis


def find(name: str, installed: Mapping[str, str]) -> ServerBinary:
    """Return a server that is installed here."""
    if name not in installed:
        pytest.skip(f"{name} is not installed: run scripts/get-servers")
    return find_server(installed[name])


@pytest.mark.slow
@pytest.mark.parametrize("newer", ["valkey-8.1", "valkey-9.1"])
def test_redis_becomes_valkey_while_an_application_writes(
    newer: str, installed: Mapping[str, str], tmp_path: Path
) -> None:
    """After the steps all members run Valkey; no write has failed and none is lost."""
    redis, valkey = find("redis-7.0", installed), find(newer, installed)
    with World(nodes=6, server=redis, config=CONFIG) as world:
        world.start()
        make_healthy(world)
        fill(world, KEYS)
        pods = {f"{pod.address}:{pod.port}": pod for pod in world.pods}
        world.server = valkey

        def restart(arguments: list[str]) -> str:
            pods[arguments[0]].terminate()
            pods[arguments[0]].start()
            return ""

        cli = tmp_path / "valkey-cli"
        cli.write_text(f'#!/bin/sh\nexec {shlex.quote(str(redis.cli))} "$@"\n')
        cli.chmod(0o755)
        addresses = [(pod.address, pod.port) for pod in world.pods]
        application = traffic.Traffic(lambda: traffic.client(addresses))
        with commands(tmp_path / "bin", {"restart-as-valkey": restart}) as path:
            began = time.monotonic()
            done = runbooks.follow(
                runbooks.block("valkey.md"),
                {"HOSTS": ",".join(pods), "PATH": f"{tmp_path}:{path}"},
                timeout_s=120,
            )
            seconds = time.monotonic() - began
        summary = application.stop()

        assert done.returncode == 0, done.stderr
        sys.stdout.write(f"{newer}: {seconds:.0f} s, {summary}\n")  # for the table of the runbook
        assert " 0 failed, 0 lost" in summary
        assert lost(world, KEYS) == 0
        assert rig.faults(world) == []
        for pod in world.pods:
            assert rig.info_of(pod, "INFO", "server")["server_name"].strip() == "valkey"


def test_replica_goes_back_to_redis_with_an_empty_volume(installed: Mapping[str, str]) -> None:
    """Before the first hand-over a Valkey replica becomes Redis again by a new volume."""
    redis, valkey = find("redis-7.0", installed), find("valkey-9.1", installed)
    with World(nodes=6, server=redis, node_timeout_ms=2000, config=CONFIG) as world:
        world.start()
        make_healthy(world)
        fill(world, KEYS)
        pod = replicas(world)[-1]
        pod.terminate()
        world.server = valkey
        pod.start()
        make_healthy(world)
        pod.terminate()
        pod.wipe()
        world.server = redis
        pod.start()
        make_healthy(world)
        assert lost(world, KEYS) == 0


@pytest.mark.parametrize("name", ["redis-8.0", "redis-8.6"])
def test_a_member_of_redis_8_does_not_start_as_valkey(
    name: str, installed: Mapping[str, str]
) -> None:
    """Valkey ends at once on the files of Redis 8, and Redis starts on them again."""
    redis, valkey = find(name, installed), find("valkey-9.1", installed)
    with World(nodes=6, server=redis, node_timeout_ms=2000, config=CONFIG) as world:
        world.start()
        make_healthy(world)
        fill(world, KEYS)
        pod = replicas(world)[-1]
        pod.terminate()
        world.server = valkey
        with pytest.raises(SandboxError, match="ended at once"):
            pod.start()
        world.server = redis
        pod.start()
        make_healthy(world)
        assert lost(world, KEYS) == 0
        assert len(primaries(world)) == 3
