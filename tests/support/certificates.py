"""Certificates made with the openssl program."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate and its key, in PEM."""

    cert: Path
    key: Path


def make_ca(directory: Path, name: str) -> Certificate:
    """Make a certificate authority."""
    ca = _files(directory, name)
    _openssl("req", "-x509", *_KEY, "-subj", f"/CN={name}", "-days", "2", *_out(ca))
    return ca


def make_leaf(directory: Path, ca: Certificate, name: str, *dns_names: str) -> Certificate:
    """Make a certificate for these DNS names, signed by the authority."""
    leaf = _files(directory, name)
    alternatives = ",".join(f"DNS:{dns_name}" for dns_name in dns_names)
    _openssl(
        "req", "-x509", *_KEY, "-subj", f"/CN={name}", "-days", "2", *_out(leaf),
        "-CA", str(ca.cert), "-CAkey", str(ca.key),
        "-addext", f"subjectAltName={alternatives}",
        "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    return leaf


def server_config(ca: Certificate, leaf: Certificate, *, port: int, mutual: bool) -> dict[str, str]:
    """Return the directives of a server that speaks TLS, and nothing else, on its port."""
    return {
        "port": "0",
        "tls-port": str(port),
        "tls-cluster": "yes",
        "tls-replication": "yes",
        "tls-cert-file": str(leaf.cert),
        "tls-key-file": str(leaf.key),
        "tls-ca-cert-file": str(ca.cert),
        "tls-auth-clients": "yes" if mutual else "no",
    }


def _files(directory: Path, name: str) -> Certificate:
    return Certificate(cert=directory / f"{name}.crt", key=directory / f"{name}.key")


def _out(certificate: Certificate) -> tuple[str, ...]:
    return "-out", str(certificate.cert), "-keyout", str(certificate.key)


def _openssl(*args: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl program to make certificates with")
    subprocess.run(["openssl", *args], check=True, capture_output=True)
