"""structlog to stderr: JSON for machines, short lines for a terminal."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from . import redaction

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(*, log_format: str | None, level: str | None) -> None:
    """Set logging up for the process.

    Args:
        log_format: `json`, `console`, or `auto`: console on a terminal.
        level: `debug`, `info`, `warning` or `error`; another word is told as a fault elsewhere.
    """
    on_terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format != "json" and on_terminal)
    renderers: list[structlog.typing.Processor] = (
        [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _leave_out_run_id,
            structlog.dev.ConsoleRenderer(
                colors=on_terminal,
                pad_event_to=16,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
        if console
        else [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _redact,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            _LEVELS.get(level or "info", _LEVELS["info"])
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def let_all_pass() -> None:
    """Log every level from now on: the last line of a run is said whatever was asked for."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))


def _redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {key: redaction.redact_all(value) for key, value in event.items()}


def _leave_out_run_id(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Leave out what tells runs apart in a log store; a terminal shows one."""
    event.pop("run_id", None)
    return event
