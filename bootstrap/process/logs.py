"""structlog to stderr: JSON for machines, short lines for a terminal."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

from .cleaning import clean_all

# structlog imports rich where it is installed, for tracebacks that are not used here, which takes a
# sixth of the start-up. So it does not find rich; `report` imports it to draw.
_rich = sys.modules.get("rich")
sys.modules["rich"] = cast("Any", None)
import structlog  # noqa: E402 - see above

del sys.modules["rich"]
if _rich:
    sys.modules["rich"] = _rich

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLORS = {"debug": "2", "warning": "33", "error": "31"}
_SENTENCES = ("detail", "cause", "remedy")
_INDENT = " " * 9
# Our own words on every line; a secret that equals one of them is not in them.
_OWN = frozenset({"event", "level", "timestamp"})

Event = MutableMapping[str, Any]


def configure(*, log_format: str | None, level: str | None) -> None:
    """Set up logging for the process.

    Args:
        log_format: `json`, `console`, or `auto`: console on a terminal.
        level: `debug`, `info`, `warning` or `error`. Other words are reported as a fault later.
    """
    processors = structlog.processors
    chain: list[structlog.typing.Processor] = [processors.add_log_level, _clean]
    if log_format == "console" or (log_format != "json" and sys.stderr.isatty()):
        chain += [processors.TimeStamper(fmt="%H:%M:%S", utc=False), _console]
    else:
        # Cluster and run tell lines apart in a log store; a terminal shows one run.
        chain.insert(0, structlog.contextvars.merge_contextvars)
        chain.append(processors.TimeStamper(fmt="iso", utc=True))
        chain.append(processors.JSONRenderer(ensure_ascii=False))
    structlog.configure(
        processors=chain,
        wrapper_class=structlog.make_filtering_bound_logger(
            _LEVELS.get(level or "info", _LEVELS["info"])
        ),
        # Asked for each line: while progress is drawn, another stream prints lines above it.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def is_for_people() -> bool:
    """Return whether log lines are for people, not for machines."""
    return structlog.get_config()["processors"][-1] is _console


def are_for_steps() -> bool:
    """Return whether a terminal is there on which a run shows its steps in place of the log."""
    level: int = structlog.get_logger().bind().get_effective_level()
    return is_for_people() and sys.stderr.isatty() and level == _LEVELS["info"]


def let_all_pass() -> None:
    """Log every level from now on: the last line of a run does not depend on the log level."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))


def _clean(_logger: object, _method: str, event: Event) -> Event:
    return {key: value if key in _OWN else clean_all(value) for key, value in event.items()}


def _console(_logger: object, _method: str, event: Event) -> str:
    """Return time, level, event and values on one line, and sentences below it.

    The verdict is for programs: its reason is the cause that a sentence says.
    """
    values = {
        key: _plain(value)
        for key, value in event.items()
        if key not in _OWN and key != "verdict" and value not in (None, "", [], {})
    }
    sentences = [values.pop(key) for key in _SENTENCES if key in values]
    shown = " ".join(f"{key}={value}" for key, value in values.items())
    level = f"{event['level']:<7}"
    head = f"{event['timestamp']} {level} {event['event']}  {shown}".rstrip()
    written = [fitted(head, sys.stderr), *(fitted(s, sys.stderr, first=_INDENT) for s in sentences)]
    text = "\n".join(written)
    if (color := _COLORS.get(event["level"])) and _has_colors():
        text = text.replace(level, f"\x1b[{color}m{level}\x1b[0m", 1)
    return text


def _plain(value: object) -> str:
    """Return a value as people write it."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def fitted(text: str, stream: TextIO, *, first: str = "") -> str:
    """Return text broken between words where a terminal would break it inside of them."""
    if (width := _width(stream)) is None:
        return first + text
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _width(stream: TextIO) -> int | None:
    """Return the columns of the terminal; None where lines need not fit."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _has_colors() -> bool:
    """Return whether the terminal supports colors and NO_COLOR is unset (https://no-color.org)."""
    return (
        sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )
