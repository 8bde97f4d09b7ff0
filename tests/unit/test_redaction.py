"""Secrets in texts, lists, mappings and tracebacks."""

import json
from collections.abc import Iterator

import pytest
import structlog

from bootstrap.errors import NodeUnreachableError
from bootstrap.process import exit_report, logs, redaction
from bootstrap.process.summary import Summary


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    redaction.hide(())
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("secret", "text", "expected"),
    [
        ("s3cret", "AUTH s3cret, xs3cretx", "AUTH [redacted], x[redacted]x"),
        ("pä's", 'said b"p\\xc3\\xa4\'s"', 'said b"[redacted]"'),
        (
            "abc",
            "abc, 'abc' abcd x-abc abc.d abc.",
            "[redacted], '[redacted]' abcd x-abc abc.d [redacted].",
        ),
        ("1", "redis-app-1 at 127.0.0.1: 1", "redis-app-1 at 127.0.0.1: [redacted]"),
        ("", "nothing", "nothing"),
    ],
)
def test_texts(secret: str, text: str, expected: str) -> None:
    redaction.hide(filter(None, [secret]))
    assert redaction.clean(text) == expected


def test_the_longer_secret_goes_first() -> None:
    redaction.hide(["s3cret", "s3cret-phrase"])
    assert redaction.clean_all({"a": ["s3cret-phrase"]}) == {"a": ["[redacted]"]}


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("error", [RuntimeError, NodeUnreachableError])
def test_last_words(
    output: str,
    error: type[Exception],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stdout, log line, traceback and termination message hold no secret."""
    redaction.hide(["s3cret"])
    logs.configure(log_format="json", level="warning")
    path = tmp_path_factory.mktemp("log") / "termination-log"
    words = {"cause": "no: s3cret", "remedy": "unset s3cret"}
    failure = error(**words) if error is NodeUnreachableError else error("no: s3cret")
    summary = Summary.of(failure, phase="observe")
    exit_report.finish_run(summary, output=output, termination_log=str(path))
    printed = capsys.readouterr()
    for text in (printed.out, printed.err, path.read_text()):
        assert "s3cret" not in text
        assert "[redacted]" in text
    assert json.loads(printed.err.splitlines()[-1])["event"] == "run.failed"
    assert printed.err.lstrip().startswith("RuntimeError: no: ") is (error is RuntimeError)
