"""Which addresses are connected, by what discovery gives; nothing is sent here."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace

import pytest

from bootstrap.core.topology import Absent, Endpoint
from bootstrap.errors import DiscoveryError, StaleViewError
from bootstrap.net.connection import Access
from bootstrap.net.pool import ConnectionPool
from tests.support.builders import endpoint
from tests.support.naming import Names

POD, OTHER = endpoint(0), endpoint(1)
MOVED = replace(POD, addresses=("10.9.9.9",))
ABSENT = Absent(name=POD.name, ordinal=0, phase="dns", cause="the servers are silent", remedy="ask")


async def use(pool: ConnectionPool, pod: Endpoint = POD) -> None:
    await pool.open(pod).call("PING")


def run(work: Coroutine[object, object, None]) -> None:
    asyncio.run(work)


def test_a_pod_that_has_another_address_now_is_not_connected() -> None:
    """The cluster changed after it was observed: the next pass observes it at its address."""
    with pytest.raises(StaleViewError, match=f"{POD.name} is not asked at {POD.addresses[0]}"):
        run(use(ConnectionPool(Access(), Names([MOVED, OTHER]))))


@pytest.mark.parametrize(
    ("names", "cause", "remedy"),
    [
        (Names([OTHER], absent=(ABSENT,)), "the servers are silent", "ask"),
        (Names([OTHER]), "no address", "retried automatically on the next pass"),
    ],
)
def test_a_pod_without_an_address_is_not_connected(names: Names, cause: str, remedy: str) -> None:
    """Without an answer nobody is asked, and the cause is that of discovery."""
    with pytest.raises(DiscoveryError, match=cause) as caught:
        run(use(ConnectionPool(Access(), names)))
    assert caught.value.remedy == remedy


def test_a_recent_answer_is_enough_for_new_connections() -> None:
    """Many lanes are opened at once, and each question is for all pods."""
    names = Names([MOVED])

    async def work() -> None:
        pool = ConnectionPool(Access(), names)
        await pool.find(frozenset({"redis-app-7"}))
        for _ in range(3):
            with pytest.raises(StaleViewError):
                await use(pool)

    run(work())
    assert names.asked == [frozenset({"redis-app-7"})]
