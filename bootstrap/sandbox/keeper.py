"""Owns the server processes, so that none outlives this one, however it ends.

All servers join one process group, led by a shell that waits for the end of its standard input.
The kernel closes that pipe when this process ends, also by SIGKILL, and the shell then kills the
group. Unlike PR_SET_PDEATHSIG this needs no code between fork and exec, is not bound to the life
of the *thread* that forked, and works on every POSIX system. Servers outside the terminal's
foreground group get no SIGINT from Ctrl-C either: whoever owns the world decides when it ends.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import SandboxError

# SIGHUP is ignored because the kernel sends it to an orphaned group that has a stopped member,
# which a paused pod is.
_SCRIPT = "trap '' HUP INT QUIT TERM TSTP TTIN TTOU; read _; kill -KILL 0"


class Keeper:
    """Starts processes that end with this one at the latest.

    Args:
        held_fd: A locked file; the lock is held until the servers are gone as well.
    """

    def __init__(self, *, held_fd: int) -> None:
        self._leader = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            pass_fds=(held_fd,),
        )

    def spawn(self, args: Sequence[str | Path], *, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a process whose output is appended to a file."""
        try:
            with log.open("ab") as output:
                return subprocess.Popen(
                    args,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=self._leader.pid,
                )
        except OSError as error:
            raise SandboxError(
                f"{args[0]} cannot be started: {error}", "check the server and the world"
            ) from error

    def close(self) -> None:
        """Kill the whole group at once; their owners still have to reap them."""
        if self._leader.returncode is None:
            # Not yet reaped, so the number cannot have passed to another group.
            os.killpg(self._leader.pid, signal.SIGKILL)
            self._leader.communicate()
