"""What one pass costs at sizes that do not run here: synthetic replies through the real observer.

Every reply is made when it is asked for, as it would come out of a socket, and that time is taken
off. `python -m bench.views NODES healthy|fresh` prints the figures of one size as JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

from bench.measured import peak_kib
from bootstrap.core import planner
from bootstrap.core.slots import even_split
from bootstrap.core.topology import DesiredTopology, Endpoint
from bootstrap.net import pool as pooling
from bootstrap.net.connection import Access, RedisNode
from bootstrap.net.discovery import Found
from bootstrap.net.observer import Observer
from bootstrap.net.pool import ConnectionPool

STATES = ("healthy", "fresh")
_REPLICAS = 1
_INFO = b"redis_version:8.6.0\r\nrun_id:%b\r\ncluster_enabled:1\r\nmaster_link_status:up\r\n"
_HELP = [b"ADDSLOTSRANGE <start slot> <end slot>", b"MYSHARDID"]


class Cloud:
    """Replies of a cluster that does not exist."""

    making_s = 0.0

    def __init__(self, nodes: int, state: str) -> None:
        self.nodes = nodes
        primaries = nodes // (_REPLICAS + 1)
        split = even_split(primaries)
        self.ids = [f"{number:040x}" for number in range(nodes)]
        self._ip = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(nodes)]
        self._is_healthy = state == "healthy"
        self._lines = []
        for number, node_id in enumerate(self.ids):
            address = f"{self._ip[number]}:6379@16379"
            if number < primaries:
                slots = str(split[number]).replace(",", " ")
                role = f"master - 0 %s {number + 1} connected {slots}"
            else:
                role = f"slave {self.ids[number % primaries]} 0 %s {number % primaries} connected"
            self._lines.append((f"{node_id} {address} ", role))

    def replies(self, number: int, commands: Sequence[Sequence[str]]) -> list[object]:
        """Return what a node answers; ping times differ from node to node, as they do."""
        began = time.monotonic()
        info = _INFO % self.ids[number].encode()
        state = b"cluster_state:%b\r\ncluster_current_epoch:%d\r\n"
        if self._is_healthy:
            lines = [
                f"{head}{'myself,' if index == number else ''}{role % (1700000000000 + number)}"
                for index, (head, role) in enumerate(self._lines)
            ]
        else:
            lines = [f"{self.ids[number]} :6379@16379 myself,master - 0 0 0 connected"]
        text = "\n".join(lines).encode()
        values = (b"ok", self.nodes // 2) if self._is_healthy else (b"fail", 0)
        config = [b"cluster-node-timeout", b"15000", b"cluster-replica-no-failover", b"no"]
        answers = [info, state % values, text, config, _HELP][: len(commands)]
        Cloud.making_s += time.monotonic() - began
        return list(answers)


def _node_class(cloud: Cloud) -> type[RedisNode]:
    class MadeUpNode(RedisNode):
        """A connection that answers at once."""

        @property
        def is_connected(self) -> bool:
            return True

        async def pipeline(self, commands: Any, **_: Any) -> Any:  # noqa: ANN401 - stands in
            return cloud.replies(int(self.name), commands)

    return MadeUpNode


class _Found:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def find(self, silent: Collection[str] = ()) -> Found:  # noqa: ARG002 - they are fixed
        return Found(
            endpoints=tuple(
                Endpoint(name=str(i), host=str(i), ordinal=i, addresses=(ip,), port=6379)
                for i, ip in enumerate(self._cloud._ip)  # noqa: SLF001 - one file
            ),
            absent=(),
        )


async def figures(nodes: int, state: str) -> dict[str, float]:
    """Return seconds of reading and of diagnosing and planning, and the peak memory in MB."""
    cloud = Cloud(nodes, state)
    vars(pooling)["RedisNode"] = _node_class(cloud)  # the only seam below the observer
    desired = DesiredTopology(nodes=nodes, replicas=_REPLICAS)
    observer = Observer(pool=ConnectionPool(Access(), _Found(cloud)))
    before = peak_kib()
    began = time.monotonic()
    view = await observer.observe()
    read_s = time.monotonic() - began - Cloud.making_s
    began = time.monotonic()
    plan = planner.plan(view, desired, planner.Policy())
    plan_s = time.monotonic() - began
    if plan.is_healthy is not (state == "healthy"):
        raise RuntimeError(plan.findings[:3])
    return {
        "lines": sum(len(node.known) for node in view.nodes),
        "read_s": read_s,
        "plan_s": plan_s,
        "actions": len(plan.actions),
        "peak_mb": peak_kib() / 1024,
        "before_mb": before / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(figures(int(sys.argv[1]), sys.argv[2]))))
