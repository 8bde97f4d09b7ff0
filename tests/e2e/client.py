"""An application that writes without a pause and keeps a ledger of what was acknowledged."""

import threading
import time

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError


class Writer:
    """Write numbered keys in a thread, and tell afterwards what a user of the cluster noticed."""

    def __init__(self, host: str, *, port: int = 6379, prefix: str = "w") -> None:
        """Start to write to the cluster that answers at this address."""
        self.failed: list[str] = []
        self.acknowledged = 0
        self.longest_pause_s = 0.0
        self._prefix = prefix
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port)], socket_timeout=2, socket_connect_timeout=2
        )
        self._stop = threading.Event()
        self._ledger: list[int] = []
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        last = time.monotonic()
        while not self._stop.is_set():
            number += 1
            try:
                self._client.set(f"{self._prefix}:{number}", number)
            except (RedisError, OSError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
            else:
                self._ledger.append(number)
                self.acknowledged += 1
                now = time.monotonic()
                self.longest_pause_s = max(self.longest_pause_s, now - last)
                last = now
            self._stop.wait(0.002)

    def lost(self) -> int:
        """Count the acknowledged writes that the cluster does not have any more."""
        keys = [f"{self._prefix}:{number}" for number in self._ledger]
        lost = 0
        for first in range(0, len(keys), 500):
            pipeline = self._client.pipeline()
            for key in keys[first : first + 500]:
                pipeline.get(key)
            values = pipeline.execute()
            lost += sum(
                value != str(number).encode()
                for value, number in zip(
                    values, self._ledger[first : first + 500], strict=True
                )
            )
        return lost

    def told(self) -> str:
        """Say in one line how it went."""
        return (
            f"{self.acknowledged} writes acknowledged, {len(self.failed)} failed, {self.lost()} lost, "
            f"longest pause {self.longest_pause_s:.2f} s"
        )
