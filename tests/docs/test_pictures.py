"""Pictures of the documents: drawn by programs, readable on light and dark pages, and described."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import document
from docs import pictures

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "docs").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
# Width of a character in sizes of the font: the mean of DejaVu Sans, which is wider than most, and
# a little more.
CHARACTER = 0.56


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - of this repository


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_picture_is_described(path: Path) -> None:
    """A picture has a title and a description, and colours for a dark page."""
    root = parsed(path.read_text())
    assert root.tag == f"{SVG}svg"
    texts = {key: root.findtext(f"{SVG}{key}") or "" for key in ("title", "desc", "style")}
    assert texts["title"]
    assert len(texts["desc"]) > len(texts["title"])
    light, _, dark = texts["style"].partition("@media (prefers-color-scheme: dark)")
    classes = {node.get("class") for node in root.iter() if node.get("class")}
    for colours in (light, dark):
        assert classes <= set(re.findall(r"\.(\w+)\{", colours))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_words_are_within_the_picture(path: Path) -> None:
    """No text of a picture is cut off at an edge."""
    root = parsed(path.read_text())
    for node in root.iter(f"{SVG}text"):
        width = len(node.text or "") * float(node.attrib["font-size"]) * CHARACTER
        left = (
            float(node.attrib["x"])
            - width * {"start": 0, "middle": 0.5, "end": 1}[node.attrib["text-anchor"]]
        )
        assert left > 0, node.text
        assert left + width < float(root.attrib["width"]), node.text
        assert float(node.attrib["y"]) < float(root.attrib["height"]), node.text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_picture_is_shown_with_words(path: Path) -> None:
    """Every picture is in a document, with a text for those who do not see it."""
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = [
        alternative
        for each in documents
        for alternative in re.findall(
            rf"!\[(.*?)\]\((?:docs/)?{re.escape(path.name)}\)", each.read_text()
        )
    ]
    assert shown
    assert all(len(alternative.split()) > 5 for alternative in shown)


def test_pictures_are_what_the_programs_draw() -> None:
    """`make pictures` writes every picture as it is."""
    figures = document.read()
    drawn = {name: draw() for name, draw in pictures.PICTURES.items()}
    drawn["benchmarks.svg"] = document.picture(figures)
    assert {path.name: path.read_text() for path in FILES} == drawn


def test_tables_of_benchmarks_show_the_figures() -> None:
    """The document of the benchmarks is made from the figures that the picture shows."""
    assert (ROOT / "docs/benchmarks.md").read_text() == document.document(document.read())


def test_figures_are_drawn_where_some_are_missing() -> None:
    """A picture is drawn also without a part, and without a command line to compare with."""
    figures = document.read()
    rows = figures["forming"]["tables"]["healthy"]
    rows[0]["cli_healthy_s"] = None
    del figures["rebalance"]
    assert parsed(document.picture(figures)).tag == f"{SVG}svg"
    assert "| Redis 7.0.15 | 6 | 3 | 2.0 | - |" in document.document(figures)
