"""The sandbox's world with what only tests need: faults of DNS, passwords, TLS, places."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from bootstrap.sandbox import dns as sandbox_dns
from bootstrap.sandbox import world as sandbox_world
from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod

_REDIS_PY = {"ca": "ca_certs", "cert": "certfile", "key": "keyfile"}
_TLS_FILES = {"ca": "tls-ca-cert-file", "cert": "tls-cert-file", "key": "tls-key-file"}


class FaultyZoneServer(sandbox_dns.ZoneServer):
    """A DNS server with faults to inject, which remembers its questions.

    Attributes:
        delay_s: How long to hold every answer back.
        negative_ttl_s: How long a name that was once answered NXDOMAIN stays so, as in the
            caches between a pod and CoreDNS.
        queries: All questions so far, oldest first: lower-case name without last dot, and type.
    """

    def __init__(self, address: str, *, service: str) -> None:
        self.delay_s = self.negative_ttl_s = 0.0
        self.queries: list[tuple[str, str]] = []
        self._faults: dict[tuple[dns.name.Name | None, str | None], str | None] = {}
        self._negatives: dict[dns.name.Name, float] = {}
        super().__init__(address, service=service)

    def forget_queries(self) -> None:
        """Start the list of questions again."""
        self.queries = []

    def fail(self, rcode: str, name: str | None = None, kind: str | None = None) -> None:
        """Answer with an error, such as ``SERVFAIL`` or ``REFUSED``, from now on.

        Args:
            rcode: The error.
            name: The only name to fail for; by default all of them.
            kind: The only type of question to fail for; by default all of them.
        """
        self._faults[None if name is None else dns.name.from_text(name), kind] = rcode

    def drop(self, name: str | None = None) -> None:
        """Answer nothing from now on, to one name or to all."""
        self._faults[None if name is None else dns.name.from_text(name), None] = None

    def heal(self) -> None:
        """End all faults and delays, and forget what the negative cache holds."""
        self.delay_s = 0.0
        self._faults = {}
        self._negatives = {}

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """Answer with the faults."""
        name, kind = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
        self.queries.append((name.to_text(omit_final_dot=True).lower(), kind))
        response = self._faulty(query, name, kind)
        time.sleep(self.delay_s)
        return response

    def _faulty(
        self, query: dns.message.Message, name: dns.name.Name, kind: str
    ) -> dns.message.Message | None:
        faults = self._faults
        for key in ((name, kind), (name, None), (None, kind), (None, None)):
            if key in faults:
                rcode = faults[key]
                return sandbox_dns.reply(query, dns.rcode.from_text(rcode)) if rcode else None
        now = time.monotonic()
        if self._negatives.get(name, now) > now:
            return sandbox_dns.negative(query, dns.rcode.NXDOMAIN)
        response = super().answer(query)
        if response is not None and response.rcode() == dns.rcode.NXDOMAIN:
            self._negatives[name] = now + self.negative_ttl_s
        return response


class World(sandbox_world.World):
    """A world with a password on every pod, TLS, places, and DNS that can fail.

    Args:
        places: Zone and Kubernetes node by ordinal, published where the server can.
        appendonly: Keep the data over restarts.
        password: Of the default user, on every pod.
        options: As in the sandbox.
    """

    zone_server = FaultyZoneServer
    dns: FaultyZoneServer

    def __init__(
        self,
        *,
        server: ServerBinary,
        config: Mapping[str, str] | None = None,
        places: Sequence[tuple[str, str]] = (),
        appendonly: bool = False,
        password: str | None = None,
        **options: Any,
    ) -> None:
        self._places = places
        self._password = password
        directives = {"appendonly": "yes" if appendonly else "no"}
        if password is not None:
            escaped = password.replace("\\", "\\\\").replace('"', '\\"')
            directives["requirepass"] = directives["masterauth"] = f'"{escaped}"'
        super().__init__(server=server, config={**directives, **(config or {})}, **options)

    def env(self) -> dict[str, str]:
        """Return the variables, with those of credentials and TLS."""
        variables = super().env()
        if self._password is not None:
            variables["BOOTSTRAP_PASSWORD"] = self._password
        if "tls-port" in self.config:
            files = {f"BOOTSTRAP_TLS_{name.upper()}": path for name, path in self._files().items()}
            variables |= {"BOOTSTRAP_TLS": "true", **files}
        return variables

    def _files(self) -> dict[str, str]:
        present = {name: self.config.get(directive) for name, directive in _TLS_FILES.items()}
        return {name: path for name, path in present.items() if path}

    def _make_pod(self) -> Pod:
        pod = super()._make_pod()
        pod.options = {"password": self._password}
        if "tls-port" in self.config and self.config.get("port") == "0":
            files = {f"ssl_{_REDIS_PY[name]}": path for name, path in self._files().items()}
            # Tickets of TLS 1.3 arrive after the handshake, and the pool takes a connection with
            # unread data for a broken one. The reply to CLIENT SETNAME reads them.
            # Certificates are made for DNS names; this goes to an address that is known.
            tls = {"ssl": True, "ssl_check_hostname": False, "client_name": "sandbox"}
            pod.options = {**pod.options, **tls, **files}
        # Valkey forked from 7.2, so all of its versions know the first one.
        if pod.ordinal < len(self._places) and self.server.version >= (7, 2, 0):
            zone, node = self._places[pod.ordinal]
            pod.config["cluster-announce-human-nodename"] = f"{zone}/{node}"
            if self.server.engine == "valkey":
                pod.config["availability-zone"] = zone
        return pod
