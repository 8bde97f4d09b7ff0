"""How a command reports its end, in the order in which readers depend on it.

The termination message first, as the kubelet keeps it; then the last line of stderr; then stdout,
which may block or be closed. What they say is made in `summary`; the exit codes are
`errors.ExitCode`.
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

from ..errors import BootstrapError, ExitCode
from ..settings import DECLARED
from . import cleaning, logs
from .summary import SCHEMA_VERSION, Summary, utc_now

_STYLE = re.compile(r"(\x1b\[[\d;]*m)")
_log = structlog.get_logger()


def finish_run(summary: Summary, *, output: str | None, termination_log: str) -> None:
    """Leave the summary of a run in the termination message, as last log line and on stdout."""
    _leave_message(termination_log, summary.message())
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
        _write(logs.fitted(summary.text(), sys.stdout))
    else:
        print_json(summary.fields())


def fail(
    error: BaseException, *, phase: str, output: str | None, termination_log: str | None = None
) -> int:
    """Report why a command failed and return its exit code.

    A command that is no run says it in one log line. stdout carries JSON here as well where it was
    asked for, so that a reader of it needs no other source.

    Args:
        error: What ended the command.
        phase: What it was doing.
        output: The format of stdout.
        termination_log: Where a run leaves its summary; None for other commands.
    """
    summary = Summary.of(error, phase=phase)
    if termination_log is not None:
        finish_run(summary, output=output, termination_log=termination_log)
        return summary.exit_code
    _print_traceback(error)
    _log.error("command.failed", **summary.reason())
    if output == "json":
        print_json({"healthy": False, **summary.reason()})
    return summary.exit_code


def print_text(text: str) -> None:
    """Print lines of ours to stdout; on a terminal they keep the styles that rich gave them."""
    parts = _STYLE.split(text) if sys.stdout.isatty() else [text]
    cleaned = (part if _STYLE.fullmatch(part) else cleaning.clean_lines(part) for part in parts)
    _write("".join(cleaned))


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON document to stdout, with the cluster that log lines name, and the time."""
    cluster = structlog.contextvars.get_contextvars().get("cluster")
    about = {"cluster": cluster} if cluster else {}
    document = {"schema_version": SCHEMA_VERSION, **about, "time": utc_now(), **value}
    _write(json.dumps(cleaning.clean_all(document), indent=2))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print_traceback(error: BaseException | None) -> None:
    """Print where an unforeseen error was raised.

    Indented, so that no line of it can be taken for a log line, whatever a message contains.
    """
    if error is not None and not isinstance(error, BootstrapError):
        text = cleaning.clean_lines("".join(traceback.format_exception(error)))
        sys.stderr.write(textwrap.indent(text, "  "))


def _leave_message(path: str, text: str) -> None:
    """Write the termination message. A failure changes nothing; outside of a pod there is none."""
    target = Path(path)
    is_there = True
    try:
        is_there = target.exists()
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        if is_there or path != DECLARED["termination_log"].default:
            _log.warning("termination_log.failed", path=path, cause=error.strerror)
