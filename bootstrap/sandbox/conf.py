"""Writes the redis.conf of a pod: only what a pod on a loopback address needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .binary import ServerBinary


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What all pods of a world have in common."""

    server: ServerBinary
    node_timeout_ms: int
    appendonly: bool
    password: str | None
    config: Mapping[str, str]


def render(
    settings: ServerSettings,
    *,
    address: str,
    port: int,
    directory: Path,
    place: tuple[str, str] | None,
    extra: Mapping[str, str],
) -> str:
    """Return the text of a pod's redis.conf.

    Args:
        settings: What all pods have in common.
        address: The only address it listens on and speaks from.
        port: Its client port.
        directory: Where it keeps its data.
        place: Its zone and Kubernetes node, if it is to publish them.
        extra: Directives of this pod; they win over the world's, and those over ours.
    """
    directives = {
        "port": str(port),
        "bind": address,
        "protected-mode": "no",
        "daemonize": "no",
        "dir": _quote(str(directory)),
        "logfile": '""',
        "save": '""',
        "appendonly": "yes" if settings.appendonly else "no",
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": str(settings.node_timeout_ms),
    }
    if settings.server.version >= (7, 0, 0):
        # A server takes the address of a peer from the connection it comes in on, and loopback
        # connections come from 127.0.0.1. Before 7.0 the first bind address was the source.
        directives["bind-source-addr"] = address
    if settings.password is not None:
        directives["requirepass"] = directives["masterauth"] = _quote(settings.password)
    directives |= _place_directives(settings.server, place)
    directives |= {**settings.config, **extra}
    return "".join(f"{name} {value}\n" for name, value in directives.items())


def tls_files(config: Mapping[str, str]) -> dict[str, str] | None:
    """Return the files to reach a server with these directives; None where it speaks plain."""
    if "tls-port" not in config or config.get("port") != "0":
        return None
    names = {"ca": "tls-ca-cert-file", "cert": "tls-cert-file", "key": "tls-key-file"}
    return {name: config[directive] for name, directive in names.items() if directive in config}


def _place_directives(server: ServerBinary, place: tuple[str, str] | None) -> dict[str, str]:
    # Valkey forked from 7.2, so all of its versions know the first one.
    if place is None or server.version < (7, 2, 0):
        return {}
    zone, node = place
    directives = {"cluster-announce-human-nodename": f"{zone}/{node}"}
    if server.engine == "valkey" and server.version >= (8, 0, 0):
        directives["availability-zone"] = zone
    return directives


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
