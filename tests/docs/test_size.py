"""The size of the program."""

import ast
import io
import tokenize

from tests.support.rig import ROOT

MOST_LINES = 11_000
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def lines_of_code(source: str) -> int:
    """Count the lines that have more than a comment or a part of a docstring on them."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = [(t.start[0], t.end[0]) for t in tokens if t.type not in SILENT]
    docstrings = [
        (node.body[0].lineno, node.body[0].end_lineno or 0)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node)
    ]
    return len(numbers(spans) - numbers(docstrings))


def numbers(spans: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


def test_what_counts_as_a_line_of_code() -> None:
    """Docstrings, comments and blank lines do not count; a string over two lines does."""
    source = '"""Module.\n\nMore.\n"""\n\n# why\nX = """a\nb"""  # two\n\ndef f():\n    """Do."""\n'
    assert lines_of_code(source) == 3


def test_the_program_stays_below_its_cap() -> None:
    """Decision 0023 says how many lines of code there may be, and why."""
    modules = (ROOT / "bootstrap").rglob("*.py")
    assert sum(lines_of_code(path.read_text("utf-8")) for path in modules) < MOST_LINES
