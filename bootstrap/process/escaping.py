"""What peers say is escaped before it reaches a terminal or a log.

A server, a name server or a file may send control characters (ESC and C1 sequences move the cursor
and change what was printed), bidirectional overrides (text reads differently than it is), and line
breaks, which would forge a line of ours.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return text that prints as it reads, on one line."""
    # Not printable are all control, format and separator characters but the space: C0, C1, bidi
    # overrides, U+2028, U+2029, and the surrogates of bytes that are not UTF-8.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lines(text: str) -> str:
    """Return text of several lines of ours, each of which prints as it reads."""
    return "\n".join(map(one_line, text.split("\n")))
