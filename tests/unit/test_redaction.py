"""No secret and no control character leaves the program, on any way out."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from rich.console import Group
from rich.table import Table

from bootstrap.errors import NodeUnreachableError
from bootstrap.process import cleaning, exit_report, logs
from bootstrap.process.summary import CAUSE_CHARS, Summary
from bootstrap.report import tables

SECRET = "CorrectHorseBatteryStaple"
# Title and clear screen (OSC, CSI), C1 CSI, bidi override, line and paragraph separators.
EVIL = "\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202e\u2028\u2029\x85\r\nhealthy: exit code 0"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    cleaning.hide(())
    structlog.reset_defaults()


def is_safe(text: str) -> bool:
    """Return whether a terminal shows text as it reads."""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("secret", "text", "expected"),
    [
        ("s3cret", "AUTH s3cret, xs3cretx", "AUTH [redacted], x[redacted]x"),
        ("pä's", 'said b"p\\xc3\\xa4\'s"', 'said b"[redacted]"'),
        ("two\nlines", "said 'two\\nlines'", "said '[redacted]'"),
        ("two\x1blines", "said two\x1blines", "said [redacted]"),
        (
            "abc",
            "abc, 'abc' abcd x-abc abc.d abc.",
            "[redacted], '[redacted]' abcd x-abc abc.d [redacted].",
        ),
        ("1", "redis-app-1 at 127.0.0.1: 1", "redis-app-1 at 127.0.0.1: [redacted]"),
        ("", "nothing", "nothing"),
    ],
)
def test_a_secret_is_redacted(secret: str, text: str, expected: str) -> None:
    """A secret is replaced, also as `repr` spells it; a short one only where it stands alone."""
    cleaning.hide(filter(None, [secret]))
    assert cleaning.clean(text) == expected


@pytest.mark.parametrize("secret", ["keys", "Primary", "redis-app"])
def test_our_own_words_stay(secret: str) -> None:
    """A secret that is one of our own words is redacted only where a server quotes it."""
    cleaning.hide([secret])
    ours = f"5 slots and 0 {secret} moved, {secret}-0"
    assert cleaning.clean(ours) == ours
    echoed = f"unknown command 'x', with args beginning with: '{secret}' \"{secret}\""
    assert secret not in cleaning.clean(echoed)


@pytest.mark.parametrize("end", ["", "'", '"', "`", "…", "', 'x'"])
def test_the_beginning_of_a_secret_is_redacted_where_a_quotation_ends(end: str) -> None:
    """Redis quotes 128 bytes of the arguments of a command that it does not know."""
    cleaning.hide([SECRET])
    for length in (6, 7, len(SECRET) - 1):
        assert cleaning.clean(f"of {SECRET[:length]}{end}") == f"of [redacted]{end}"
        twice = f"'{SECRET[:length]}' and '{SECRET[:length]}'"
        assert cleaning.clean(twice) == "'[redacted]' and '[redacted]'"


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        (SECRET, "Corre"),
        (SECRET, "CorrectHors, CorrectHorses"),
        ("redis-app-password", "redis-app-0 and 'redis-app'"),
    ],
)
def test_what_only_begins_like_a_secret_stays(secret: str, text: str) -> None:
    """A few letters, a word that goes on differently, and a word of ours reveal nothing."""
    cleaning.hide([secret])
    assert cleaning.clean(text) == text


def test_the_longer_secret_is_redacted_first() -> None:
    """A secret that is part of another one leaves nothing of the other one behind."""
    cleaning.hide(["s3cret", "s3cret-phrase"])
    cleaned = cleaning.clean_all({"a": ["s3cret-phrase"], "b": ("s3cret",), "c": 5, "d": None})
    assert cleaned == {"a": ["[redacted]"], "b": ["[redacted]"], "c": 5, "d": None}


def test_values_of_other_types_are_cleaned_as_text() -> None:
    """What is neither text nor number is cleaned in the form in which it would be printed."""
    cleaning.hide([SECRET])
    assert cleaning.clean_all(ValueError(f"no: {SECRET}")) == "no: [redacted]"
    assert cleaning.clean_all([True, 1.5, {"x": {SECRET}}]) == [True, 1.5, {"x": ["[redacted]"]}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis-app-0: größer … 中文", "redis-app-0: größer … 中文"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[2J\x9b\x7f", "\\x1b[2J\\x9b\\x7f"),
        ("\u202e\u2066\u2028\u200b", "\\u202e\\u2066\\u2028\\u200b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, expected: str) -> None:
    """Text is on one line and prints as it reads; letters of all languages stay."""
    assert cleaning.clean(text) == expected
    assert cleaning.clean_lines(f"{text}\n").endswith("\n")


@pytest.mark.parametrize("place", range(-30, 31, 5))
def test_a_secret_is_not_cut_before_it_is_redacted(place: int) -> None:
    """A cause is shortened after it was cleaned, so that no half of a secret is left."""
    cleaning.hide([SECRET])
    before = "x" * (CAUSE_CHARS // 2 + place)
    error = NodeUnreachableError(
        node=SECRET, cause=f"{before}{SECRET}{'y' * CAUSE_CHARS}", remedy="r"
    )
    summary = Summary.of(error, phase="observe")
    assert summary.node == "[redacted]"
    assert summary.cause is not None
    assert not any(SECRET[i : i + 4] in summary.cause for i in range(len(SECRET) - 3))


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("error", [RuntimeError, NodeUnreachableError])
def test_the_end_of_a_run_is_clean(
    error: type[Exception],
    output: str,
    log_format: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing that is left of a run holds a secret, a control character or a forged line."""
    cleaning.hide([SECRET])
    logs.configure(log_format=log_format, level="warning")
    path = tmp_path / "termination-log"
    said = f"no: {SECRET}{EVIL}"
    failure = (
        error(node="redis-app-0", cause=said, remedy=said)
        if error is NodeUnreachableError
        else error(said)
    )
    summary = Summary.of(failure, phase="observe")
    exit_report.finish_run(summary, output=output, termination_log=str(path))
    printed = capsys.readouterr()
    for text in (printed.out, printed.err, path.read_text()):
        assert SECRET not in text
        assert "[redacted]" in text
        assert is_safe(text)
        assert not any(line.startswith("healthy") for line in text.splitlines())
    assert ("RuntimeError: no: " in printed.err.partition("run.failed")[0]) is (
        error is RuntimeError
    )
    if log_format == "json":
        assert json.loads(printed.err.splitlines()[-1])["event"] == "run.failed"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_lines_are_clean(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No value of an event can end a line, move the cursor or tell a secret."""
    cleaning.hide([SECRET])
    logs.configure(log_format=log_format, level="info")
    structlog.get_logger().info(
        "pass.failed", node=EVIL, pods=[EVIL, SECRET], kinds={"x": EVIL}, cause=f"{EVIL}{SECRET}"
    )
    text = capsys.readouterr().err
    assert SECRET not in text
    assert is_safe(text)
    assert text.count("\n") == (1 if log_format == "json" else 2)


@pytest.mark.parametrize("output", ["text", "json"])
def test_the_error_of_a_command_is_clean(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is no run reports its error once, and on stdout if that is to be JSON."""
    cleaning.hide([SECRET])
    logs.configure(log_format="json", level="error")
    error = NodeUnreachableError(cause=f"{EVIL}{SECRET}", remedy="check the pod")
    assert exit_report.fail(error, phase="observe", output=output) == 5
    printed = capsys.readouterr()
    assert json.loads(printed.err)["event"] == "command.failed"
    assert is_safe(printed.err + printed.out)
    assert SECRET not in printed.err + printed.out
    if output == "json":
        document = json.loads(printed.out)
        assert (document["healthy"], document["exit_code"]) == (False, 5)
    else:
        assert printed.out == ""


def test_cells_of_a_table_are_clean() -> None:
    """A table shows what peers say as it reads: secrets, control characters and markup of rich."""
    cleaning.hide([SECRET])
    table = Table()
    table.add_row(tables.text(f"[red]{EVIL}"), tables.text(SECRET))
    drawn = Group(table, tables.text(f"refused: {EVIL}{SECRET}", "red"))
    text = tables.rendered(drawn, tables.console())
    assert is_safe(text)
    assert SECRET not in text
    assert "[red]" in text
    assert not any(line.startswith("healthy") for line in text.splitlines())


def test_styles_reach_a_terminal_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The styles of a table stay on a terminal; anywhere else every escape sequence is shown."""
    cleaning.hide([SECRET])
    table = f"\x1b[1mSHARD\x1b[0m\n\x1b[2J{SECRET}\n"
    exit_report.print_text(table)
    assert capsys.readouterr().out == "\\x1b[1mSHARD\\x1b[0m\n\\x1b[2J[redacted]\n\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    exit_report.print_text(table)
    assert capsys.readouterr().out == "\x1b[1mSHARD\x1b[0m\n\\x1b[2J[redacted]\n\n"
