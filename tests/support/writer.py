"""An application that writes without a pause, and tells at the end what it noticed.

Runs in a pod of its own as its first process: writes numbered keys through redis-py's cluster
client until it gets SIGTERM, then reads back every write that was acknowledged, prints one line
of JSON and ends. An error that the client library does not hide is a failed write.
"""

import json
import signal
import sys
import time
from pathlib import Path

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError

HOST, PREFIX, PASSWORD = [*sys.argv[1:], ""][:3]
CA = Path(__file__).with_name("ca.crt")  # of a cluster that speaks TLS
PAUSE_S = 0.002
BATCH = 500
RETRIES = 20


def write(client: RedisCluster, key: str, value: int) -> None:
    """Write one key; redis-py 8.1 stumbles over an ASK to a member it has not read about yet.

    Nor has every node that it reads from: for a second it is asked again.
    """
    for _ in range(RETRIES):
        try:
            client.set(key, value)
        except AttributeError:
            time.sleep(1 / RETRIES)
            client.nodes_manager.initialize()
        else:
            return
    client.set(key, value)


def main() -> None:
    """Write, then check."""
    running = True

    def stop(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    client = RedisCluster(
        startup_nodes=[ClusterNode(HOST, 6379)],
        password=PASSWORD or None,
        socket_timeout=2,
        socket_connect_timeout=2,
        ssl=CA.exists(),
        ssl_ca_certs=str(CA) if CA.exists() else None,
    )
    acknowledged: list[int] = []
    failed: list[str] = []
    longest, number = 0.0, 0
    print(json.dumps({"event": "writing"}), flush=True)
    last = time.monotonic()
    while running:
        number += 1
        try:
            write(client, f"{PREFIX}:{number}", number)
        except (RedisError, OSError) as error:
            failed.append(f"{type(error).__name__}: {error}")
        else:
            acknowledged.append(number)
            longest = max(longest, time.monotonic() - last)
            last = time.monotonic()
        time.sleep(PAUSE_S)

    lost = 0
    for first in range(0, len(acknowledged), BATCH):
        batch = acknowledged[first : first + BATCH]
        pipeline = client.pipeline()
        for known in batch:
            pipeline.get(f"{PREFIX}:{known}")
        values = pipeline.execute()
        lost += sum(v != str(k).encode() for v, k in zip(values, batch, strict=True))
    summary = {
        "event": "written",
        "acknowledged": len(acknowledged),
        "failed": len(failed),
        "lost": lost,
        "longest_pause_s": round(longest, 3),
        "errors": sorted(set(failed))[:5],
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
