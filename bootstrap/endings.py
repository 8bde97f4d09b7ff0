"""How a command ends: its last words, in the order in which they matter.

The termination message first, as the kubelet keeps it; then the last line of stderr; then stdout,
which may block or be gone.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

import structlog

from . import logs, redaction
from .errors import BootstrapError, ExitCode
from .summary import Summary
from .words import TERMINATION_LOG

_log = structlog.get_logger()


def finish(
    summary: Summary, *, output: str, termination_log: str, failure: BaseException | None
) -> None:
    """Leave the summary of a run in the termination message, as last line and on stdout."""
    summary = summary.redacted(redaction.redact)
    _leave_message(termination_log, summary.message())
    if failure is not None:
        _print_traceback(failure)
    logs.let_all_pass()
    if summary.exit_code == ExitCode.WHOLE:
        _log.info("run.completed", **summary.fields())
    else:
        _log.error("run.failed", **summary.fields())
    if output == "json":
        print_json(summary.fields())
    else:
        print_text(summary.text())


def fail(error: BaseException) -> int:
    """Tell the error of a command that is no run, in one log line, and return its exit code."""
    if isinstance(error, BootstrapError):
        _log.error(
            "command.failed",
            outcome=error.outcome,
            exit_code=int(error.exit_code),
            node=error.node,
            cause=error.cause,
            remedy=error.remedy,
        )
        return int(error.exit_code)
    _print_traceback(error)
    _log.error("command.failed", outcome="unforeseen", exit_code=1, cause=str(error))
    return int(ExitCode.UNFORESEEN)


def print_text(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(redaction.redact(text) + "\n")
    sys.stdout.flush()


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON document to stdout."""
    sys.stdout.write(json.dumps(redaction.redact_all(dict(value)), indent=2) + "\n")
    sys.stdout.flush()


def _print_traceback(error: BaseException) -> None:
    """Show where an error came from that nobody foresaw."""
    if not isinstance(error, BootstrapError):
        sys.stderr.write(redaction.redact("".join(traceback.format_exception(error))))


def _leave_message(path: str, text: str) -> None:
    """Write the termination message, which no failure may stop; outside of a pod there is none."""
    target = Path(path)
    is_there = True
    try:
        is_there = target.exists()
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        if is_there or path != TERMINATION_LOG:
            _log.warning("termination_log.failed", path=path, cause=error.strerror)
