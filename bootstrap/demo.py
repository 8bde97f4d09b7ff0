"""The sandbox command: a world of real servers, and the very same run against it."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any

import click

from . import commands, settings
from .errors import ExitCode, SettingsError
from .sandbox.binary import find_server
from .sandbox.errors import SandboxError
from .sandbox.world import World
from .summary import Summary

_STOPPING = (signal.SIGTERM, signal.SIGINT)

# Replicas need not wait for others to share a first synchronisation with.
_CONFIG = {"repl-diskless-sync-delay": "0"}


def show(*, nodes: int, replicas: int, server: str | None, exits: bool) -> int:
    """Start the world, make it a cluster, show it, and keep it until Ctrl-C.

    Raises:
        SettingsError: No server program, or no cluster can be made of so few nodes.
    """
    try:
        binary = find_server(server)
        with World(nodes=nodes, server=binary, config=_CONFIG) as world:
            variables = {**world.env(), "BOOTSTRAP_REPLICAS": str(replicas)}
            checked = settings.load(_raw(variables))
            version = ".".join(map(str, binary.version))
            click.echo(f"starting {nodes} {binary.engine} {version} servers and a DNS server")
            world.start()
            summary = Summary()
            _run(commands.converge(checked, summary))
            click.echo(summary.text())
            _run(commands.status(checked, output="text", watch=False))
            if not exits:
                _keep(variables, world)
    except SandboxError as error:
        raise SettingsError(cause=error.problem, remedy=error.remedy) from error
    return ExitCode.WHOLE


def _run(work: Coroutine[Any, Any, object]) -> None:
    """Run to the end, and handle signals as before; an event loop leaves the system's way."""
    handlers = {number: signal.getsignal(number) for number in _STOPPING}
    try:
        asyncio.run(work)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _raw(variables: dict[str, str]) -> settings.RawSettings:
    names = {name.removeprefix("BOOTSTRAP_").lower(): value for name, value in variables.items()}
    return settings.RawSettings(**names)


def _keep(variables: dict[str, str], world: World) -> None:
    stop = threading.Event()
    for number in _STOPPING:
        signal.signal(number, lambda *_: stop.set())
    first = world.pods[0]
    click.echo(f"\nconnect: redis-cli -c -h {first.address} -p {first.port}")
    click.echo("or look with the same program, in another terminal:")
    words = " ".join(f"{name}={value}" for name, value in sorted(variables.items()))
    click.echo(f"  {words} python -m bootstrap status")
    click.echo("Ctrl-C stops the servers")
    stop.wait()
