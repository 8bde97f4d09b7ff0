"""Gives each world a block of loopback addresses of its own, and a directory that goes with it.

The claim is a lock on a file, which the kernel releases with its holders. Whatever a killed
process left in the directory is removed by the next one that claims the block.
"""

import errno
import fcntl
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import SandboxError

# 127.0.x.x is where resolvers, Debian's own host name and hand-made tests live.
_FIRST_OCTET, _LAST_OCTET = 32, 223
_DNS_HOST = 254
_LAST_POD_HOST = 250
_MOST_TAKEN = 64


class Subnet:
    """A claimed 127.a.b.0/24."""

    def __init__(self, prefix: str, directory: Path, lock_fd: int) -> None:
        """Take over a lock that is held already; use :func:`claim`."""
        self.prefix = prefix
        self.directory = directory
        self.lock_fd = lock_fd
        self._hosts = itertools.cycle(range(1, _LAST_POD_HOST + 1))

    @property
    def dns_address(self) -> str:
        """The address for the DNS server."""
        return f"{self.prefix}.{_DNS_HOST}"

    def next_address(self, taken: set[str]) -> str:
        """Return an address that no pod has, the ones never used before first.

        Raises:
            SandboxError: All are taken.
        """
        for host in itertools.islice(self._hosts, _LAST_POD_HOST):
            address = f"{self.prefix}.{host}"
            if address not in taken:
                return address
        raise SandboxError(
            f"all {_LAST_POD_HOST} addresses of {self.prefix}.0/24 are taken",
            "use a smaller world",
        )

    def release(self) -> None:
        """Remove the directory and give the block back."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self.lock_fd)


_PROBED = 12  # somebody else may listen in the middle of a block


def claim(port: int) -> Subnet:
    """Claim the first block that is free and whose addresses let pods listen on the port.

    Raises:
        SandboxError: There is none.
    """
    home = _home()
    taken = 0
    for prefix in _prefixes():
        lock_fd = _lock(home / f"{prefix}.lock")
        if lock_fd is None:
            continue
        if all(_is_bindable(f"{prefix}.{host}", port) for host in range(1, _PROBED + 1)):
            directory = home / prefix
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            return Subnet(prefix, directory, lock_fd)
        os.close(lock_fd)
        taken += 1
        if taken == _MOST_TAKEN:
            break
    raise SandboxError(
        f"port {port} is taken on every loopback address",
        "choose another port, or stop the server that listens on 0.0.0.0",
    )


def _prefixes() -> Iterator[str]:
    octets = itertools.product(range(_FIRST_OCTET, _LAST_OCTET + 1), range(256))
    return (f"127.{a}.{b}" for a, b in octets)


def _home() -> Path:
    home = Path(tempfile.gettempdir()) / f"redis-sandbox-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    # The name is known in advance, so someone else may have made it first.
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        raise SandboxError(f"{home} belongs to someone else", "set TMPDIR to another directory")
    return home


def _lock(path: Path) -> int | None:
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock_fd)
        return None
    return lock_fd


def _is_bindable(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            # Two sockets with SO_REUSEADDR may bind; only one may listen.
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise SandboxError(
                    f"{address} is not a loopback address on this machine",
                    "the sandbox needs Linux, where all of 127.0.0.0/8 is",
                ) from error
            if error.errno == errno.EACCES:
                raise SandboxError(
                    f"port {port} needs privileges", "choose a port above 1023"
                ) from error
            return False
    return True
