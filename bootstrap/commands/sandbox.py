"""The sandbox command: starts real servers, runs this program on them, and takes orders."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click

from .. import settings, settings_checks
from ..errors import ExitCode, SettingsError, StoppedError
from ..process import signals, stop_signal
from ..sandbox import console
from ..sandbox.binary import find_server
from ..sandbox.errors import SandboxError
from ..sandbox.orders import Orders
from ..sandbox.world import World

# As in the manifests: a pod that was killed has its data, and no primary gives its replicas away.
_CONFIG = {
    "appendonly": "yes",
    "repl-diskless-sync-delay": "0",
    "cluster-allow-replica-migration": "no",
}
_HELP = """
Connect: {client} -c -h {first.address} -p {first.port}
Break it: kill 0, wipe 1, move all, or: add 2. Then `run` makes it healthy.
`help` lists the orders. They also work in another terminal:
  {program} sandbox status
`exit` or Ctrl-C stops the servers."""


def show(*, nodes: int, replicas: int, server: str | None, exits: bool, script: str | None) -> int:
    """Start the servers, form a cluster of them, show it, and take orders.

    Raises:
        SettingsError: No server program, or so few nodes cannot form a cluster.
    """
    try:
        lines = None if exits else console.lines(script)
        binary = find_server(server)
        # For the order `partition`, which only Valkey can carry out.
        debug = {"enable-debug-command": "local"} if binary.engine == "valkey" else {}
        with World(nodes=nodes, server=binary, config=_CONFIG | debug) as world:
            orders = Orders(world, replicas=replicas)
            settings_checks.load(settings.texts(orders.variables()))
            version = ".".join(map(str, binary.version))
            click.echo(f"starting {nodes} {binary.engine} {version} servers and a DNS server")
            with signals.calling(signals.interrupt):
                world.start()
                code = console.execute(orders.do, ["run"])
                if not (sys.stdout.isatty() and sys.stderr.isatty()):  # there `run` ends with it
                    console.execute(orders.do, ["status"])
            if code or exits:
                return code
            is_faultless = _take_orders(world, orders, lines)
            stop_signal.ignore()  # an impatient second Ctrl-C while the servers are stopped
            # At a prompt a person has seen what was faulty; a script reports it.
            is_prompt = not script and sys.stdin is not None and sys.stdin.isatty()
            return ExitCode.HEALTHY if is_faultless or is_prompt else ExitCode.SETTINGS
    except SandboxError as error:
        raise SettingsError(cause=error.problem, remedy=error.remedy) from error


def give(words: Sequence[str]) -> int:
    """Give an order to the sandbox that another terminal has; return an exit code."""
    try:
        return console.once(words)
    except (SandboxError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return ExitCode.SETTINGS


def _take_orders(world: World, orders: Orders, lines: Iterator[str] | None) -> bool:
    """Take orders until the last line, `exit` or a signal; return whether all were possible."""
    program = [str(Path(sys.executable).parent / "redis-cluster-bootstrap")]
    if not Path(*program).exists():
        program = [sys.executable, "-m", "bootstrap"]
    client = world.server.cli or "any cluster client, such as redis-cli"
    click.echo(_HELP.format(client=client, first=world.pods[0], program=shlex.join(program)))
    # From now on Ctrl-C ends the order that is carried out, and only at the prompt the sandbox.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        suppress(StoppedError, KeyboardInterrupt),
        signals.calling(signals.interrupt),
        console.listening(world.directory, orders.do),
    ):
        if lines is not None:
            return console.session(orders.do, lines)
        while True:
            signal.pause()
    return True
