"""One pod: a server process with an address, a directory and a DNS name of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .client import NO_OPTIONS, Client, Reply
from .errors import ReplyError, SandboxError

if TYPE_CHECKING:
    from .world import World

_POLL_S = 0.01
_READY_S, _GRACE_S = 60, 30
_LOG_TAIL_CHARS = 1000


class Pod:
    """A pod of the StatefulSet; made by its :class:`World`.

    Attributes:
        name: ``<statefulset>-<ordinal>``, its DNS label.
        fqdn: Its full DNS name, without a last dot.
        ordinal: Its number in the StatefulSet.
        address: Where it listens, or will once started.
        port: Its client port; read at the next start.
        directory: Its volume: what stays when its process ends.
        config: Directives of this pod alone; read at the next start.
        options: What a client of redis-py needs besides the address, such as a password.
        process: The server, once it was started.
    """

    def __init__(self, world: World, ordinal: int) -> None:
        """Make a pod that has not been started."""
        self.name = f"{world.statefulset}-{ordinal}"
        self.fqdn = f"{self.name}.{world.service}"
        self.ordinal = ordinal
        self.address = world.next_address()
        self.port = world.port
        self.directory = world.directory / self.name / "data"
        self.config: dict[str, str] = {}
        self.options: Mapping[str, Any] = NO_OPTIONS
        self._conf_path = self.directory.parent / "redis.conf"
        self._log_path = self.directory.parent / "server.log"
        self._world = world
        self._is_published = True
        self.process: subprocess.Popen[bytes] | None = None
        self.directory.mkdir(parents=True, exist_ok=True)
        self._log_path.touch()

    def __repr__(self) -> str:
        return f"Pod({self.name}, {self.address}, {'running' if self.is_running else 'stopped'})"

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start the server, publish its records, and wait until it answers."""
        self._check_stopped("start")
        self._conf_path.write_text(self._conf(), encoding="utf-8")
        self.process = self._world.keeper.spawn(
            (self._world.server.path, self._conf_path), cwd=self.directory, log=self._log_path
        )
        self.publish(self._is_published)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Return once it answers PING and has loaded its data."""
        deadline = time.monotonic() + _READY_S
        while not self._is_ready():
            is_late = time.monotonic() > deadline
            if is_late or not self.is_running:
                how = f"did not answer in {_READY_S} s" if is_late else "ended at once"
                tail = self.log_text()[-_LOG_TAIL_CHARS:].strip()
                raise SandboxError(f"{self.name} {how}: {tail}", f"see {self._log_path}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it as kill -9 does; its address and records stay, as after a container's crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """Ask it to end, wait, and kill it when the grace period is over."""
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_S)
            self.kill()

    def pause(self) -> None:
        """Stop the process without ending it; returns when it stands still."""
        self._signal(signal.SIGSTOP, os.WSTOPPED)

    def resume(self) -> None:
        """Let a paused process continue."""
        self._signal(signal.SIGCONT, os.WCONTINUED)

    def wipe(self) -> None:
        """Empty the directory of a stopped pod, as if its volume was lost."""
        self._check_stopped("wipe")
        shutil.rmtree(self.directory)
        self.directory.mkdir()

    def move(self, address: str | None = None) -> None:
        """Give a stopped pod another address, as when it is made again on another node.

        DNS follows at once where the pod has been in it.

        Args:
            address: The new address; by default one that was not in use lately.
        """
        self._check_stopped("move")
        self.address = address or self._world.next_address()
        if self.process is not None:
            self.publish(self._is_published)

    def publish(self, is_published: bool) -> None:  # noqa: FBT001 - the verb names the switch
        """Give the pod its DNS records or take them away, from now on."""
        self._is_published = is_published
        addresses = (self.address,) if is_published else ()
        self._world.dns.publish(self.name, *addresses, port=self.port)

    def log_text(self) -> str:
        """Return all that its server has ever logged."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def command(self, *args: str | int | bytes, timeout_s: float = 5.0) -> Reply:
        """Send one command on a connection of its own and return the reply.

        Raises:
            ReplyError: The server answered with an error.
            OSError: It cannot be reached, or did not answer in time.
        """
        with Client(self.address, self.port, timeout_s=timeout_s, options=self.options) as client:
            return client.call(*args)

    def _conf(self) -> str:
        """Return its redis.conf; directives of the pod win over the world's, and those over ours.

        It is only what a pod on a loopback address needs.
        """
        directives = {
            "port": str(self.port),
            "bind": self.address,
            "protected-mode": "no",
            "daemonize": "no",
            "dir": f'"{self.directory}"',
            "logfile": '""',
            "save": '""',
            "appendonly": "no",
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(self._world.node_timeout_ms),
        }
        if self._world.server.version >= (7, 0, 0):
            # A server takes the address of a peer from the connection it comes in on, and loopback
            # connections come from 127.0.0.1. Before 7.0 the first bind address was the source.
            directives["bind-source-addr"] = self.address
        directives |= {**self._world.config, **self.config}
        return "".join(f"{name} {value}\n" for name, value in directives.items())

    def _is_ready(self) -> bool:
        try:
            self.command("PING", timeout_s=1.0)
        except ReplyError as error:
            # Whoever wants a password or an ACL user first is up as well.
            return error.code != "LOADING"
        except OSError:
            return False
        return True

    def _signal(self, number: signal.Signals, state: int) -> None:
        if self.process is None or not self.is_running:
            raise SandboxError(f"{self.name} is not running", "start it first")
        self.process.send_signal(number)
        # WNOWAIT leaves the exit status of one that was killed meanwhile to its Popen.
        os.waitid(os.P_PID, self.process.pid, state | os.WEXITED | os.WNOWAIT)

    def _check_stopped(self, verb: str) -> None:
        if self.is_running:
            raise SandboxError(f"cannot {verb} {self.name} while it runs", "kill or terminate it")
