"""The ports and the protocol that servers use among themselves.

MIGRATE and replication connect as the cluster bus does: with TLS where the source's `tls-cluster`
says so (connTypeOfCluster, migrateGetSocket), whatever this program speaks. CLUSTER NODES shows the
port of the asking connection's kind, and before 7.2 not always that, so the settings are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.parsing import parse_pairs
from .connection import RedisNode
from .replies import Command, ReplyError, reading

_DEFAULT_NODE_TIMEOUT_MS = 15_000
# Before 7.0 CONFIG GET takes one pattern. `*port` is port, tls-port and what is announced for them.
_SETTINGS: tuple[Command, ...] = (
    ("CONFIG", "GET", "*port"),
    ("CONFIG", "GET", "tls-cluster"),
    ("CONFIG", "GET", "cluster-node-timeout"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPorts:
    """Where one server listens, and how it connects to the others.

    Attributes:
        plain: The port that others reach it at without TLS; 0 where there is none. `tls`: with TLS.
        connects_with_tls: Its `tls-cluster`.
        node_timeout_s: A node that does not answer the others for so long is failed over.
    """

    plain: int
    tls: int
    connects_with_tls: bool
    node_timeout_s: float

    def port(self, *, tls: bool) -> int:
        """Return the port that others reach the server at; 0 where it does not speak that."""
        return self.tls if tls else self.plain


async def read(client: RedisNode) -> ServerPorts | None:
    """Return a server's ports; None where CONFIG was renamed away or hides them.

    Raises:
        CredentialsError: CONFIG GET is not allowed.
        NodeUnreachableError: The node does not answer, or cannot serve now.
    """
    settings: dict[str, str] = {}
    replies = await client.pipeline(_SETTINGS)
    with reading(client.name, "CONFIG GET"):
        for reply in replies:
            if isinstance(reply, ReplyError) and reply.code == "ERR":
                return None
            settings |= parse_pairs(client.require(reply))
        return parse(settings) if "port" in settings else None


def parse(settings: Mapping[str, str]) -> ServerPorts:
    """Read the replies of CONFIG GET; a server without TLS has no `tls-` settings."""

    def port(kind: str) -> int:
        listens = int(settings.get(kind, 0))
        return listens and (int(settings.get(f"cluster-announce-{kind}", 0)) or listens)

    return ServerPorts(
        plain=port("port"),
        tls=port("tls-port"),
        connects_with_tls=settings.get("tls-cluster") == "yes",
        node_timeout_s=int(settings.get("cluster-node-timeout") or _DEFAULT_NODE_TIMEOUT_MS) / 1000,
    )
