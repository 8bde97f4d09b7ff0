"""Checks the English of the documents: proselint, with the words of docs/prose.toml.

`python -m docs.prose` checks the files that prose.toml names, `python -m docs.prose FILE...` other
files. What is not prose (code, links, quoted output) is blanked before, so that places stay right.
"""
# ruff: noqa: INP001 - a program beside the documents

import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from proselint.checks import __register__ as own_checks
from proselint.config import Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, Padding
from proselint.registry.checks.engine import Fancy
from proselint.registry.checks.types import PreferredForms
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parent.parent
_WORDS = tomllib.loads((ROOT / "docs/prose.toml").read_text())
_CODE_IN_TEXT = re.compile(r"(`+).*?\1", re.DOTALL)
_NOT_PROSE = re.compile(
    r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1[^\n]*$"  # fenced code
    r"|<!-- generated:.*?<!-- end -->"  # written from the code, which is checked itself
    r"|<!--.*?-->"
    r"|(?<=\])\([^)\s]*\)|https?://[^\s)>]+",
    re.DOTALL | re.MULTILINE,
)
_COMMENT = re.compile(r"(?:^|(?<=\s))#(?![!:])(.*)$", re.MULTILINE)
_SENTENCE = re.compile(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_QUOTES = re.compile(r"^[A-Za-z]*(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')$")
# From Python 3.12 on an f-string is several tokens.
_FSTRING_START = getattr(tokenize, "FSTRING_START", None)
_FSTRING_END = getattr(tokenize, "FSTRING_END", None)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _code(match: re.Match[str]) -> str:
    """Return what is no word in place of code, so that words around it are not neighbours."""
    return re.sub(r"[^\n]", "¤", match[0])


def markdown(text: str) -> str:
    """Return the text of a Markdown document."""
    return _CODE_IN_TEXT.sub(_code, _NOT_PROSE.sub(_blank, text))


def comments(text: str) -> str:
    """Return the comments of a file in which `#` starts one."""
    return _only((match.span(1) for match in _COMMENT.finditer(text)), text)


def python(text: str) -> str:
    """Return the comments, the docstrings and the sentences in strings of a Python module."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = []
    begun: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == _FSTRING_START:
            begun.append(token.start)
        elif token.type in {tokenize.COMMENT, tokenize.STRING, _FSTRING_END}:
            row, column = begun.pop() if token.type == _FSTRING_END else token.start
            last_row, last_column = token.end
            if begun:
                continue  # within the braces of another one
            start, end = starts[row - 1] + column, starts[last_row - 1] + last_column
            words = _PLACEHOLDER.sub("", text[start:end])
            if token.type == tokenize.COMMENT or _SENTENCE.search(words):
                spans.append((start, end))
    return _only(spans, text)


def _only(spans: Iterable[tuple[int, int]], text: str) -> str:
    """Return the text with everything blanked but what lies within the spans."""
    result, end = "", 0
    for start, stop in spans:
        result += re.sub(r"[^\n]", " ", text[end:start])
        kept = _QUOTES.sub(_blank, text[start:stop])
        result += _PLACEHOLDER.sub(_blank, kept.replace("#", " "))
        end = stop
    return _CODE_IN_TEXT.sub(_code, result + re.sub(r"[^\n]", " ", text[end:]))


def reader(name: str, text: str) -> Callable[[str], str]:
    """Return what finds the prose in a file."""
    if name.endswith(".md"):
        return markdown
    is_python = name.endswith(".py") or re.match(r"#!.*python", text)
    return python if is_python else comments


def _register() -> Config:
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(own_checks)
        for group, words in _WORDS["words"].items():
            forms = {f"(?:{form})".replace(" ", r"\s+"): use for form, use in words.items()}
            registry.register(
                Check(
                    check_type=PreferredForms(items=forms, padding=Padding.WORDS_IN_TEXT),
                    engine=Fancy(),
                    path=f"words.{group}",
                    message="'{1}': write {0}",
                )
            )
    return Config(max_errors=10_000, checks={**_WORDS["proselint"], "words": True})


def faults(name: str, text: str) -> Iterator[str]:
    """Yield what is wrong with the prose of a file, one line each, in order."""
    config = _register()
    prose = reader(name, text)(text)
    for found in LintFile(name, prose).lint(config):
        line, column = found.pos
        message = " ".join(found.check_result.message.split())
        yield f"{name}:{line}:{column}: {message} ({found.check_result.check_path})"


def files() -> list[Path]:
    """Return the files that prose.toml names."""
    named = {path for glob in _WORDS["checked"] for path in ROOT.glob(glob)}
    return sorted(named - {ROOT / name for name in _WORDS["excluded"]})


def main(arguments: list[str]) -> int:
    """Print the faults of the files, and return the exit code."""
    wrong = 0
    for path in [Path(name).resolve() for name in arguments] or files():
        name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
        for fault in faults(name, path.read_text()):
            print(fault)  # noqa: T201 - a program for a terminal
            wrong += 1
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
