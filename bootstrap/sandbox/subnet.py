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
from collections.abc import Collection, Iterator
from pathlib import Path

from .errors import SandboxError

# 127.0.x.x is where resolvers, Debian's own host name and hand-made tests live.
_FIRST_OCTET, _LAST_OCTET = 32, 223
_DNS_HOST = 254
_LAST_POD_HOST = 250
_MOST_TAKEN = 64
_PROBED = 12  # somebody else may listen in the middle of a block


class Subnet:
    """A claimed 127.a.b.0/24, whose lock is held already; use :func:`claim`."""

    def __init__(self, prefix: str, directory: Path, lock_fd: int) -> None:
        self.directory = directory
        self.lock_fd = lock_fd
        self.prefix = prefix
        self.dns_address = f"{prefix}.{_DNS_HOST}"
        self._hosts = itertools.cycle(range(1, _LAST_POD_HOST + 1))

    def next_address(self, taken: Collection[str]) -> str:
        """Return an address that no pod has, the ones never used before first."""
        for host in itertools.islice(self._hosts, _LAST_POD_HOST):
            if (address := f"{self.prefix}.{host}") not in taken:
                return address
        raise SandboxError(
            f"all {_LAST_POD_HOST} addresses of {self.prefix}.0/24 are taken", "use fewer pods"
        )

    def release(self) -> None:
        """Remove the directory and give the block back."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self.lock_fd)


def home() -> Path:
    """Return the directory of all worlds of this user."""
    path = Path(tempfile.gettempdir()) / f"redis-sandbox-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    # The name is known in advance, so someone else may have made it first.
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise SandboxError(f"{path} belongs to someone else", "set TMPDIR to another directory")
    return path


def claim(port: int) -> Subnet:
    """Claim the first block that is free and whose addresses let pods listen on the port."""
    for prefix, lock_fd in itertools.islice(_free_blocks(home()), _MOST_TAKEN):
        if all(_is_bindable(f"{prefix}.{host}", port) for host in range(1, _PROBED + 1)):
            directory = home() / prefix
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            return Subnet(prefix, directory, lock_fd)
        os.close(lock_fd)
    raise SandboxError(
        f"port {port} is taken on every loopback address",
        "choose another port, or stop the server that listens on 0.0.0.0",
    )


def _free_blocks(directory: Path) -> Iterator[tuple[str, int]]:
    """Yield blocks that no other process has, locked."""
    for a, b in itertools.product(range(_FIRST_OCTET, _LAST_OCTET + 1), range(256)):
        prefix = f"127.{a}.{b}"
        lock_fd = os.open(directory / f"{prefix}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock_fd)
        else:
            yield prefix, lock_fd


def _is_bindable(address: str, port: int) -> bool:
    try:
        # Two sockets with SO_REUSEADDR may bind; only one may listen, which this does.
        socket.create_server((address, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise SandboxError(
                f"{address} is not a loopback address on this machine",
                "the sandbox needs Linux, where all of 127.0.0.0/8 is; elsewhere see compose.yaml",
            ) from error
        return False
    return True
