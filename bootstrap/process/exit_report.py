"""How a command reports its end, in the order in which readers depend on it.

The termination message first, as the kubelet keeps it; then the last line of stderr; then stdout,
which may block or be closed.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import traceback
from collections.abc import Mapping
from pathlib import Path

import structlog

from .. import options
from ..errors import BootstrapError, ExitCode
from . import logs, redaction
from .summary import Summary

_REASON = frozenset({"outcome", "exit_code", "node", "phase", "cause", "remedy"})
_STYLE = re.compile(r"(\x1b\[[\d;]*m)")
_log = structlog.get_logger()


def finish_run(summary: Summary, *, output: str | None, termination_log: str | None) -> None:
    """Leave the summary of a run in the termination message, as last log line and on stdout."""
    _leave_message(termination_log or options.TERMINATION_LOG.default, summary.message())
    if summary.error is not None:
        _print_traceback(summary.error)
    is_text = output != "json"
    # Where both are one terminal the sentence on stdout is the last line, not a repetition.
    if not (is_text and logs.is_for_people() and sys.stdout.isatty() and sys.stderr.isatty()):
        logs.let_all_pass()
        if summary.exit_code is ExitCode.HEALTHY:
            _log.info("run.completed", **summary.fields())
        else:
            _log.error("run.failed", **summary.fields())
    if is_text:
        # Cleaned already; a secret such as `6` must not redact our own numbers.
        _write(summary.text())
    else:
        print_json(summary.fields())


def fail(error: BaseException, *, phase: str, output: str | None) -> int:
    """Report why a command other than a run failed, in one log line; return its exit code.

    stdout carries JSON here as well where it was asked for, so that a reader of it needs no
    other source.
    """
    summary = Summary.of(error, phase=phase)
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
        print_json({"healthy": False} | {name: value for name, value in fields if name in _REASON})
    return int(summary.exit_code)


def print_text(text: str) -> None:
    """Print lines of ours to stdout; on a terminal they keep the styles that rich gave them."""
    parts = _STYLE.split(text) if sys.stdout.isatty() else [text]
    cleaned = (part if _STYLE.fullmatch(part) else redaction.clean_lines(part) for part in parts)
    _write("".join(cleaned))


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON document to stdout."""
    _write(json.dumps(redaction.clean_all(dict(value)), indent=2))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_traceback(error: BaseException) -> None:
    """Print where an unforeseen error was raised.

    Indented, so that no line of it can be taken for a log line, whatever a message contains.
    """
    if not isinstance(error, BootstrapError):
        text = redaction.clean_lines("".join(traceback.format_exception(error)))
        sys.stderr.write(textwrap.indent(text, "  "))


def _leave_message(path: str, text: str) -> None:
    """Write the termination message. A failure changes nothing; outside of a pod there is none."""
    target = Path(path)
    is_there = True
    try:
        is_there = target.exists()
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        if is_there or path != options.TERMINATION_LOG.default:
            _log.warning("termination_log.failed", path=path, cause=error.strerror)
