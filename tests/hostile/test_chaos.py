"""Real servers behind a proxy that replaces, delays and cuts replies: nothing is ever lost.

Each run may fail, but only as declared; once the proxy is honest the next run makes the cluster
healthy, with every key.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.errors import ReplyError
from tests.support import chaos, rig
from tests.support.peers import listening
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]

KEYS = 100
SEEDS = int(os.environ.get("CHAOS_SEEDS", "1"))
TRIES = 6


@pytest.fixture(params=["redis-7.0", "redis-8.6", "embedded"])
def way_server(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """A server of each way to move slots."""
    if request.param == "embedded":
        server: ServerBinary = request.getfixturevalue("server")
        return server
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed")
    return find_server(installed[request.param])


def answers(world: World, *command: str) -> list[str]:
    """Return what the servers say, past the proxy; an error is no answer."""
    found = []
    for pod in world.pods:
        with suppress(ReplyError):
            found.append(str(pod.command(*command)))
    return found


def fill(world: World) -> None:
    """Write keys at their owners."""
    for number in range(KEYS):
        assert answers(world, "SET", f"key:{number}", str(number)) == ["OK"]


def lost(world: World) -> list[int]:
    """Return the keys that do not read back from their owner."""
    return [n for n in range(KEYS) if answers(world, "GET", f"key:{n}") != [str(n)]]


def reach(world: World, proxy: chaos.Chaos, *, nodes: int) -> None:
    """Run until it is healthy; each failure is a declared one."""
    variables = {
        **world.env(),
        "BOOTSTRAP_PORT": str(chaos.PORT),
        "BOOTSTRAP_NODES": str(nodes),
        "BOOTSTRAP_REPLICAS": "0",
        "BOOTSTRAP_TIMEOUT": "30",
    }
    for _ in range(TRIES):
        result = rig.run(variables, timeout_s=120)
        assert result.code in {0, 2, 3, 4, 5}, result.stderr
        assert "Traceback" not in result.stderr, result.stderr
        if result.code == 0:
            break
    else:
        proxy.limit = 0
        result = rig.run({**variables, "BOOTSTRAP_TIMEOUT": "90"}, timeout_s=180)
        assert result.code == 0, result.stderr
    assert rig.faults(world, replicas=0, pods=world.pods[:nodes]) == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_behind_a_proxy_that_lies(
    way_server: ServerBinary, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """Form, grow and shrink, each until it is healed; every key is there after each."""
    with (
        World(nodes=4, server=way_server, port=chaos.REAL_PORT, config=chaos.CONFIG) as world,
        ExitStack() as stack,
    ):
        for pod in world.pods:
            pod.config["bind-source-addr"] = pod.address
        world.start()
        for pod in world.pods:
            world.dns.publish(pod.name, pod.address, port=chaos.PORT)
        proxy = chaos.Chaos(seed=seed, odds=0.02)
        for pod in world.pods:
            stack.enter_context(listening(pod.address, chaos.PORT, proxy.talk(pod.address)))
        is_empty = True
        for nodes in (3, 4, 3):
            proxy.limit = proxy.struck + 12
            reach(world, proxy, nodes=nodes)
            proxy.limit = 0
            if is_empty:
                fill(world)
                is_empty = False
            assert lost(world) == []
    record_property("chaos", f"{proxy.replaced} replaced, {proxy.delayed} delayed, {proxy.cut} cut")
