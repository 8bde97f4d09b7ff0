"""Parsers of settings: each returns the value of a text, or raises `Fault` with what is wrong.

They are pure: what depends on files, or on several settings together, is checked in `settings`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
# A port of 0 means that none was given.
Host = tuple[str, int]

LONGEST_LABEL = 63
LONGEST_NAME = 253
HIGHEST_PORT = 65535
# No cluster has more primaries, one for each slot.
MOST_PODS = 16384
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.IGNORECASE)
# Docker Compose puts underscores into host names.
_HOST_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?", re.IGNORECASE)
_BRACKETED = re.compile(r"\[([^]]*)\](?::(.*))?")


class Fault(Exception):  # noqa: N818 - it says what is wrong, and is never raised out of `settings`
    """What is wrong with a text: one or more predicates, such as `must be a whole number`."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


def text(value: str) -> str:
    """Return text that can be sent. A fault never repeats it: it may be a secret."""
    try:
        value.encode()
    except UnicodeEncodeError:
        # Python keeps bytes that it could not decode as surrogates.
        raise Fault("is not UTF-8 text") from None
    return value


def optional(parse: Callable[[str], T], otherwise: U) -> Callable[[str], T | U]:
    """Return a parser for a setting that may be absent."""
    return lambda value: parse(value) if value else otherwise


def number(*, least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a parser for whole numbers within limits."""

    def parse(value: str) -> int:
        try:
            parsed = int(_without_underscores(value))
        except ValueError:
            raise Fault(f"must be a whole number, not {value!r}") from None
        if parsed < least or (most is not None and parsed > most):
            limits = f"at least {least}" if most is None else f"from {least} to {most}"
            raise Fault(f"must be {limits}, not {parsed}")
        return parsed

    return parse


def seconds(value: str) -> float:
    """Return a duration."""
    try:
        parsed = float(_without_underscores(value))
    except ValueError:
        parsed = 0.0
    if not 0 < parsed < float("inf"):
        raise Fault(f"must be a finite number of seconds above 0, not {value!r}")
    return parsed


def _without_underscores(value: str) -> str:
    """Return the text of a number; raise ValueError for `6_0`, which Python reads as 60."""
    if "_" in value:
        raise ValueError
    return value


def switch(value: str) -> bool:
    """Return whether it is switched on."""
    word = value.strip().lower()
    if word not in {"true", "yes", "on", "1", "false", "no", "off", "0"}:
        raise Fault(f"must be true or false, not {value!r}")
    return word in {"true", "yes", "on", "1"}


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """Return a parser for one of a few words."""

    def parse(value: str) -> str:
        if value not in choices:
            raise Fault(f"must be one of {', '.join(choices)}, not {value!r}")
        return value

    return parse


def label(value: str) -> str:
    """Return the name of a Kubernetes object that becomes one label of DNS names."""
    if not _LABEL.fullmatch(value):
        raise Fault(
            f"must be one DNS label (letters, digits and '-', at most {LONGEST_LABEL}), "
            f"not {value!r}"
        )
    return value


def domain(value: str) -> str:
    """Return a DNS domain without its last dot."""
    stripped = value.strip(".")
    if not all(map(_LABEL.fullmatch, stripped.split("."))):
        raise Fault(f"must be a DNS domain, not {value!r}")
    return stripped


def hosts(value: str) -> tuple[Host, ...]:
    """Return the hosts of `host[:port],…`; IPv6 addresses in brackets, or without a port."""
    parsed: list[Host] = []
    problems = []
    for word in value.replace(",", " ").split():
        if "@" in word or "//" in word:
            # It is not repeated, as URLs of Redis carry passwords.
            problems.append("must name hosts as host or host:port, not as a URL")
            continue
        host, port = _split(word)
        if not is_host(host):
            problems.append(f"names {word!r}, which is not host or host:port")
        elif port and not (port.isascii() and port.isdigit() and 0 < int(port) <= HIGHEST_PORT):
            problems.append(f"names {word!r}, whose port is not from 1 to {HIGHEST_PORT}")
        elif word.endswith(":"):
            problems.append(f"names {word!r}, which has no port after the colon")
        else:
            parsed.append((host, int(port or 0)))
    if value and not parsed and not problems:
        problems.append(f"must name at least one host, not {value!r}")
    if problems:
        raise Fault(*problems)
    return tuple(parsed)


def addresses(value: str) -> tuple[Host, ...]:
    """Return the hosts of `ip[:port],…`, which must be numeric: no DNS resolves them."""
    parsed = hosts(value)
    if names := [host for host, _ in parsed if not is_address(host)]:
        raise Fault(*(f"names {host!r}, which is not a numeric address" for host in names))
    return parsed


def listen_address(value: str) -> tuple[str, int]:
    """Return the address and port of `ip:port`."""
    parsed = addresses(value)
    if len(parsed) != 1 or not parsed[0][1]:
        raise Fault(f"must be ip:port, not {value!r}")
    return parsed[0]


def is_address(host: str) -> bool:
    """Return whether it is a numeric IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_host(host: str) -> bool:
    """Return whether it is an address or a name that DNS can be asked for, also after IDNA."""
    if is_address(host):
        return True
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        return False
    return len(name) <= LONGEST_NAME and all(map(_HOST_LABEL.fullmatch, name.split(".")))


def _split(word: str) -> tuple[str, str]:
    """Return host, in the one spelling that servers announce, and port, empty where there is none.

    A colon without a port after it is left to the caller.
    """
    host, port = word, ""
    if bracketed := _BRACKETED.fullmatch(word):
        host, port = bracketed[1], bracketed[2] or ""
    elif word.count(":") == 1:
        host, _, port = word.partition(":")
    return str(ipaddress.ip_address(host)) if is_address(host) else host.removesuffix("."), port
