"""Log lines are JSON for machines, and short lines that fit for people."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from bootstrap.process import exit_report, logs
from bootstrap.process.summary import Summary


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def make_terminal(monkeypatch: pytest.MonkeyPatch, *streams: str) -> None:
    """Let the captured streams be a terminal of 40 columns."""
    for stream in streams:
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((40, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def logged(capsys: pytest.CaptureFixture[str], level: str = "info", **values: object) -> str:
    """Return what is printed for an event, without the time of day."""
    structlog.get_logger().log({"info": 20, "warning": 30}[level], "pass.failed", **values)
    return re.sub(r"^\d\d:\d\d:\d\d", "12:00:00", capsys.readouterr().err)


def test_a_console_line_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Values are written as people write them, absent ones are left out, sentences come last."""
    logs.configure(log_format="console", level="info")
    structlog.contextvars.bind_contextvars(run_id="0f3a91c2")
    text = logged(
        capsys,
        pods=["redis-app-0", "redis-app-1"],
        kinds={"Meet": 3},
        left_s=None,
        findings=[],
        late=True,
        done=False,
        cause="redis-app-0: timed out",
        remedy="check the pod",
    )
    assert text.splitlines() == [
        "12:00:00 info    pass.failed  pods=redis-app-0, redis-app-1 kinds=Meet 3 late=yes done=no",
        "         redis-app-0: timed out",
        "         check the pod",
    ]


def test_lines_fit_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines are broken between words, never inside one."""
    make_terminal(monkeypatch, "stderr")
    logs.configure(log_format="auto", level="info")
    text = logged(capsys, cause="redis-app-0 at 10.0.0.1 port 6379 does not answer: timed out" * 3)
    lines = text.splitlines()
    assert len(lines) > 3
    assert all(len(line) <= 40 for line in lines)
    assert all(line.startswith(" " * 9) for line in lines[1:])
    assert "redis-app-0" in lines[1]
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((0, 0)))
    assert logged(capsys, cause="word " * 40).count("\n") == 2


@pytest.mark.parametrize(
    ("variable", "value", "is_colored"),
    [
        ("TERM", "xterm", True),
        ("TERM", "dumb", False),
        ("NO_COLOR", "1", False),
        ("NO_COLOR", "", True),
    ],
)
def test_colors_are_those_that_were_asked_for(
    variable: str,
    value: str,
    is_colored: bool,  # noqa: FBT001 - a parameter of pytest
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """NO_COLOR and TERM=dumb switch colors off."""
    make_terminal(monkeypatch, "stderr")
    monkeypatch.setenv(variable, value)
    logs.configure(log_format="auto", level="info")
    assert ("\x1b[33mwarning\x1b[0m" in logged(capsys, "warning")) is is_colored


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal lines are JSON, whose values keep the letters of all languages."""
    logs.configure(log_format="auto", level="info")
    text = logged(capsys, cause="größer", left_s=None)
    assert "größer" in text
    assert json.loads(text).items() >= {"event": "pass.failed", "level": "info"}.items()


def test_a_level_leaves_out_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The end of a run is logged whatever the level is."""
    logs.configure(log_format="json", level="warning")
    assert logged(capsys) == ""
    logs.let_all_pass()
    assert logged(capsys) != ""
    logs.configure(log_format=None, level="loud")
    assert logged(capsys) != ""


def test_a_terminal_shows_the_end_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where stdout and stderr are one terminal the sentence on stdout says all."""
    make_terminal(monkeypatch, "stdout", "stderr")
    logs.configure(log_format="auto", level="info")
    summary = Summary.of(RuntimeError("boom"), phase="observe")
    exit_report.finish_run(summary, output="text", termination_log="/nonexistent/log")
    printed = capsys.readouterr()
    assert printed.out.startswith("unforeseen: exit code 1")
    assert "run.failed" not in printed.err
    assert "termination_log.failed" in printed.err
    exit_report.finish_run(summary, output="json", termination_log="/dev/null")
    assert "run.failed" in capsys.readouterr().err


def test_rich_is_imported_only_to_draw() -> None:
    """A run in a pod does not pay for it, although structlog would import it."""
    program = (
        "import sys\n"
        "from bootstrap.process import logs\n"
        "from bootstrap.commands import run, wiring\n"
        "assert 'rich' not in sys.modules\n"
        "from bootstrap.report import tables\n"
        "assert sys.modules['rich']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
