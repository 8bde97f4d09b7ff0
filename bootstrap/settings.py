"""Settings out of the command line and the environment, checked before anything is contacted.

Every fault is told at once, in one `SettingsError`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError
from .options import FORMATS, LEVELS, OUTPUTS

FEWEST_PRIMARIES = 3
MOST_PRIMARIES = 16384
LONGEST_LABEL = 63
LONGEST_NAME = 253
RESOLV_CONF = Path("/etc/resolv.conf")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.IGNORECASE)
_SPELLED = (
    "BOOTSTRAP_STATEFULSET, BOOTSTRAP_SERVICE, BOOTSTRAP_NAMESPACE and BOOTSTRAP_CLUSTER_DOMAIN"
)
# Docker Compose puts underscores into names.
_HOST_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?", re.IGNORECASE)
_BRACKETED = re.compile(r"\[([^]]*)\](?::(.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSettings:
    """What the command line and the environment say, as text; empty for not given."""

    nodes: str = ""
    replicas: str = "1"
    statefulset: str = "redis-app"
    service: str = "redis-service"
    namespace: str = ""
    cluster_domain: str = ""
    port: str = "6379"
    nameservers: str = ""
    endpoints: str = ""
    username: str = ""
    password: str = ""
    password_file: str = ""
    tls: str = "false"
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    timeout: str = "600"
    allow_data_loss: str = "false"
    rebalance: str = "true"
    log_level: str = "info"
    log_format: str = "auto"
    output: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked settings.

    Attributes:
        nodes: Pods that the cluster must have.
        service: Absolute name of the headless Service, without the last dot.
        nameservers: Address and port; resolv.conf's when empty.
        endpoints: Host and port; DNS discovery when empty.
        passwords: In the order to try.
        tls: A context that verifies; None for plain TCP.
        timeout_s: Seconds for the whole run.
    """

    nodes: int
    replicas: int
    statefulset: str
    service: str
    port: int
    nameservers: tuple[tuple[str, int], ...]
    endpoints: tuple[tuple[str, int], ...]
    username: str | None
    passwords: tuple[str, ...]
    tls: ssl.SSLContext | None
    timeout_s: float
    allow_data_loss: bool
    rebalance: bool

    @property
    def cluster(self) -> str:
        """Return a name for logs."""
        return self.endpoints[0][0] if self.endpoints else f"{self.statefulset}.{self.service}"


class _Faults(list[str]):
    """Collects what is wrong, so that all of it is told at once."""

    def number(self, name: str, value: str, *, least: int, most: int | None = None) -> int:
        try:
            number = int(value.strip())
        except ValueError:
            self.append(f"{name} must be a whole number, not {value!r}")
            return least
        if number < least or (most is not None and number > most):
            limits = f"at least {least}" if most is None else f"from {least} to {most}"
            self.append(f"{name} must be {limits}, not {number}")
            return least
        return number

    def seconds(self, name: str, value: str) -> float:
        try:
            number = float(value.strip())
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.append(f"{name} must be a finite number of seconds above 0, not {value!r}")
            return 1.0
        return number

    def switch(self, name: str, value: str) -> bool:
        word = value.strip().lower()
        if word in {"true", "yes", "on", "1"}:
            return True
        if word not in {"false", "no", "off", "0", ""}:
            self.append(f"{name} must be true or false, not {value!r}")
        return False

    def word(self, name: str, value: str, choices: Sequence[str]) -> None:
        if value not in choices:
            self.append(f"{name} must be one of {', '.join(choices)}, not {value!r}")

    def label(self, name: str, value: str) -> str:
        if not _LABEL.fullmatch(value):
            self.append(f"{name} must be one DNS label, not {value!r}")
        return value

    def name(self, prefix: str, name: str) -> None:
        """Check what labels together make, as DNS cannot ask for longer names."""
        longest = max(map(len, name.split(".")))
        if longest > LONGEST_LABEL or len(name) > LONGEST_NAME:
            self.append(
                f"{prefix} make the name {name}, but DNS has {LONGEST_LABEL} characters for a "
                f"label and {LONGEST_NAME} for a name"
            )

    def text(self, name: str, value: str) -> str:
        """Return text that can be sent; the value itself may be a secret and is not told."""
        if not _is_text(value):
            self.append(f"{name} is not UTF-8 text")
            return ""
        return value

    def read(self, name: str, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            self.append(f"{name}: cannot read {path}: {error.strerror}")
            return b""


def load(raw: RawSettings) -> Settings:
    """Check and complete the settings.

    Raises:
        SettingsError: With all faults.
    """
    faults = _Faults()
    port = faults.number("BOOTSTRAP_PORT", raw.port, least=1, most=65535)
    endpoints = _hosts(faults, "BOOTSTRAP_ENDPOINTS", raw.endpoints, default_port=port)
    nodes, replicas = _shape(faults, raw, len(endpoints))
    settings = Settings(
        nodes=nodes,
        replicas=replicas,
        statefulset=faults.label("BOOTSTRAP_STATEFULSET", raw.statefulset),
        service="" if endpoints else _service(faults, raw),
        port=port,
        nameservers=_nameservers(faults, raw.nameservers),
        endpoints=endpoints,
        username=faults.text("BOOTSTRAP_USERNAME", raw.username) or None,
        passwords=_passwords(faults, raw),
        tls=_tls(faults, raw),
        timeout_s=faults.seconds("BOOTSTRAP_TIMEOUT", raw.timeout),
        allow_data_loss=faults.switch("BOOTSTRAP_ALLOW_DATA_LOSS", raw.allow_data_loss),
        rebalance=faults.switch("BOOTSTRAP_REBALANCE", raw.rebalance),
    )
    if settings.service:
        last = f"{settings.statefulset}-{nodes - 1}.{settings.service}"
        faults.name(_SPELLED, last)
    faults.word("BOOTSTRAP_LOG_LEVEL", raw.log_level, LEVELS)
    faults.word("BOOTSTRAP_LOG_FORMAT", raw.log_format, FORMATS)
    faults.word("BOOTSTRAP_OUTPUT", raw.output, OUTPUTS)
    if faults:
        raise SettingsError(cause="; ".join(faults), remedy="fix the settings and run again")
    return settings


def _shape(faults: _Faults, raw: RawSettings, endpoints: int) -> tuple[int, int]:
    """Return pods and replicas per primary, if they can make a cluster."""
    before = len(faults)
    replicas = faults.number("BOOTSTRAP_REPLICAS", raw.replicas, least=0)
    if raw.nodes.strip():
        nodes = faults.number("BOOTSTRAP_NODES", raw.nodes, least=1)
    elif endpoints:
        nodes = endpoints
    else:
        faults.append("BOOTSTRAP_NODES is required: the number of pods of the StatefulSet")
        return 1, replicas
    if endpoints and nodes > endpoints:
        faults.append(f"BOOTSTRAP_NODES is {nodes} but BOOTSTRAP_ENDPOINTS names {endpoints}")
    primaries = nodes // (replicas + 1)
    if len(faults) > before:
        return nodes, replicas
    if primaries < FEWEST_PRIMARIES:
        least = FEWEST_PRIMARIES * (replicas + 1)
        faults.append(
            f"{nodes} nodes with {replicas} replicas each make {primaries} primaries, and a "
            f"cluster needs {FEWEST_PRIMARIES}: set BOOTSTRAP_NODES to {least} or more, or "
            "BOOTSTRAP_REPLICAS lower"
        )
    if primaries > MOST_PRIMARIES:
        faults.append(f"{primaries} primaries cannot share {MOST_PRIMARIES} slots")
    return nodes, replicas


def _service(faults: _Faults, raw: RawSettings) -> str:
    """Return the Service's absolute name; namespace and domain from the pod's search list."""
    service = faults.label("BOOTSTRAP_SERVICE", raw.service)
    namespace, domain = raw.namespace, raw.cluster_domain.strip(".")
    if not namespace or not domain:
        found_namespace, found_domain = _search_list()
        namespace = namespace or found_namespace or "default"
        domain = domain or found_domain or "cluster.local"
    faults.label("BOOTSTRAP_NAMESPACE", namespace)
    for label in domain.split("."):
        faults.label("BOOTSTRAP_CLUSTER_DOMAIN", label)
    return f"{service}.{namespace}.svc.{domain}"


def _search_list() -> tuple[str, str]:
    """Return namespace and cluster domain out of `search NAMESPACE.svc.DOMAIN …`."""
    try:
        lines = RESOLV_CONF.read_text().splitlines()
    except OSError:
        return "", ""
    for line in lines:
        words = line.split()
        for name in words[1:] if words[:1] == ["search"] else ():
            namespace, svc, domain = name.partition(".svc.")
            if svc and "." not in namespace:
                return namespace, domain.strip(".")
    return "", ""


def _hosts(
    faults: _Faults, name: str, value: str, *, default_port: int
) -> tuple[tuple[str, int], ...]:
    """Read `host[:port],…`, with brackets or without a port for IPv6."""
    hosts = []
    for word in value.replace(",", " ").split():
        host, port = word, ""
        if bracketed := _BRACKETED.fullmatch(word):
            host, port = bracketed[1], bracketed[2]
        elif word.count(":") == 1:
            host, _, port = word.partition(":")
        port = str(default_port) if not port and not word.endswith(":") else port
        host = _canonical(host)
        if not _is_host(host):
            faults.append(f"{name}: {word!r} is not host or host:port")
        hosts.append((host, faults.number(f"{name} {word!r}: port", port, least=1, most=65535)))
    folded = [(host.lower(), port) for host, port in hosts]
    repeated = {host for host in folded if folded.count(host) > 1}
    faults.extend(f"{name} names {host}:{port} twice" for host, port in sorted(repeated))
    return tuple(hosts)


def _nameservers(faults: _Faults, value: str) -> tuple[tuple[str, int], ...]:
    servers = _hosts(faults, "BOOTSTRAP_NAMESERVERS", value, default_port=53)
    faults.extend(
        f"BOOTSTRAP_NAMESERVERS: {host!r} is not a numeric address"
        for host, _ in servers
        if _is_host(host) and not _is_address(host)
    )
    return servers


def _canonical(host: str) -> str:
    """Return the one spelling of an address that servers announce, or a name without last dot."""
    return str(ipaddress.ip_address(host)) if _is_address(host) else host.removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_host(host: str) -> bool:
    """Return whether it is an address or can be asked for in DNS, also after IDNA."""
    if _is_address(host):
        return True
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        return False
    return len(name) <= LONGEST_NAME and all(map(_HOST_LABEL.fullmatch, name.split(".")))


def _is_text(value: str) -> bool:
    """Return whether it has no bytes that Python could not decode and keeps as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _passwords(faults: _Faults, raw: RawSettings) -> tuple[str, ...]:
    """Return passwords, one a line, a trailing newline dropped; the file wins over the variable."""
    before = len(faults)
    text = faults.text("BOOTSTRAP_PASSWORD", raw.password)
    if raw.password_file:
        try:
            text = faults.read("BOOTSTRAP_PASSWORD_FILE", raw.password_file).decode()
        except UnicodeDecodeError:
            faults.append(f"BOOTSTRAP_PASSWORD_FILE: {raw.password_file} is not UTF-8 text")
    passwords = passwords_in(text)
    if raw.username and not passwords and len(faults) == before:
        faults.append("BOOTSTRAP_USERNAME needs BOOTSTRAP_PASSWORD or BOOTSTRAP_PASSWORD_FILE")
    return passwords


def passwords_in(text: str) -> tuple[str, ...]:
    """Return the passwords of a variable or a file, in the order to try."""
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    return tuple(line for line in lines if line)


def _tls(faults: _Faults, raw: RawSettings) -> ssl.SSLContext | None:
    """Return a verifying context; there is no way to skip verification."""
    wanted = faults.switch("BOOTSTRAP_TLS", raw.tls)
    files = {
        "BOOTSTRAP_TLS_CA": raw.tls_ca,
        "BOOTSTRAP_TLS_CERT": raw.tls_cert,
        "BOOTSTRAP_TLS_KEY": raw.tls_key,
    }
    if not wanted:
        faults.extend(
            f"{name} is set but BOOTSTRAP_TLS is not" for name, path in files.items() if path
        )
        return None
    if bool(raw.tls_cert) != bool(raw.tls_key):
        faults.append("BOOTSTRAP_TLS_CERT and BOOTSTRAP_TLS_KEY go together")
    unreadable = len(faults)
    for name, path in files.items():
        if path:
            faults.read(name, path)
    if len(faults) > unreadable:
        return None
    name = f"BOOTSTRAP_TLS_CA: {raw.tls_ca}"
    context: ssl.SSLContext | None = None
    try:
        context = ssl.create_default_context(cafile=raw.tls_ca or None)
        # Chain and name are verified all the same; strict refuses CAs as `openssl req -x509`
        # makes them, and only from Python 3.13 on.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        name = f"BOOTSTRAP_TLS_CERT and BOOTSTRAP_TLS_KEY: {raw.tls_cert} and {raw.tls_key}"
        if raw.tls_cert and raw.tls_key:
            # A key that is encrypted would be asked for on the terminal.
            context.load_cert_chain(raw.tls_cert, raw.tls_key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        faults.append(f"{name}: not what it must be in PEM: {reason.replace('_', ' ').lower()}")
    return context


def unread_variables(names: frozenset[str]) -> list[str]:
    """Return BOOTSTRAP_* variables that nothing reads, which are most often misspelt."""
    return sorted(
        name for name in os.environ if name.startswith("BOOTSTRAP_") and name not in names
    )
