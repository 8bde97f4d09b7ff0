"""structlog to stderr: JSON for machines, short lines for a terminal."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SHORTEST_SECRET = 4


def configure(*, log_format: str, level: str, secrets: tuple[str, ...] = ()) -> None:
    """Set logging up for the process.

    Args:
        log_format: `json`, `console`, or `auto`: console on a terminal.
        level: `debug`, `info`, `warning` or `error`; another word is told as a fault elsewhere.
        secrets: Values that no line may hold, whatever they come from.
    """
    on_terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and on_terminal)

    def redact(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for key, value in event.items():
            for secret in secrets:
                if isinstance(value, str) and len(secret) >= _SHORTEST_SECRET and secret in value:
                    event[key] = event[key].replace(secret, "[redacted]")
        return event

    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=on_terminal)
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, _LEVELS["info"])),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
