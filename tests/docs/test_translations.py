"""Translations follow the English text: each section names the version that it was made from."""

from pathlib import Path

import pytest

from docs import translations

TRANSLATIONS = translations.translations()


@pytest.mark.parametrize("path", TRANSLATIONS, ids=lambda path: path.name)
def test_translation_is_up_to_date(path: Path) -> None:
    """`python -m docs.translations --accept` after the translation has been corrected."""
    assert list(translations.outdated(path)) == []


def test_changed_section_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A translation of a section that has changed since is listed."""
    monkeypatch.setattr(translations, "ROOT", tmp_path)
    english, path = tmp_path / "A.md", tmp_path / "A.zh-CN.md"
    english.write_text("First.\n\n## Two\n\nSecond.\n")
    path.write_text("<!-- from: A.md# 000000000000 -->\n<!-- from: A.md#Two 000000000000 -->\n")
    translations.accept(path)
    assert list(translations.outdated(path)) == []
    english.write_text("First.\n\n## Two\n\nChanged.\n\n## Three\n\nNew.\n")
    assert [line.split(" is ")[0] for line in translations.outdated(path)] == [
        "A.zh-CN.md: A.md#Two",
        "A.zh-CN.md: A.md#Three",
    ]


def test_generated_tables_do_not_count() -> None:
    """A change of a generated table does not make a translation outdated."""
    one = translations.sections("A\n<!-- generated: x -->\n1\n<!-- end -->\n")
    assert one == translations.sections("A\n<!-- generated: x -->\n2\n<!-- end -->\n")
