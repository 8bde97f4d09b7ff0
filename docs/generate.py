"""Writes the parts of README.md that the code knows: commands, settings, exit codes.

`python -m docs.generate` after a change of an option or of an exit code; a test compares.
"""
# ruff: noqa: INP001 - a program in a folder of documents

from collections.abc import Iterator
from pathlib import Path

import click

from bootstrap.cli import cli
from bootstrap.errors import ExitCode

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = "<!-- generated: {} -->\n{}\n<!-- end -->"
_LAST = ("--output", "--termination-log", "--log-format", "--log-level")
_FIRST = ("run", "plan", "status", "wait", "sandbox")

EXIT_CODES = {
    ExitCode.HEALTHY: ("healthy", "is complete"),
    ExitCode.UNFORESEEN: ("something unforeseen, with a traceback", "tries again"),
    ExitCode.SETTINGS: ("settings or credentials are wrong", "fails at once"),
    ExitCode.REFUSED: ("refused: a person must decide", "fails at once"),
    ExitCode.INVARIANT: ("a reply that cannot be: a bug of this program", "fails at once"),
    ExitCode.NOT_HEALTHY: ("not healthy in time, or a pod is unreachable", "tries again"),
    ExitCode.PLAN_HAS_WORK: ("`plan --exit-code` and there is work to do", "never sees it"),
    ExitCode.STOPPED: ("stopped by SIGTERM or SIGINT", "tries again; not counted if drained"),
}


def commands() -> Iterator[str]:
    """Yield the table of commands."""
    yield "| command | does |"
    yield "|---|---|"
    for name in _FIRST:
        yield f"| `{name}` | {cli.commands[name].help} |"


def settings() -> Iterator[str]:
    """Yield the table of settings; those of single commands come last, with their command."""
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    shown: set[str] = set()
    for command in _FIRST:
        for option in sorted(cli.commands[command].params, key=_is_last):
            if not isinstance(option, click.Option) or not isinstance(option.envvar, str):
                continue
            if option.envvar not in shown:
                shown.add(option.envvar)
                yield _setting(option, command)


def _choices(option: click.Option) -> list[str]:
    if isinstance(option.type, click.Choice):
        return list(option.type.choices)
    metavar = option.metavar or ""
    return metavar[1:-1].split("|") if metavar.startswith("[") else []


def _is_last(option: click.Parameter) -> bool:
    return option.opts[0] in _LAST


def _setting(option: click.Option, command: str) -> str:
    users = [
        name
        for name in _FIRST
        if any(
            getattr(param, "envvar", None) == option.envvar for param in cli.commands[name].params
        )
    ]
    only = "" if len(users) > 1 else f" (`{command}` only)"
    default = "" if option.default in (None, "", False) or option.is_flag else f"`{option.default}`"
    text = (option.help or "").rstrip(".") + only
    if choices := _choices(option):
        text += f"; one of {', '.join(f'`{choice}`' for choice in choices)}"
    return f"| `{option.envvar}` | {default} | {text} |"


def exit_codes() -> Iterator[str]:
    """Yield the table of exit codes."""
    yield "| code | means | the Job |"
    yield "|--:|---|---|"
    for code in ExitCode:
        means, job = EXIT_CODES[code]
        yield f"| {int(code)} | {means} | {job} |"


def generated(text: str) -> str:
    """Return the README with its generated blocks again."""
    for name, lines in (
        ("commands", commands()),
        ("settings", settings()),
        ("exit codes", exit_codes()),
    ):
        block = _BLOCK.format(name, "\n".join(lines))
        start, end = block.partition("\n")[0], "<!-- end -->"
        before, _, rest = text.partition(start)
        text = before + block + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    README.write_text(generated(README.read_text()))
