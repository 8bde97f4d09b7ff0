"""Reads resolv.conf as glibc does (resolv.conf(5), resolv/res_init.c)."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import NamedTuple

RESOLV_CONF = Path("/etc/resolv.conf")


class ResolvConf(NamedTuple):
    """What resolv.conf says; empty where there is none."""

    nameservers: list[str]
    search: list[str]


def read() -> ResolvConf:
    """Return the name servers and the search list.

    Bytes that are not UTF-8 do no harm, and of several `search` and `domain` lines the last counts.
    """
    found = ResolvConf([], [])
    try:
        lines = RESOLV_CONF.read_bytes().decode("latin-1").split("\n")
    except OSError:
        return found
    for line in lines:
        keyword, *words = line.split() or [""]
        if not words:
            continue
        if keyword == "nameserver" and _is_address(words[0]):
            found.nameservers.append(words[0])
        elif keyword in {"search", "domain"} and line.startswith(keyword):
            found.search[:] = words if keyword == "search" else words[:1]
    return found


class PodDomain(NamedTuple):
    """Where a pod is, according to its search list; empty where that does not say it."""

    namespace: str
    cluster_domain: str


def pod_domain(search: list[str]) -> PodDomain:
    """Return namespace and cluster domain out of `search NAMESPACE.svc.DOMAIN …`."""
    for name in search:
        namespace, svc, domain = name.partition(".svc.")
        if svc and "." not in namespace:
            return PodDomain(namespace, domain.strip("."))
    return PodDomain("", "")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
