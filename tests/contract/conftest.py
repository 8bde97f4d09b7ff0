"""Servers with TLS, and the table of bad input."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.world import World

_WITH_TLS = ("redis-8.6", "valkey-9.1", "redis-7.0", "redis-8.0", "valkey-8.1")
_HEAD = """# Bad input

What was given, the exit code, and the sentence that was printed.
Written by `WRITE_BAD_INPUT=docs/bad-input.md` and the tests in `tests/contract/test_bad_input.py`.

| given | exit code | sentence |
|---|---|---|
"""


@pytest.fixture(scope="session")
def tls_server(installed: Mapping[str, str]) -> ServerBinary | None:
    """An installed server that was built with TLS; the embedded one is not."""
    name = next((name for name in _WITH_TLS if name in installed), None)
    return find_server(installed[name]) if name else None


@pytest.fixture(scope="module")
def fresh(server: ServerBinary) -> Iterator[World]:
    """Three pods that do not know each other; no test may change them."""
    with World(nodes=3, server=server) as world:
        world.start()
        yield world


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table of bad input where WRITE_BAD_INPUT says."""
    path = os.environ.get("WRITE_BAD_INPUT")
    if not path:
        return
    lines = sorted(
        value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == "bad_input"
    )
    rows = (f"| {given} | {code} | {_cell(sentence)} |" for _, given, code, sentence in lines)
    Path(path).write_text(_HEAD + "\n".join(rows) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
