"""docs/runbooks/clients.md: what it shows in Python survives the loss of a primary."""

import re
import time
from collections.abc import Mapping

import pytest
from redis.cluster import RedisCluster

from bootstrap.sandbox.binary import ServerBinary
from tests.support import runbooks
from tests.support.scenario import PROMPT, make_healthy, owner_of
from tests.support.world import World

PASSWORD = "a password"
WRITES = 200


def connect(world: World, monkeypatch: pytest.MonkeyPatch) -> RedisCluster:
    """Run the example without the lines for TLS, and return its client."""
    monkeypatch.setenv("REDIS_HOST", world.pods[-1].address)
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    example = re.sub(r"^.*# TLS\n", "", runbooks.block("clients.md"), flags=re.MULTILINE)
    names: Mapping[str, object] = {}
    exec(example, names)  # type: ignore[arg-type]  # noqa: S102 - our own document
    client = names["client"]
    assert isinstance(client, RedisCluster)
    return client


@pytest.mark.redis
def test_the_python_client_hides_the_loss_of_a_primary(
    server: ServerBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write of the example's client fails while a replica is elected, and all are there."""
    with World(nodes=6, server=server, config=PROMPT, password=PASSWORD) as world:
        world.start()
        make_healthy(world)
        client = connect(world, monkeypatch)
        longest_s = 0.0
        for number in range(WRITES):
            if number == WRITES // 2:
                owner_of(world, 0).kill()
            began = time.monotonic()
            client.set(f"key:{number}", number)
            longest_s = max(longest_s, time.monotonic() - began)
        assert client.get("greeting") == b"hello"
        assert longest_s < 20
        client.close()
