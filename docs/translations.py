"""Knows which version of the English text each section of a translation was made from.

A translation has, before each of its sections, `<!-- from: PATH#HEADING HASH -->`; the part before
the first heading is that of the empty heading. `python -m docs.translations` lists the sections
whose English text has changed since, and `python -m docs.translations --accept` writes the present
hashes, once the translation has been brought up to date.
"""
# ruff: noqa: INP001 - a program beside the documents

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_MARK = re.compile(r"<!-- from: (?P<path>[^#\s]+)#(?P<heading>.*?) (?P<hash>[0-9a-f]{12}) -->")
_GENERATED = re.compile(r"<!-- generated:.*?<!-- end -->", re.DOTALL)


def sections(text: str) -> dict[str, str]:
    """Return the hash of each section of an English document; generated tables do not count."""
    parts = re.split(r"^## (.*)$", _GENERATED.sub("", text), flags=re.MULTILINE)
    named = zip(["", *parts[1::2]], parts[0::2], strict=True)
    return {heading: _hash(body) for heading, body in named}


def _hash(body: str) -> str:
    return hashlib.sha256(" ".join(body.split()).encode()).hexdigest()[:12]


def translations() -> list[Path]:
    """Return the translated documents."""
    return [*sorted(ROOT.glob("*.zh-CN.md")), *sorted((ROOT / "docs").rglob("*.zh-CN.md"))]


def outdated(path: Path) -> Iterator[str]:
    """Yield the sections that a translation lacks, or made from a text that has changed."""
    marks = {(m["path"], m["heading"]): m["hash"] for m in _MARK.finditer(path.read_text())}
    for source in sorted({source for source, _ in marks}):
        for heading, present in sections((ROOT / source).read_text()).items():
            made_from = marks.pop((source, heading), "")
            if made_from != present:
                yield f"{path.name}: {source}#{heading} is {present} now, was {made_from or 'new'}"
    yield from (f"{path.name}: {source}#{heading} does not exist" for source, heading in marks)


def accept(path: Path) -> None:
    """Write the present hashes into a translation."""

    def stamped(mark: re.Match[str]) -> str:
        present = sections((ROOT / mark["path"]).read_text())[mark["heading"]]
        return mark[0].replace(mark["hash"], present)

    path.write_text(_MARK.sub(stamped, path.read_text()))


def main(arguments: list[str]) -> int:
    """Print what is outdated, or accept it; return the exit code."""
    found = [line for path in translations() for line in outdated(path)]
    print("\n".join(found) or "the translations are up to date")  # noqa: T201 - for a terminal
    if "--accept" in arguments:
        for path in translations():
            accept(path)
        return 0
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
