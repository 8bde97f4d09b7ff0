"""One pod: a server process with an address, a directory and a DNS name of its own."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from . import conf
from .client import Client, Reply
from .dns import ZoneServer
from .errors import ReplyError, SandboxError
from .keeper import Keeper

Place: TypeAlias = tuple[str, str]

_POLL_S = 0.01
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
        place: The zone and Kubernetes node it runs on; read at the next start.
        password: What :meth:`command` logs in with.
        config: Directives of this pod alone; read at the next start.
    """

    def __init__(
        self,
        *,
        name: str,
        fqdn: str,
        ordinal: int,
        address: str,
        port: int,
        place: Place | None,
        root: Path,
        settings: conf.ServerSettings,
        keeper: Keeper,
        dns: ZoneServer,
        next_address: Callable[[], str],
    ) -> None:
        """Make a pod that has not been started."""
        self.name = name
        self.fqdn = fqdn
        self.ordinal = ordinal
        self.address = address
        self.port = port
        self.directory = root / "data"
        self.place = place
        self.password = settings.password
        self.config: dict[str, str] = {}
        self._conf_path = root / "redis.conf"
        self._log_path = root / "server.log"
        self._settings = settings
        self._keeper = keeper
        self._dns = dns
        self._next_address = next_address
        self._is_published = True
        self._process: subprocess.Popen[bytes] | None = None
        self.directory.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        """Name the pod in a test's output."""
        return f"Pod({self.name}, {self.address}, {'running' if self.is_running else 'stopped'})"

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process, while that lives."""
        return self._process.pid if self._process is not None and self.is_running else None

    def start(self, *, wait: bool = True) -> None:
        """Start the server and publish its records.

        Args:
            wait: Return when it answers, not before.
        """
        self._check_stopped("start")
        text = conf.render(
            self._settings,
            address=self.address,
            port=self.port,
            directory=self.directory,
            place=self.place,
            extra=self.config,
        )
        self._conf_path.write_text(text, encoding="utf-8")
        args = (self._settings.server.path, self._conf_path)
        self._process = self._keeper.spawn(args, cwd=self.directory, log=self._log_path)
        self._announce()
        if wait:
            self.wait_ready()

    def wait_ready(self, *, timeout_s: float = 60.0) -> None:
        """Return once it answers PING and has loaded its data.

        Raises:
            SandboxError: It ended instead, or took too long.
        """
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            if not self.is_running:
                raise SandboxError(f"{self.name} ended at once: {self._log_tail()}", "see its log")
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{self.name} did not answer in {timeout_s:.0f} s: {self._log_tail()}",
                    "see its log, and how busy the machine is",
                )
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it as kill -9 does; its address and records stay, as after a container's crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self, *, grace_s: float = 30.0) -> None:
        """Ask it to end, wait, and kill it when the grace period is over."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
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
        was_announced = self._process is not None
        self.address = self._next_address() if address is None else address
        if was_announced:
            self._announce()

    def publish(self, is_published: bool) -> None:  # noqa: FBT001 - the verb names the switch
        """Give the pod its DNS records or take them away, from now on."""
        self._is_published = is_published
        self._announce()

    def log_text(self) -> str:
        """Return all that its server has ever logged."""
        if not self._log_path.exists():
            return ""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def command(self, *args: str | int | bytes, timeout_s: float = 5.0) -> Reply:
        """Send one command on a connection of its own and return the reply.

        Raises:
            ReplyError: The server answered with an error.
            OSError: It cannot be reached, or did not answer in time.
        """
        with Client(
            self.address,
            self.port,
            timeout_s=timeout_s,
            password=self.password,
            tls=conf.tls_files({**self._settings.config, **self.config}),
        ) as client:
            return client.call(*args)

    def _is_ready(self) -> bool:
        try:
            self.command("PING", timeout_s=1.0)
        except ReplyError as error:
            # Whoever wants a password or an ACL user first is up as well.
            return error.code != "LOADING"
        except OSError:
            return False
        return True

    def _announce(self) -> None:
        if self._is_published:
            self._dns.publish(self.name, self.address, port=self.port)
        else:
            self._dns.unpublish(self.name)

    def _signal(self, number: signal.Signals, state: int) -> None:
        if self._process is None or not self.is_running:
            raise SandboxError(f"{self.name} is not running", "start it first")
        self._process.send_signal(number)
        # WNOWAIT leaves the exit status of one that was killed meanwhile to its Popen.
        os.waitid(os.P_PID, self._process.pid, state | os.WEXITED | os.WNOWAIT)

    def _check_stopped(self, verb: str) -> None:
        if self.is_running:
            raise SandboxError(f"cannot {verb} {self.name} while it runs", "kill or terminate it")

    def _log_tail(self) -> str:
        return self.log_text()[-_LOG_TAIL_CHARS:].strip()
