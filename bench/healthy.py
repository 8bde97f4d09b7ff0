"""When is a cluster healthy? Checked from outside, in the same way for every tool.

The judge is the tests' own check, which reads every node's view and shares no code with the
program. It is not cheap, so two cheaper questions come first; both are necessary conditions, so
they do not change the moment that the judge alone would find.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootstrap.sandbox.client import Client
from bootstrap.sandbox.world import World
from tests.support import rig

_SHORTEST_POLL_S = 0.03
_MOST_OF_TIME = 0.2
_TIMEOUT_S = 10.0


class Observation:
    """Waits in the background for the moment at which a world is healthy."""

    def __init__(self, world: World, *, replicas: int = 1) -> None:
        self._world = world
        self._replicas = replicas
        self._healthy_at: float | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def wait(self, seconds: float) -> float | None:
        """Return the moment, or None when it did not come within some seconds."""
        self._thread.join(seconds)
        self._ends.set()
        self._thread.join()
        return self._healthy_at

    def _watch(self) -> None:
        with ExitStack() as stack:
            connections = [
                stack.enter_context(Client(pod.address, pod.port, timeout_s=_TIMEOUT_S))
                for pod in self._world.pods
            ]
            while not self._ends.is_set():
                looked_at = time.monotonic()
                if _agree(connections) and not rig.faults(self._world, replicas=self._replicas):
                    self._healthy_at = looked_at
                    return
                spent = time.monotonic() - looked_at
                self._ends.wait(max(_SHORTEST_POLL_S, spent * (1 / _MOST_OF_TIME - 1)))


@contextmanager
def watched(world: World, *, replicas: int = 1) -> Iterator[Observation]:
    """Watch a world from now on."""
    observation = Observation(world, replicas=replicas)
    observation._thread.start()  # noqa: SLF001 - the two belong together
    try:
        yield observation
    finally:
        observation.wait(0)


def _agree(connections: list[Client]) -> bool:
    """Return whether all say ok, have their links and tell the same members, roles and slots."""
    for connection in connections:
        if "cluster_state:ok" not in str(connection.call("CLUSTER", "INFO")):
            return False
        if "master_link_status:down" in str(connection.call("INFO", "replication")):
            return False
    tellings = {_telling(str(each.call("CLUSTER", "NODES"))) for each in connections}
    return len(tellings) == 1


def _telling(nodes: str) -> frozenset[tuple[str, ...]]:
    """Return id, role, primary and slots of each line; not address, times, epoch and link."""
    facts = set()
    for line in nodes.splitlines():
        node_id, _, flags, primary, _, _, _, _, *slots = line.split(" ")
        facts.add((node_id, flags.removeprefix("myself,"), primary, *slots))
    return frozenset(facts)
