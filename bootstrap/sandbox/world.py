"""The world a program meets: the pods of one StatefulSet, and the DNS that names them."""

import atexit
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from . import subnet
from .binary import ServerBinary
from .conf import ServerSettings
from .dns import ZoneServer
from .errors import ReplyError, SandboxError
from .keeper import Keeper
from .pod import Place, Pod

__all__ = ["Place", "Pod", "ReplyError", "SandboxError", "World"]

_NO_CONFIG: Mapping[str, str] = MappingProxyType({})


class World:
    """Pods on loopback addresses and a DNS server; a context manager.

    Made with its DNS answering and its pods not started: a pod's records appear when it starts,
    as with a headless Service that publishes addresses that are not ready. Everything ends with
    the world, and the world ends with the process at the latest, also by SIGKILL.

    Attributes:
        dns: The DNS server.
        directory: Where the pods' directories are.
        pods: Pods in the order of their ordinals.
        port: Client port of every pod.
    """

    def __init__(
        self,
        *,
        nodes: int,
        server: ServerBinary,
        directory: Path | None = None,
        statefulset: str = "redis-app",
        service: str = "redis-service",
        namespace: str = "default",
        cluster_domain: str = "cluster.local",
        port: int = 6379,
        node_timeout_ms: int = 5000,
        config: Mapping[str, str] = _NO_CONFIG,
        places: Sequence[Place] | None = None,
        appendonly: bool = False,
        password: str | None = None,
    ) -> None:
        """Claim addresses and start the DNS server.

        Args:
            nodes: Pods to begin with.
            server: What they run.
            directory: Where to keep their data; by default it goes with the world.
            statefulset: Name of the StatefulSet, so of the pods.
            service: Name of the headless Service.
            namespace: Their namespace.
            cluster_domain: The cluster's DNS zone.
            port: Client port of every pod; the bus port is 10000 above.
            node_timeout_ms: ``cluster-node-timeout``; by default that of the manifests.
            config: More directives for redis.conf, values as they stand there.
            places: Zone and Kubernetes node by ordinal, published where the server can.
            appendonly: Keep the data over restarts.
            password: Of the default user, on every pod.

        Raises:
            SandboxError: This machine has no free addresses.
        """
        self.port = port
        self.pods: list[Pod] = []
        self._settings = ServerSettings(
            server=server,
            node_timeout_ms=node_timeout_ms,
            appendonly=appendonly,
            password=password,
            config=dict(config),
        )
        self._names = (statefulset, service, namespace, cluster_domain)
        self._service_fqdn = f"{service}.{namespace}.svc.{cluster_domain}"
        self._places = tuple(places or ())
        with ExitStack() as resources:
            self._subnet = subnet.claim(port)
            resources.callback(self._subnet.release)
            self.directory = self._subnet.directory if directory is None else directory.absolute()
            self.dns = ZoneServer(
                self._subnet.dns_address, service=self._service_fqdn, zone=cluster_domain
            )
            resources.callback(self.dns.close)
            self._keeper = Keeper(held_fd=self._subnet.lock_fd)
            resources.callback(self._end_servers)
            for _ in range(nodes):
                self._make_pod()
            self._resources = resources.pop_all()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all pods that do not run, together, and return once each answers."""
        stopped = [pod for pod in self.pods if not pod.is_running]
        for pod in stopped:
            pod.start(wait=False)
        for pod in stopped:
            pod.wait_ready()

    def add_pod(self, *, place: Place | None = None) -> Pod:
        """Start one more pod at the lowest free ordinal, and return it once it answers.

        One that was removed before finds its directory again, as a claim that is retained.
        """
        pod = self._make_pod(place)
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

    def env(self) -> dict[str, str]:
        """Return the variables that point the program at this world, with the pods it has now."""
        statefulset, service, namespace, cluster_domain = self._names
        variables = {
            "BOOTSTRAP_NODES": str(len(self.pods)),
            "BOOTSTRAP_STATEFULSET": statefulset,
            "BOOTSTRAP_SERVICE": service,
            "BOOTSTRAP_NAMESPACE": namespace,
            "BOOTSTRAP_CLUSTER_DOMAIN": cluster_domain,
            "BOOTSTRAP_PORT": str(self.port),
            "BOOTSTRAP_NAMESERVERS": self.dns.nameserver,
        }
        if self._settings.password is not None:
            variables["BOOTSTRAP_PASSWORD"] = self._settings.password
        return variables | self._tls_env()

    def close(self) -> None:
        """Kill all servers, stop the DNS server, and remove what was temporary; can be repeated."""
        atexit.unregister(self.close)
        self._resources.close()

    def _tls_env(self) -> dict[str, str]:
        config = self._settings.config
        if "tls-port" not in config:
            return {}
        files = {
            "BOOTSTRAP_TLS_CA": "tls-ca-cert-file",
            "BOOTSTRAP_TLS_CERT": "tls-cert-file",
            "BOOTSTRAP_TLS_KEY": "tls-key-file",
        }
        present = {name: config[key] for name, key in files.items() if key in config}
        return {"BOOTSTRAP_TLS": "true", **present}

    def _make_pod(self, place: Place | None = None) -> Pod:
        taken = {pod.ordinal for pod in self.pods}
        ordinal = next(number for number in range(len(taken) + 1) if number not in taken)
        if place is None and ordinal < len(self._places):
            place = self._places[ordinal]
        name = f"{self._names[0]}-{ordinal}"
        pod = Pod(
            name=name,
            fqdn=f"{name}.{self._service_fqdn}",
            ordinal=ordinal,
            address=self._next_address(),
            port=self.port,
            place=place,
            root=self.directory / name,
            settings=self._settings,
            keeper=self._keeper,
            dns=self.dns,
            next_address=self._next_address,
        )
        self.pods.append(pod)
        self.pods.sort(key=lambda pod: pod.ordinal)
        return pod

    def _next_address(self) -> str:
        return self._subnet.next_address({pod.address for pod in self.pods})

    def _end_servers(self) -> None:
        self._keeper.close()
        for pod in self.pods:
            pod.kill()
