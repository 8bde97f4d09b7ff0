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

from .. import options
from ..errors import BootstrapError, ExitCode
from . import logs, redaction
from .summary import Summary

_WHY = frozenset({"outcome", "exit_code", "node", "phase", "cause", "remedy"})
_log = structlog.get_logger()


def finish_run(summary: Summary, *, output: str | None, termination_log: str | None) -> None:
    """Leave the summary of a run in the termination message, as last line and on stdout."""
    summary = summary.redacted(redaction.redact)
    _leave_message(termination_log or options.TERMINATION_LOG.default, summary.message())
    if summary.error is not None:
        _print_traceback(summary.error)
    logs.let_all_pass()
    if summary.exit_code is ExitCode.HEALTHY:
        _log.info("run.completed", **summary.fields())
    else:
        _log.error("run.failed", **summary.fields())
    if output == "json":
        print_json(summary.fields())
    else:
        print_text(summary.text())


def fail(error: BaseException, *, phase: str, output: str | None) -> int:
    """Tell the error of a command that is no run, in one log line, and return its exit code.

    Where stdout was to carry JSON it does, so that what reads it needs no second way.
    """
    summary = Summary.of(error, phase=phase).redacted(redaction.redact)
    failure = summary.failure
    _print_traceback(error)
    _log.error(
        "command.failed",
        outcome=summary.outcome,
        exit_code=int(summary.exit_code),
        node=failure.node,
        phase=failure.phase,
        cause=failure.cause,
        remedy=failure.remedy,
    )
    if output == "json":
        fields = summary.fields().items()
        print_json({"healthy": False} | {name: value for name, value in fields if name in _WHY})
    return summary.exit_code


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
        if is_there or path != options.TERMINATION_LOG.default:
            _log.warning("termination_log.failed", path=path, cause=error.strerror)
