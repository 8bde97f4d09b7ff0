"""What applications do to the cluster: write keys, and notice what fails, is lost, or waits."""

import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

Connect: TypeAlias = Callable[[], RedisCluster]

ERRORS = (RedisError, RedisClusterException, OSError)
_ANSWER_S = 1.0
_TRIED_S = 1.0
_PAUSE_S = 0.005
_KEYS = 1000
_BATCH = 500
_VALUE = "x" * 100


def client(addresses: list[tuple[str, int]]) -> RedisCluster:
    """Connect as an application does that knows these addresses."""
    nodes = [ClusterNode(*address) for address in addresses]  # type: ignore[no-untyped-call]  # redis-py
    return RedisCluster(
        startup_nodes=nodes,
        socket_timeout=_ANSWER_S,
        socket_connect_timeout=_ANSWER_S,
        decode_responses=True,
    )


def load(redis: RedisCluster, first: int, count: int) -> None:
    """Write numbered keys."""
    for start in range(first, first + count, _BATCH):
        with redis.pipeline() as pipeline:  # type: ignore[no-untyped-call]  # redis-py
            for number in range(start, min(start + _BATCH, first + count)):
                pipeline.set(f"key:{number}", _VALUE)
            pipeline.execute()


class Traffic:
    """An application that writes without a pause, over and over the same keys, until stopped.

    It tries each write for a second, on a new connection after an error, as client libraries and
    applications do. A write that has no answer by then has failed; one that had an answer and is
    not there later is lost.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._client: RedisCluster | None = None
        self._acknowledged: dict[str, int] = {}
        self._written = self._failed = 0
        self._longest_s = 0.0
        self._last = time.monotonic()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._write, name="sandbox-traffic", daemon=True)
        self._thread.start()

    def stop(self) -> str:
        """Stop writing; return the summary."""
        summary = self.summary()
        self._ends.set()
        self._thread.join()
        return summary

    def summary(self) -> str:
        """Return what the application has noticed so far."""
        longest_s = max(self._longest_s, time.monotonic() - self._last)
        return (
            f"traffic: {self._written} writes, {self._failed} failed, {self._lost()} lost, "
            f"longest pause {longest_s:.1f} s"
        )

    def _write(self) -> None:
        number = 0
        while not self._ends.wait(_PAUSE_S):
            number += 1
            key = f"traffic:{number % _KEYS}"
            if not self._is_written(key, number):
                self._failed += 1
                continue
            self._written += 1
            self._acknowledged[key] = number
            now = time.monotonic()
            self._longest_s = max(self._longest_s, now - self._last)
            self._last = now

    def _is_written(self, key: str, number: int) -> bool:
        began = time.monotonic()
        while True:
            try:
                self._client = self._client or self._connect()
                self._client.set(key, number)
            # redis-py 8.1 stumbles over an ASK to a member that it has not read about yet.
            except (*ERRORS, AttributeError):
                self._client = None
                if time.monotonic() - began > _TRIED_S or self._ends.wait(10 * _PAUSE_S):
                    return False
            else:
                return True

    def _lost(self) -> int | str:
        """Return how many acknowledged writes are not there, if the cluster can say."""
        acknowledged = dict(self._acknowledged)
        if not acknowledged:
            return 0
        try:
            with self._connect() as redis:
                values = redis.mget_nonatomic(list(acknowledged))
        except ERRORS:
            return "unknown"
        pairs = zip(values, acknowledged.values(), strict=True)
        return sum(int(value or 0) < number for value, number in pairs)
