"""Writes the parts of README.md that the code knows: commands, settings, exit codes.

`python -m docs.generate` after a change of an option or of an exit code; a test compares.
"""
# ruff: noqa: INP001 - a program in a folder of documents

from collections.abc import Iterator
from pathlib import Path

from bootstrap.cli import cli
from bootstrap.errors import ExitCode
from bootstrap.settings import DECLARED, OPTIONS, SWITCH, Group, Option

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = "<!-- generated: {} -->\n{}\n<!-- end -->"
_JOB = {
    ExitCode.HEALTHY: "is complete",
    ExitCode.UNFORESEEN: "tries again",
    ExitCode.SETTINGS: "fails at once",
    ExitCode.REFUSED: "fails at once",
    ExitCode.INVARIANT: "fails at once",
    ExitCode.NOT_HEALTHY: "tries again",
    ExitCode.PLAN_HAS_WORK: "does not occur",
    ExitCode.STOPPED: "tries again; a drain does not count as a failure",
}
EXIT_CODES = {code: (code.meaning, _JOB[code]) for code in ExitCode}


def commands() -> Iterator[str]:
    """Yield the table of commands."""
    yield "| command | does |"
    yield "|---|---|"
    for name in OPTIONS:
        yield f"| `{name}` | {cli.commands[name].help} |"


def settings() -> Iterator[str]:
    """Yield the table of settings in the order of `--help`, with the command that alone has one.

    Those of the sandbox are left to its `--help`.
    """
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for group in Group:
        for option in DECLARED.values():
            if option.group is group and option.commands != ("sandbox",):
                yield _setting(option)


def _setting(option: Option) -> str:
    users = option.commands
    default = f"`{option.default}`" if option.default else option.absent
    text = option.meaning.rstrip(".")
    if option.kind.choices and option.kind is not SWITCH:
        text += f"; one of {', '.join(f'`{choice}`' for choice in option.kind.choices)}"
    only = f" (`{users[0]}` only)" if len(users) == 1 else ""
    return f"| `{option.variable}` | {default} | {text}{only} |"


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
