"""Takes orders: at a prompt, from a script, and from other terminals over a socket."""

import contextlib
import json
import os
import shlex
import socket
import socketserver
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import click

from . import orders, subnet
from .errors import SandboxError

Ask: TypeAlias = Callable[[Sequence[str]], str]

_PROMPT = "sandbox> "
_SOCKET = "orders.sock"
_ROOT = Path(__file__).resolve().parents[2]
_OFF = "traffic: off"
_WATCH_EVERY_S = 1.0


def program(args: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the program itself, as in the Job, and return its exit code."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BOOTSTRAP_") or "_LOG_" in k}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bootstrap", *args],
        env={**kept, **variables, "PYTHONPATH": str(_ROOT)},
    )
    try:
        return process.wait()
    finally:
        process.terminate()
        process.wait()


def execute(ask: Ask, words: Sequence[str]) -> int:
    """Carry out one order, print what there is to say, and return an exit code."""
    if words[0] not in orders.PROGRAM:
        _say(ask(words))
        return 0
    is_run = words[0] == "run"
    if is_run:
        _say(ask(["start"]))
    lines = ask(["env"]).splitlines()
    code = program(words, dict(line.removeprefix("export ").split("=", 1) for line in lines))
    if is_run:
        _say(ask(["release"]))
        _say(ask(["traffic"]).replace(_OFF, ""))
    return code


def session(ask: Ask, lines: Iterable[str]) -> bool:
    """Carry out the orders of the lines until `exit`; return whether all were possible."""
    are_possible = True
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
            if words == ["exit"]:
                break
            if words:
                execute(ask, words)
        except (SandboxError, ValueError) as error:
            click.echo(f"error: {error}")
            are_possible = False
        except KeyboardInterrupt:
            click.echo("stopped")
    return are_possible


def lines(script: str | None) -> Iterator[str] | None:
    """Return the lines with orders; None where there are none, as in the background."""
    if script:
        try:
            return _scripted(Path(script).read_text(encoding="utf-8").splitlines())
        except OSError as error:
            raise SandboxError(f"--script: {error}", "name a file with orders") from error
    if sys.stdin is None or not sys.stdin.isatty():
        is_given = sys.stdin and not stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode)
        return _scripted(sys.stdin) if is_given else None
    with contextlib.suppress(ImportError):  # for editing and completion; not every Python has it
        import readline  # noqa: PLC0415 - see above

        readline.set_completer(_complete)
        readline.parse_and_bind("tab: complete")
    return _typed()


def _typed() -> Iterator[str]:
    with contextlib.suppress(EOFError):
        while True:
            yield input(_PROMPT)


def _scripted(script: Iterable[str]) -> Iterator[str]:
    for line in filter(str.strip, script):
        click.echo(_PROMPT + line.strip())
        yield line


def once(words: Sequence[str]) -> int:
    """Carry out an order in the sandbox that another terminal has; return an exit code."""
    ask = _remote()
    code = execute(ask, words)
    with contextlib.suppress(KeyboardInterrupt):
        while words == ("traffic",) and sys.stdout.isatty():
            time.sleep(_WATCH_EVERY_S)
            execute(ask, words)
    return code


@contextlib.contextmanager
def listening(directory: Path, ask: Ask) -> Iterator[None]:
    """Take orders from other terminals, until the end."""
    with _Server(str(directory / _SOCKET), _Handler) as server:
        server.ask = ask
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    ask: Ask


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer one line of words with what there is to say, or a problem and a remedy."""
        if not (line := self.rfile.readline()):
            return  # a probe
        try:
            reply = [self.server.ask(json.loads(line))]
        except SandboxError as error:
            reply = [error.problem, error.remedy]
        with contextlib.suppress(OSError):  # the other terminal is gone
            self.wfile.write(json.dumps(reply).encode())


def _remote() -> Ask:
    """Return how to ask the sandbox that was started last."""
    living: dict[float, Path] = {}
    for path in subnet.home().glob(f"*/{_SOCKET}"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            living[path.stat().st_mtime] = path
    if not living:
        raise SandboxError("no sandbox runs here", "start one in another terminal: `sandbox`")
    newest = living[max(living)]

    def ask(words: Sequence[str]) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(newest))
            connection.sendall(json.dumps(words).encode() + b"\n")
            reply = json.loads(connection.makefile("rb").read() or '[""]')
        if len(reply) > 1:
            raise SandboxError(*reply)
        return str(reply[0])

    return ask


def _complete(text: str, state: int) -> str | None:
    matching = [f"{name} " for name in orders.names() if name.startswith(text)]
    return matching[state] if state < len(matching) else None


def _say(text: str) -> None:
    if text:
        click.echo(text)
