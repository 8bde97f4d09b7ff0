"""The prose linter finds this project's banned words where people read them, and nowhere else."""

import pytest

from docs import prose


def places(name: str, text: str) -> list[str]:
    """Return the line and the matched words of each fault."""
    found = [fault.split(": ", 2) for fault in prose.faults(name, text)]
    return [f"{place.split(':')[1]} {words}" for place, words, *_ in found]


@pytest.mark.parametrize(
    "sentence",
    [
        "Mend the settings.",
        "It draws the table anew.",
        "The run ends when the cluster is whole.",
        "This makes it whole again.",
        "A run on a whole cluster sends nothing.",
        "The node is told so.",
        "It tells whether the pod answers.",
        "By MIGRATE, or else by hand.",
        "Shards are dealt over zones.",
        "The next look shows it.",
        "It is looked\nat again.",
        "Two looks in a row agree.",
        "The hold is given back.",
        "There is no server to be had.",
        "Nobody owns slot 5.",
    ],
)
def test_banned_words_are_reported(sentence: str) -> None:
    """A word of the project's list is reported with its line and what to write instead."""
    assert places("a.md", sentence) != []


@pytest.mark.parametrize(
    "sentence",
    [
        "The whole cluster restarts; a whole number of seconds.",
        "It is something else.",
        "The holder of the lock holds keys of slot 5.",
        "Recommend it.",
        "Look for the pod in the log.",
    ],
)
def test_usual_words_are_allowed(sentence: str) -> None:
    """Sentences with the usual terms pass."""
    assert places("a.md", sentence) == []


def test_code_and_links_of_a_document_are_not_prose() -> None:
    """Names in code and targets of links are not checked."""
    text = "Run `mend`.\n\n```sh\nmend it\n```\n\n[text](mend.md) <!-- mend -->\n\nMend it.\n"
    assert places("a.md", text) == ["9 'Mend'"]


def test_words_around_code_are_not_neighbours() -> None:
    """Two words with code between them do not make a banned phrase."""
    assert places("a.md", "It logs and `status` and `plan` report.") == []


def test_generated_tables_are_checked_where_they_are_written() -> None:
    """A table that is generated is left out, since its source is checked."""
    assert places("a.md", "<!-- generated: settings -->\n| mend |\n<!-- end -->\n") == []


def test_comments_docstrings_and_sentences_of_a_module_are_prose() -> None:
    """In a Python module, comments, docstrings and string literals with sentences are checked."""
    lines = ['"""Mend one."""', "mend = 1  # mend two", 'x = "mend"', 'y = f"mend {mend} now"']
    assert places("a.py", "\n".join(lines)) == ["1 'Mend'", "2 'mend'", "4 'mend'"]


def test_a_phrase_is_found_over_the_end_of_a_comment_line() -> None:
    """A banned phrase is found although a line break divides it."""
    assert places("a.py", "# it is looked\n# at again\n") == ["1 'looked at again'"]


def test_only_comments_of_other_files_are_prose() -> None:
    """In scripts and manifests only the comments are checked."""
    assert places("a.yaml", "mend: 1 # mend\n") == ["1 'mend'"]
