"""The world a program meets: the pods of one StatefulSet, and the DNS that names them."""

import atexit
from collections.abc import Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Self

from . import subnet
from .binary import ServerBinary
from .dns import DOMAIN, ZoneServer
from .errors import SandboxError
from .keeper import Keeper
from .pod import Pod

_NO_CONFIG: Mapping[str, str] = MappingProxyType({})
_SERVICE, _NAMESPACE = "redis-service", "default"


class World:
    """Pods on loopback addresses and a DNS server.

    Made with its DNS answering and its pods not started: a pod's records appear when it starts,
    as with a headless Service that publishes addresses that are not ready. Everything ends with
    the world, and the world ends with the process at the latest, also by SIGKILL.

    Args:
        nodes: Pods to begin with.
        server: What they run; a change applies to pods that start later.
        statefulset: Name of the StatefulSet, so of the pods.
        port: Client port of every pod; the bus port is 10000 above.
        node_timeout_ms: ``cluster-node-timeout``; by default that of the manifests.
        config: More directives for redis.conf, values as they stand there.
    """

    zone_server: type[ZoneServer] = ZoneServer

    def __init__(
        self,
        *,
        nodes: int,
        server: ServerBinary,
        statefulset: str = "redis-app",
        port: int = 6379,
        node_timeout_ms: int = 5000,
        config: Mapping[str, str] = _NO_CONFIG,
    ) -> None:
        self.server = server
        self.statefulset = statefulset
        self.service = f"{_SERVICE}.{_NAMESPACE}.svc.{DOMAIN}"
        self.port = port
        self.node_timeout_ms = node_timeout_ms
        self.config = dict(config)
        self.pods: list[Pod] = []
        with ExitStack() as resources:
            self._subnet = subnet.claim(port)
            resources.callback(self._subnet.release)
            self.directory = self._subnet.directory
            self.dns = self.zone_server(self._subnet.dns_address, service=self.service)
            resources.callback(self.dns.close)
            self.keeper = Keeper(held_fd=self._subnet.lock_fd)
            resources.callback(self._end_servers)
            for _ in range(nodes):
                self._make_pod()
            self._resources = resources.pop_all()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start all pods that do not run, together, and return once each answers."""
        stopped = [pod for pod in self.pods if not pod.is_running]
        for pod in stopped:
            pod.start(wait=False)
        for pod in stopped:
            pod.wait_ready()

    def add_pod(self) -> Pod:
        """Start one more pod at the lowest free ordinal, and return it once it answers.

        One that was removed before finds its directory again, as a claim that is retained.
        """
        pod = self._make_pod()
        pod.start()
        return pod

    def remove_pod(self, ordinal: int) -> None:
        """End a pod by SIGTERM and take it out of DNS; its directory stays."""
        pod = next((pod for pod in self.pods if pod.ordinal == ordinal), None)
        if pod is None:
            raise SandboxError(f"there is no pod with ordinal {ordinal}", "see World.pods")
        pod.terminate()
        pod.publish(False)
        self.pods.remove(pod)

    def next_address(self) -> str:
        """Return an address for a pod that no pod has."""
        return self._subnet.next_address([pod.address for pod in self.pods])

    def env(self) -> dict[str, str]:
        """Return the variables that point the program at this world, with the pods it has now."""
        return {
            "BOOTSTRAP_NODES": str(len(self.pods)),
            "BOOTSTRAP_STATEFULSET": self.statefulset,
            "BOOTSTRAP_SERVICE": _SERVICE,
            "BOOTSTRAP_NAMESPACE": _NAMESPACE,
            "BOOTSTRAP_CLUSTER_DOMAIN": DOMAIN,
            "BOOTSTRAP_PORT": str(self.port),
            "BOOTSTRAP_NAMESERVERS": self.dns.nameserver,
        }

    def close(self) -> None:
        """Kill all servers, stop the DNS server, and remove what was temporary; can be repeated."""
        atexit.unregister(self.close)
        self._resources.close()

    def _make_pod(self) -> Pod:
        taken = {pod.ordinal for pod in self.pods}
        ordinal = next(number for number in range(len(taken) + 1) if number not in taken)
        pod = Pod(self, ordinal)
        self.pods.insert(ordinal, pod)
        return pod

    def _end_servers(self) -> None:
        self.keeper.close()
        for pod in self.pods:
            pod.kill()
