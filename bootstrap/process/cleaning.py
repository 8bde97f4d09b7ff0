"""Whatever leaves the program is cleaned here: secrets are redacted, then the rest is escaped.

The one way for log lines, results, tracebacks and the termination message. Text is cleaned before
it is shortened. Servers and `core.parsing` shorten what they quote before, so the beginning of a
secret is redacted too where a quotation ends right after it.

A server, a name server or a file may send control characters (ESC and C1 sequences move the cursor
and change what was printed), bidirectional overrides (text reads differently than it is), and line
breaks, which would forge a line of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile

REDACTED = "[redacted]"
# A shorter secret is redacted where it stands alone: it is part of many harmless words.
_SHORTEST_ANYWHERE = 4
# Shorter beginnings of a secret are part of harmless words, and reveal little.
_SHORTEST_BEGINNING = 6
_ENDS_OF_QUOTES = ("", "'", '"', "`", "…")
# To redact these wherever they stand would hide nothing, as everybody knows what stands there, and
# would show that the word is the secret. They are redacted in quotes, as servers print arguments.
_OUR_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        absent action actions address and apply auth cause cluster code command commands config
        connect default discover dns error exit fail false healthy info keys leaving level meet
        migrate moved node nodes none not observe outcome pass passes password phase plan pods port
        primaries primary redis redis-app redis-service refused remedy replica replicas replicate
        reset run seconds server service settings shard shards slots stage state status stopped
        timeout true unforeseen username valkey verify wait warning with
        """,
    )
)
# The secrets of this process as one pattern; none, or one that `hide` has set.
_secrets: list[re.Pattern[str]] = []
_spellings: list[str] = []


def hide(secrets: Iterable[str]) -> None:
    """Redact these from now on, also in the spelling of `repr`."""
    spellings = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            repr(secret)[1:-1],
            repr(secret.encode(errors="surrogateescape"))[2:-1],
        )
    }
    _spellings[:] = sorted(spellings, key=len, reverse=True)
    _secrets[:] = [re.compile("|".join(map(_pattern, _spellings)))] if spellings else []


def clean(text: str) -> str:
    """Return text without secrets that prints as it reads, on one line."""
    return _escaped(_redacted(text))


def clean_lines(text: str) -> str:
    """Return text of several lines of ours, without secrets, each of which prints as it reads."""
    return "\n".join(map(_escaped, _redacted(text).split("\n")))


def clean_all(value: object) -> object:
    """Return a value of texts, numbers, lists and mappings, cleaned."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {key: clean_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_all(each) for each in value]
    return clean(str(value))


def _redacted(text: str) -> str:
    for pattern in _secrets:
        text = pattern.sub(REDACTED, text)
    for secret in filter(lambda each: len(each) > _SHORTEST_BEGINNING, _spellings):
        text = _without_beginnings(secret, text)
    return text


def _without_beginnings(secret: str, text: str) -> str:
    """Return text without beginnings of a secret at the end of quotations."""
    head, *others = text.split(secret[:_SHORTEST_BEGINNING])
    rest = secret[_SHORTEST_BEGINNING:]
    cleaned = [head]
    for other in others:
        more = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(other, rest, strict=False))))
        beginning = secret[: _SHORTEST_BEGINNING + more]
        is_cut = other[more : more + 1] in _ENDS_OF_QUOTES and beginning.lower() not in _OUR_WORDS
        cleaned.append(f"{REDACTED if is_cut else beginning}{other[more:]}")
    return "".join(cleaned)


def _pattern(secret: str) -> str:
    literal = re.escape(secret)
    if secret.lower() in _OUR_WORDS:
        return rf"(?<=['\"]){literal}(?=['\"])"
    if len(secret) < _SHORTEST_ANYWHERE:
        return rf"(?<![\w.-]){literal}(?![\w-]|\.\w)"
    return literal


def _escaped(text: str) -> str:
    # Not printable are all control, format and separator characters but the space: C0, C1, bidi
    # overrides, U+2028, U+2029, and the surrogates of bytes that are not UTF-8.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
