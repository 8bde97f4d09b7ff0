"""docs/runbooks/clients.md: what it shows in Python survives the loss of a primary."""

import re
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from redis.cluster import RedisCluster

from bootstrap.sandbox.binary import ServerBinary
from tests.support import runbooks
from tests.support.scenario import PROMPT, make_healthy, owner_of
from tests.support.world import World

PASSWORD = "a password"
WRITES = 200
Patiently: TypeAlias = Callable[..., Any]


def example(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[RedisCluster, Patiently]:
    """Run the example without the lines for TLS, and return its client and what retries."""
    monkeypatch.setenv("REDIS_HOST", world.pods[-1].address)
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    text = re.sub(r"^.*# TLS\n", "", runbooks.block("clients.md"), flags=re.MULTILINE)
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102 - a document of this repository
    return names["client"], names["patiently"]


@pytest.mark.redis
def test_the_python_client_hides_the_loss_of_a_primary(
    server: ServerBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write of the example's client fails while a replica is elected, and all are there."""
    with World(nodes=6, server=server, config=PROMPT, password=PASSWORD) as world:
        world.start()
        make_healthy(world)
        client, patiently = example(world, monkeypatch)
        longest_s = 0.0
        for number in range(WRITES):
            if number == WRITES // 2:
                owner_of(world, 0).kill()
            began = time.monotonic()
            patiently(client.set, f"key:{number}", number)
            longest_s = max(longest_s, time.monotonic() - began)
        values = [client.get(f"key:{number}") for number in range(WRITES // 2, WRITES)]
        assert values == [str(number).encode() for number in range(WRITES // 2, WRITES)]
        sys.stdout.write(f"longest pause {longest_s:.1f} s\n")  # for the text of the runbook
        client.close()
