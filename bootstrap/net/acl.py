"""Names the ACL rule that a command needs, and the rule that a NOPERM reply asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTAINERS = frozenset({"cluster", "config", "client", "function", "acl", "memory"})
_DENIED = re.compile(r"run the '([^' ]+)' command")
_DENIED_KEY = re.compile(r"access (a|one of the) keys?")


def acl_rule(command: Sequence[str | bytes | int]) -> str:
    """Return the ACL rule that allows a command, `cluster|meet` for a subcommand."""
    words = [str(word).lower() for word in command[:2]]
    return "|".join(words) if words[0] in _CONTAINERS and len(words) > 1 else words[0]


def missing_rule(message: str, rule: str) -> str:
    """Return the rule that a user lacks, according to a NOPERM reply: a command, or keys.

    Args:
        message: The reply; MIGRATE's may be about AUTH, SELECT or RESTORE-ASKING on the target.
        rule: The rule of the command that was sent; before 7.0 a reply names no subcommand.
    """
    if found := _DENIED.search(message):
        denied = found[1].lower()
        is_subcommand = rule.startswith(f"{denied}|")
        return "+" + (rule if is_subcommand else denied)
    return "'~*'" if _DENIED_KEY.search(message) else f"+{rule}"
