"""The sandbox command: a world of real servers, and the very same run against it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import click

from .. import options, settings
from ..errors import ExitCode, SettingsError, StoppedError
from ..process import signals
from ..sandbox.binary import find_server
from ..sandbox.errors import SandboxError
from ..sandbox.world import World
from . import inspect, run

# Replicas need not wait for others to share a first synchronisation with.
_CONFIG = {"repl-diskless-sync-delay": "0"}


def show(*, nodes: int, replicas: int, server: str | None, exits: bool) -> int:
    """Start the world, make it a cluster, show it, and keep it until Ctrl-C.

    Raises:
        SettingsError: No server program, or so few nodes cannot form a cluster.
    """
    try:
        binary = find_server(server)
        with World(nodes=nodes, server=binary, config=_CONFIG) as world:
            variables = {**world.env(), "BOOTSTRAP_REPLICAS": str(replicas)}
            checked = settings.load(options.texts(variables))
            version = ".".join(map(str, binary.version))
            click.echo(f"starting {nodes} {binary.engine} {version} servers and a DNS server")
            with signals.calling(signals.interrupt):
                world.start()
            summary = asyncio.run(run.converge(checked))
            if summary.error is not None:
                raise summary.error
            click.echo(summary.text())
            asyncio.run(inspect.status(checked, output="text", watch=False))
            if not exits:
                _keep(variables, world)
    except SandboxError as error:
        raise SettingsError(cause=error.problem, remedy=error.remedy) from error
    return ExitCode.HEALTHY


def _keep(variables: dict[str, str], world: World) -> None:
    first = world.pods[0]
    click.echo(f"\nconnect: redis-cli -c -h {first.address} -p {first.port}")
    click.echo("or look with the same program, in another terminal:")
    words = " ".join(f"{name}={value}" for name, value in sorted(variables.items()))
    click.echo(f"  {words} python -m bootstrap status")
    click.echo("Ctrl-C stops the servers")
    with suppress(StoppedError), signals.calling(signals.interrupt):
        while True:
            signal.pause()
