"""Which real servers this machine has, and the command-line tool of each."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support.servers import installed

_ON_PATH = ("redis-server", "valkey-server")


@dataclass(frozen=True, kw_only=True)
class Server:
    """One version of a server.

    Attributes:
        name: Engine and version in two numbers, such as `redis-7.0`.
        cli: Its command-line tool, where it came with one.
    """

    name: str
    binary: ServerBinary
    cli: Path | None

    @property
    def title(self) -> str:
        """Return engine and full version for a table."""
        return f"{self.binary.engine.title()} {'.'.join(map(str, self.binary.version))}"

    @property
    def tool(self) -> str:
        """Return the name of its command-line tool."""
        return f"{self.binary.engine}-cli"


def find(names: Sequence[str]) -> tuple[list[Server], list[str]]:
    """Return the servers that are there, and a note for each name that is not."""
    servers = {server.name: server for server in [*_on_path(), *_fetched()]}
    notes = [f"{name} is not on this machine: left out" for name in names if name not in servers]
    return [servers[name] for name in names if name in servers], notes


def _fetched() -> list[Server]:
    servers = []
    for name, path in installed().items():
        binary = find_server(path)
        servers.append(Server(name=name, binary=binary, cli=binary.cli))
    return servers


def _on_path() -> list[Server]:
    servers = []
    for program in filter(shutil.which, _ON_PATH):
        binary = find_server(program)
        name = f"{binary.engine}-{binary.version[0]}.{binary.version[1]}"
        servers.append(Server(name=name, binary=binary, cli=binary.cli))
    return servers
