"""Checks and completes settings before anything is contacted.

All faults are reported together, in one `SettingsError`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import validation
from .errors import SettingsError
from .net import resolv_conf
from .settings import DECLARED, VARIABLES, Settings
from .validation import Host

FEWEST_PRIMARIES = 3
# The pods' label controller-revision-hash is this name, a dash and ten characters, and a label
# has at most 63: kubernetes/kubernetes#64023.
LONGEST_STATEFULSET = 52
DNS_PORT = 53


class Reader:
    """Parses the texts of options and collects what is wrong with them.

    A faulty option reads as its default, so that the others are checked as well.

    Attributes:
        values: What was read.
        faults: What is wrong, as clauses.
    """

    def __init__(self, texts: Mapping[str, str | None]) -> None:
        self._given: set[str] = set()
        self._faulty: set[str] = set()
        self.faults: list[str] = []
        values: dict[str, Any] = {}
        for field, option in DECLARED.items():
            if text := texts.get(option.name):
                self._given.add(field)
                try:
                    values[field] = option.kind.parse(text)
                except validation.Fault as fault:
                    self.reject(field, *fault.problems)
        self.values = Settings(**values)

    def is_given(self, field: str) -> bool:
        """Return whether there is a text; an empty variable of a manifest is none."""
        return field in self._given

    def reject(self, field: str, *problems: str) -> None:
        """Add what is wrong with a setting: predicates, such as `must be a whole number`."""
        self._faulty.update([field] if problems else [])
        faults = (f"{_variable(field)} {problem}" for problem in problems)
        self.faults += (fault for fault in faults if fault not in self.faults)

    def accepts(self, *fields: str) -> bool:
        """Return whether nothing is wrong with any of these, so that they can be compared."""
        return self._faulty.isdisjoint(fields)

    def file(self, field: str) -> bytes:
        """Return the content of the file that a setting names; nothing if it cannot be read."""
        path = getattr(self.values, field)
        try:
            return Path(path).read_bytes() if self.accepts(field) else b""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.reject(field, f"names {path!r}, which cannot be read: {reason}")
            return b""


def _variable(field: str) -> str:
    return DECLARED[field].variable


def load(texts: Mapping[str, str | None]) -> Settings:
    """Return the settings that texts make, by the name of their options.

    Raises:
        SettingsError: With all faults.
    """
    reader = Reader(texts)
    given = reader.values
    endpoints = _hosts(reader, "endpoints", given.endpoints, default_port=given.port)
    nodes = _nodes(reader, len(endpoints))
    settings = replace(
        given,
        nodes=nodes,
        service="" if reader.is_given("endpoints") else _service(reader, nodes),
        nameservers=_hosts(reader, "nameservers", given.nameservers, default_port=DNS_PORT),
        endpoints=endpoints,
        passwords=_passwords(reader),
        tls_context=_tls(reader),
    )
    if reader.faults:
        raise SettingsError(cause="; ".join(reader.faults), remedy="fix the settings and run again")
    return settings


def _hosts(
    reader: Reader, field: str, given: tuple[Host, ...], *, default_port: int
) -> tuple[Host, ...]:
    """Return hosts with their ports; no host may be named twice."""
    hosts = tuple((host, port or default_port) for host, port in given)
    folded = [(host.lower(), port) for host, port in hosts]
    repeated = sorted({host for host in folded if folded.count(host) > 1})
    reader.reject(field, *(f"names {host}:{port} twice" for host, port in repeated))
    return hosts


def _nodes(reader: Reader, endpoints: int) -> int:
    """Return the number of pods, if it can make a cluster with these replicas."""
    replicas, nodes = reader.values.replicas, reader.values.nodes or endpoints
    if not reader.is_given("nodes") and not reader.is_given("endpoints"):
        reader.reject("nodes", "is required: the number of pods of the StatefulSet")
    if not reader.accepts("nodes", "replicas", "endpoints"):
        return 1
    if endpoints and nodes > endpoints:
        named = _variable("endpoints")
        reader.reject("nodes", f"is {nodes}, but {named} names {endpoints} hosts")
        return nodes
    primaries = nodes // (replicas + 1)
    if primaries < FEWEST_PRIMARIES:
        least = FEWEST_PRIMARIES * (replicas + 1)
        # The ConfigMap of the settings and the Deployment have one name (docs/kubernetes.md).
        is_small = nodes < FEWEST_PRIMARIES
        hint = " (in a kustomization, replicas: must name the StatefulSet)" if is_small else ""
        reader.faults.append(
            f"{_counted(nodes, 'node')} with {_counted(replicas, 'replica')} per primary allow "
            f"only {_counted(primaries, 'primary', 'primaries')}, but at least "
            f"{FEWEST_PRIMARIES} are required: set {_variable('nodes')} to {least} or more, "
            f"or {_variable('replicas')} lower{hint}"
        )
    return nodes


def _counted(count: int, one: str, several: str = "") -> str:
    noun = one if count == 1 else several or one + "s"
    return f"{count} {noun}"


def _service(reader: Reader, nodes: int) -> str:
    """Return the Service's absolute name; namespace and domain from the pod's search list."""
    given = reader.values
    if len(given.statefulset) > LONGEST_STATEFULSET:
        reader.reject(
            "statefulset",
            f"has {len(given.statefulset)} characters, but Kubernetes creates no pods for a "
            f"StatefulSet whose name is longer than {LONGEST_STATEFULSET}",
        )
    found = resolv_conf.pod_domain(resolv_conf.read().search)
    namespace = given.namespace or found.namespace or "default"
    domain = given.cluster_domain or found.cluster_domain or "cluster.local"
    service = f"{given.service}.{namespace}.svc.{domain}"
    last = f"{given.statefulset}-{nodes - 1}.{service}"
    if len(last) > validation.LONGEST_NAME:
        named = ", ".join(map(_variable, ("statefulset", "service", "namespace")))
        reader.faults.append(
            f"{named} and {_variable('cluster_domain')} make names of {len(last)} "
            f"characters, but DNS allows {validation.LONGEST_NAME}: {last}"
        )
    return service


def _passwords(reader: Reader) -> tuple[str, ...]:
    """Return the passwords, in the order to try; the file wins over the variable."""
    given = reader.values
    field = next(filter(reader.is_given, ("password_file", "password")), None)
    if field is None:
        if reader.is_given("username"):
            needed = f"needs {_variable('password')} or {_variable('password_file')}"
            reader.reject("username", needed)
        return ()
    text, fault = given.password, "is blank"
    if field == "password_file":
        fault = f"names {given.password_file!r}, which has no password"
        try:
            text = reader.file(field).decode()
        except UnicodeDecodeError:
            reader.reject(field, f"names {given.password_file!r}, which is not UTF-8 text")
    passwords = passwords_in(text)
    if not passwords and reader.accepts(field):
        reader.reject(field, fault)
    return passwords


def passwords_in(text: str) -> tuple[str, ...]:
    """Return the passwords of a variable or a file, in the order to try.

    One per line; a trailing newline is dropped, and the byte order mark of Windows editors.
    """
    lines = text.removeprefix("\ufeff").removesuffix("\n").split("\n")
    return tuple(line for line in (line.removesuffix("\r") for line in lines) if line)


def _tls(reader: Reader) -> ssl.SSLContext | None:
    """Return a verifying context; there is no way to skip verification."""
    files = [field for field in ("tls_ca", "tls_cert", "tls_key") if reader.is_given(field)]
    if not reader.values.tls:
        for field in files if reader.accepts("tls") else ():
            reader.reject(field, f"is set, but {_variable('tls')} is not true")
        return None
    for field, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if field in files and other not in files:
            reader.reject(field, f"needs {_variable(other)}")
    for field in files:
        _check_pem(reader, field)
    return _context(reader) if reader.accepts(*files) else None


def _check_pem(reader: Reader, field: str) -> None:
    """Reject what can be named better than OpenSSL does."""
    content, named = reader.file(field), f"names {getattr(reader.values, field)!r}"
    if not reader.accepts(field):
        return
    kind, line = "certificate", b"CERTIFICATE-----"
    if field == "tls_key":
        kind, line = "private key", b"PRIVATE KEY-----"
    if b"-----BEGIN " not in content:
        reader.reject(field, f"{named}, which is not a PEM file")
    elif line not in content:
        reader.reject(field, f"{named}, which holds no {kind}")
    elif field == "tls_key" and b"ENCRYPTED" in content:
        reader.reject(
            field,
            f"{named}, whose key is encrypted: store it without "
            "a passphrase (openssl pkey -in KEY -out KEY.plain)",
        )


def _context(reader: Reader) -> ssl.SSLContext | None:
    """Return the context; rejects files that OpenSSL cannot use."""
    certificate, key = reader.values.tls_cert, reader.values.tls_key
    field = "tls_ca"
    try:
        context = ssl.create_default_context(cafile=reader.values.tls_ca or None)
        # Python 3.13 and later also require the extensions of RFC 5280 (VERIFY_X509_STRICT), which
        # authorities made with `openssl req -x509` lack. Chain, dates and name are verified anyway.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if certificate:
            # Loaded alone first, as an error does not say which of the two files it is about.
            field = "tls_cert"
            ssl.create_default_context(cafile=certificate)
            field = "tls_key"
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError.
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            problem = f"names a key that does not match the certificate {certificate!r}"
        else:
            path, said = getattr(reader.values, field), reason.replace("_", " ").lower()
            problem = f"names {path!r}, which is not valid PEM: {said}"
        reader.reject(field, problem)
        return None
    return context


def unread_variables() -> list[str]:
    """Return BOOTSTRAP_* variables that no option reads, which are most often misspelled."""
    given = (name for name in os.environ if name.startswith("BOOTSTRAP_"))
    return sorted(name for name in given if name not in VARIABLES)
