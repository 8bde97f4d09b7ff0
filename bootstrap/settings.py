"""Settings, made of the texts of the options and checked before anything is contacted.

All faults are reported together, in one `SettingsError`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import options, validation
from .errors import SettingsError
from .net import resolv_conf
from .options import Option

T = TypeVar("T")

FEWEST_PRIMARIES = 3
MOST_PRIMARIES = 16384
# The pods' label controller-revision-hash is this name, a dash and ten characters, and a label
# has at most 63: kubernetes/kubernetes#64023.
LONGEST_STATEFULSET = 52
DNS_PORT = 53
_SPELLED = ", ".join(
    option.variable for option in (options.STATEFULSET, options.SERVICE, options.NAMESPACE)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked and completed settings.

    Attributes:
        service: Absolute name of the headless Service, without the last dot; empty with endpoints.
        nameservers: Address and port; those of resolv.conf when empty.
        endpoints: Host and port; DNS discovery when empty.
        passwords: In the order to try.
        tls: A context that verifies; None for plain TCP.
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
    expect: str | None
    exit_code: bool
    watch: bool
    interval_s: float
    http_listen: tuple[str, int]
    output: str

    @property
    def cluster(self) -> str:
        """Return a name for logs."""
        return self.endpoints[0][0] if self.endpoints else f"{self.statefulset}.{self.service}"


class Reader:
    """Parses the texts of options and collects what is wrong with them.

    A faulty option reads as its default, so that the others are checked as well.
    """

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self._texts = texts
        self._faulty: set[str] = set()
        self.faults: list[str] = []

    def is_given(self, option: Option[object]) -> bool:
        """Return whether there is a text; an empty variable of a manifest is none."""
        return bool(self._texts.get(option.field))

    def read(self, option: Option[T]) -> T:
        """Return the value of an option."""
        try:
            return option.parse(self._texts.get(option.field) or option.default)
        except validation.Fault as fault:
            self.reject(option, *fault.problems)
            return option.parse(option.default)

    def reject(self, option: Option[object], *problems: str) -> None:
        """Add what is wrong with an option: predicates, such as `must be a whole number`."""
        for problem in problems:
            self._faulty.add(option.name)
            fault = f"{option.variable} {problem}"
            if fault not in self.faults:
                self.faults.append(fault)

    def accepts(self, *given: Option[object]) -> bool:
        """Return whether nothing is wrong with any of these, so that they can be compared."""
        return self._faulty.isdisjoint(option.name for option in given)

    def file(self, option: Option[str]) -> bytes:
        """Return the content of the file that an option names; nothing if it cannot be read."""
        path = self.read(option)
        try:
            return Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.reject(option, f"names {path!r}, which cannot be read: {reason}")
            return b""

    def check(self) -> None:
        """Raise what was collected.

        Raises:
            SettingsError: With all faults.
        """
        if self.faults:
            raise SettingsError(
                cause="; ".join(self.faults), remedy="fix the settings and run again"
            )


def load(texts: Mapping[str, str | None]) -> Settings:
    """Return the settings that texts make, by the field of their options.

    Raises:
        SettingsError: With all faults.
    """
    reader = Reader(texts)
    port = reader.read(options.PORT)
    endpoints = _hosts(reader, options.ENDPOINTS, default_port=port)
    nodes = _nodes(reader, len(endpoints))
    settings = Settings(
        nodes=nodes,
        replicas=reader.read(options.REPLICAS),
        statefulset=reader.read(options.STATEFULSET),
        service="" if reader.is_given(options.ENDPOINTS) else _service(reader, nodes),
        port=port,
        nameservers=_hosts(reader, options.NAMESERVERS, default_port=DNS_PORT),
        endpoints=endpoints,
        username=reader.read(options.USERNAME),
        passwords=_passwords(reader),
        tls=_tls(reader),
        timeout_s=reader.read(options.TIMEOUT),
        allow_data_loss=reader.read(options.ALLOW_DATA_LOSS),
        rebalance=reader.read(options.REBALANCE),
        expect=reader.read(options.EXPECT),
        exit_code=reader.read(options.EXIT_CODE),
        watch=reader.read(options.WATCH),
        interval_s=reader.read(options.INTERVAL),
        http_listen=reader.read(options.HTTP_LISTEN),
        output=reader.read(options.OUTPUT),
    )
    # The other two are applied before the settings are read, as faults are logged.
    reader.read(options.LOG_LEVEL)
    reader.read(options.LOG_FORMAT)
    reader.check()
    return settings


def _hosts(
    reader: Reader, option: Option[tuple[validation.Host, ...]], *, default_port: int
) -> tuple[tuple[str, int], ...]:
    """Return the hosts of an option with their ports; no host may be named twice."""
    hosts = tuple((host, port or default_port) for host, port in reader.read(option))
    folded = [(host.lower(), port) for host, port in hosts]
    repeated = sorted({host for host in folded if folded.count(host) > 1})
    reader.reject(option, *(f"names {host}:{port} twice" for host, port in repeated))
    return hosts


def _nodes(reader: Reader, endpoints: int) -> int:
    """Return the number of pods, if it can make a cluster with these replicas."""
    replicas, nodes = reader.read(options.REPLICAS), reader.read(options.NODES)
    if nodes is None:
        nodes = endpoints
        if not reader.is_given(options.ENDPOINTS) and reader.accepts(options.NODES):
            reader.reject(options.NODES, "is required: the number of pods of the StatefulSet")
    if not reader.accepts(options.NODES, options.REPLICAS, options.ENDPOINTS):
        return 1
    if endpoints and nodes > endpoints:
        named = options.ENDPOINTS.variable
        reader.reject(options.NODES, f"is {nodes}, but {named} names {endpoints} hosts")
        return nodes
    primaries = nodes // (replicas + 1)
    if primaries > MOST_PRIMARIES:
        problem = f"is {nodes}, but {primaries} primaries cannot share {MOST_PRIMARIES} slots"
        reader.reject(options.NODES, problem)
    if primaries < FEWEST_PRIMARIES:
        least = FEWEST_PRIMARIES * (replicas + 1)
        reader.faults.append(
            f"{_counted(nodes, 'node')} with {_counted(replicas, 'replica')} per primary allow "
            f"only {_counted(primaries, 'primary', 'primaries')}, but at least "
            f"{FEWEST_PRIMARIES} are required: set {options.NODES.variable} to {least} or more, "
            f"or {options.REPLICAS.variable} lower"
        )
    return nodes


def _counted(count: int, one: str, several: str = "") -> str:
    noun = one if count == 1 else several or one + "s"
    return f"{count} {noun}"


def _service(reader: Reader, nodes: int) -> str:
    """Return the Service's absolute name; namespace and domain from the pod's search list."""
    statefulset = reader.read(options.STATEFULSET)
    if len(statefulset) > LONGEST_STATEFULSET:
        reader.reject(
            options.STATEFULSET,
            f"has {len(statefulset)} characters, but Kubernetes creates no pods for a StatefulSet "
            f"whose name is longer than {LONGEST_STATEFULSET}",
        )
    found = _search_list()
    namespace = reader.read(options.NAMESPACE) or found[0] or "default"
    domain = reader.read(options.CLUSTER_DOMAIN) or found[1] or "cluster.local"
    service = f"{reader.read(options.SERVICE)}.{namespace}.svc.{domain}"
    last = f"{statefulset}-{nodes - 1}.{service}"
    if len(last) > validation.LONGEST_NAME:
        reader.faults.append(
            f"{_SPELLED} and {options.CLUSTER_DOMAIN.variable} make names of {len(last)} "
            f"characters, but DNS allows {validation.LONGEST_NAME}: {last}"
        )
    return service


def _search_list() -> tuple[str, str]:
    """Return namespace and cluster domain out of `search NAMESPACE.svc.DOMAIN …`."""
    for name in resolv_conf.read().search:
        namespace, svc, domain = name.partition(".svc.")
        if svc and "." not in namespace:
            return namespace, domain.strip(".")
    return "", ""


def _passwords(reader: Reader) -> tuple[str, ...]:
    """Return the passwords, in the order to try; the file wins over the variable."""
    option = next(filter(reader.is_given, (options.PASSWORD_FILE, options.PASSWORD)), None)
    text = reader.read(options.PASSWORD)
    if option is options.PASSWORD_FILE:
        try:
            text = reader.file(options.PASSWORD_FILE).decode()
        except UnicodeDecodeError:
            reader.reject(
                options.PASSWORD_FILE,
                f"names {reader.read(options.PASSWORD_FILE)!r}, which is not UTF-8 text",
            )
    passwords = passwords_in(text)
    if option is not None and not passwords and reader.accepts(option):
        path = reader.read(options.PASSWORD_FILE)
        is_file = option is options.PASSWORD_FILE
        reader.reject(option, f"names {path!r}, which has no password" if is_file else "is blank")
    if option is None and reader.is_given(options.USERNAME):
        needed = f"needs {options.PASSWORD.variable} or {options.PASSWORD_FILE.variable}"
        reader.reject(options.USERNAME, needed)
    return passwords


def passwords_in(text: str) -> tuple[str, ...]:
    """Return the passwords of a variable or a file, in the order to try.

    One per line; a trailing newline is dropped, and the byte order mark of Windows editors.
    """
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    return tuple(line for line in (line.removesuffix("\r") for line in lines) if line)


def _tls(reader: Reader) -> ssl.SSLContext | None:
    """Return a verifying context; there is no way to skip verification."""
    files = [
        option
        for option in (options.TLS_CA, options.TLS_CERT, options.TLS_KEY)
        if reader.is_given(option)
    ]
    if not reader.read(options.TLS):
        for option in files if reader.accepts(options.TLS) else ():
            reader.reject(option, f"is set, but {options.TLS.variable} is not true")
        return None
    if (options.TLS_CERT in files) != (options.TLS_KEY in files):
        given, missing = options.TLS_CERT, options.TLS_KEY
        if given not in files:
            given, missing = missing, given
        reader.reject(given, f"needs {missing.variable}")
    for option in files:
        _check_pem(reader, option)
    return _context(reader) if reader.accepts(*files) else None


def _check_pem(reader: Reader, option: Option[str]) -> None:
    """Reject what can be named better than OpenSSL does."""
    content = reader.file(option)
    is_key = option is options.TLS_KEY
    if not reader.accepts(option):
        return
    if b"-----BEGIN " not in content:
        reader.reject(option, f"names {reader.read(option)!r}, which is not a PEM file")
    elif (b"PRIVATE KEY-----" if is_key else b"CERTIFICATE-----") not in content:
        kind = "private key" if is_key else "certificate"
        reader.reject(option, f"names {reader.read(option)!r}, which holds no {kind}")
    elif is_key and b"ENCRYPTED" in content:
        reader.reject(
            option,
            f"names {reader.read(option)!r}, whose key is encrypted: store it without "
            "a passphrase (openssl pkey -in KEY -out KEY.plain)",
        )


def _context(reader: Reader) -> ssl.SSLContext | None:
    """Return the context; rejects files that OpenSSL cannot use."""
    certificate, key = reader.read(options.TLS_CERT), reader.read(options.TLS_KEY)
    option = options.TLS_CA
    try:
        context = ssl.create_default_context(cafile=reader.read(options.TLS_CA) or None)
        # Python 3.13 and later also require the extensions of RFC 5280 (VERIFY_X509_STRICT), which
        # authorities made with `openssl req -x509` lack. Chain, dates and name are verified anyway.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if certificate:
            # Loaded alone first, as an error does not say which of the two files it is about.
            option = options.TLS_CERT
            ssl.create_default_context(cafile=certificate)
            option = options.TLS_KEY
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError.
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            reader.reject(
                option, f"names a key that does not match the certificate {certificate!r}"
            )
        else:
            said = reason.replace("_", " ").lower()
            reader.reject(option, f"names {reader.read(option)!r}, which is not valid PEM: {said}")
        return None
    return context


def unread_variables() -> list[str]:
    """Return BOOTSTRAP_* variables that no option reads, which are most often misspelled."""
    given = (name for name in os.environ if name.startswith("BOOTSTRAP_"))
    return sorted(name for name in given if name not in options.VARIABLES)
