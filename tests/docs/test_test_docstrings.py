"""The docstring of a test says in a sentence of its own what holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rig import ROOT

FILES = sorted((ROOT / "tests").rglob("test_*.py"))
# A sentence that opens with one of these words needs the name of the test to be understood.
DEPENDENT = "It|Its|They|Them|Their|And|But|Also|Nor|Or|Until|That|As|Otherwise|Others"
SENTENCE = re.compile(rf"(?!(?:{DEPENDENT})\b)(?:\S+ ){{3,}}\S+\.")


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each test of a file with the first paragraph of its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_"):
            yield node.name, (ast.get_docstring(node) or "").partition("\n\n")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_test_has_a_sentence(path: Path) -> None:
    """A docstring has at least four words, a full stop, and no word that points elsewhere."""
    found = {name: " ".join(text.split()) for name, text in docstrings(path)}
    assert {name: text for name, text in found.items() if not SENTENCE.fullmatch(text)} == {}
