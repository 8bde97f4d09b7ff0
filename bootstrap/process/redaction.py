"""No secret leaves the program: one way, for log lines, results, tracebacks and last words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# A shorter one is redacted where it is a word: it is part of many harmless ones.
_SHORTEST_ANYWHERE = 4


@dataclass(slots=True)
class _Known:
    """What this process has to keep to itself."""

    pattern: re.Pattern[str] | None = None


_known = _Known()


def hide(secrets: Iterable[str]) -> None:
    """Redact these from now on, also as `repr` spells them."""
    spellings = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            repr(secret)[1:-1],
            repr(secret.encode(errors="surrogateescape"))[2:-1],
        )
    }
    patterns = map(_pattern, sorted(spellings, key=len, reverse=True))
    _known.pattern = re.compile("|".join(patterns)) if spellings else None


def redact(text: str) -> str:
    """Return text without secrets."""
    return _known.pattern.sub("[redacted]", text) if _known.pattern else text


def redact_all(value: object) -> object:
    """Return a value of texts, lists and mappings without secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(each) for each in value]
    return value


def _pattern(secret: str) -> str:
    literal = re.escape(secret)
    if len(secret) >= _SHORTEST_ANYWHERE:
        return literal
    return rf"(?<![\w.-]){literal}(?![\w-]|\.\w)"
