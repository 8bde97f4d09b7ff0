"""A client that writes all the time and knows which writes must never be lost.

A write counts as acknowledged once every replica of its primary has it, as `WAIT` says: Redis
promises no more than that where a primary is lost.
"""

from __future__ import annotations

import random
import threading
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError
from redis.retry import Retry

from tests.support.scenario import client
from tests.support.world import World

TAGS = 50
BATCH = 1000
PAUSE_S = 0.002
_WAIT_MS = 300


class Traffic:
    """Overwrites numbered keys with rising versions in a thread of its own.

    Attributes:
        acknowledged: Writes that every replica had.
        unacknowledged: Writes that failed, or may have.
    """

    def __init__(self, world: World, *, seed: int) -> None:
        self.acknowledged = 0
        self.unacknowledged = 0
        self._world = world
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._versions = [0] * TAGS
        self._owners: dict[int, tuple[str, int]] = {}
        self._connections: dict[tuple[str, int], Redis] = {}

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(30)
        for connection in self._connections.values():
            connection.close()

    def _work(self) -> None:
        version = 0
        while not self._stop.wait(PAUSE_S):
            version += 1
            tag = self._random.randrange(TAGS)
            # Once more, since the first try may only have found out who owns the slot.
            if self._write(tag, version) or self._write(tag, version):
                self._versions[tag] = version
                self.acknowledged += BATCH
            else:
                self.unacknowledged += BATCH

    def _write(self, tag: int, version: int) -> bool:
        """Write the keys of a tag, all of one slot; return whether all replicas have them."""
        slot = key_slot(_key(tag, 0).encode())
        address = self._owners.get(slot) or self._any()
        try:
            pipeline = self._connection(address).pipeline(transaction=False)
            for number in range(BATCH):
                pipeline.set(_key(tag, number), version)
            pipeline.execute_command("ROLE")
            pipeline.execute_command("WAIT", 1, _WAIT_MS)
            *replies, role, waited = pipeline.execute(raise_on_error=False)
        except (RedisError, OSError):
            self._owners.pop(slot, None)
            if connection := self._connections.pop(address, None):
                connection.close()
            return False
        if isinstance(replies[0], MovedError):
            self._owners[slot] = (replies[0].host, replies[0].port)
        if not all(reply is True for reply in replies):
            return False
        self._owners[slot] = address
        replicas = len(role[2])
        if replicas > 1:
            waited = self._connection(address).execute_command("WAIT", replicas, _WAIT_MS)
        return bool(0 < replicas <= waited)

    def _any(self) -> tuple[str, int]:
        pod = self._random.choice(self._world.pods)
        return pod.address, pod.port

    def _connection(self, address: tuple[str, int]) -> Redis:
        if address not in self._connections:
            ip, port = address
            # Without the library's own retries, which take seconds for each pod that is down.
            self._connections[address] = Redis(
                host=ip,
                port=port,
                socket_timeout=2,
                single_connection_client=True,
                retry=Retry(NoBackoff(), 0),
            )
        return self._connections[address]

    def lost(self) -> int:
        """Return how many keys have an older version than the last acknowledged one."""
        cluster, missing = client(self._world), 0
        for tag, version in enumerate(self._versions):
            pipeline = cluster.pipeline()
            for number in range(BATCH):
                pipeline.get(_key(tag, number))
            missing += sum(int(value or 0) < version for value in pipeline.execute())
        cluster.close()
        return missing


def _key(tag: int, number: int) -> str:
    return f"traffic:{{{tag}}}:{number}"
