"""Documents name what exists: files, variables, log events, codes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bootstrap.cli import cli
from bootstrap.core.findings import FindingCode
from bootstrap.errors import BootstrapError
from docs.json_schemas import table

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda path: path.as_posix()
)
LEVELS = {"debug", "info", "warning", "error"}
SECTIONS = ["Context", "Decision", "Consequences", "Rejected"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge makes of headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every link within the documents leads to a file and a heading that exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_files_that_are_named_exist(path: Path) -> None:
    """Modules are named from the root, from `bootstrap/`, or by what is below `net/migration/`."""
    places = (ROOT, ROOT / "bootstrap", ROOT / "bootstrap/net/migration", ROOT / "manifests/base")
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|sh|toml))`", path.read_text())
    assert [file for file in named if not any((place / file).exists() for place in places)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_variables_exist(path: Path) -> None:
    """Every BOOTSTRAP_* variable that a document names is a setting."""
    options = [param for command in cli.commands.values() for param in command.params]
    known = {option.envvar for option in options if isinstance(option, click.Option)}
    named = set(re.findall(r"(?<![A-Z_])BOOTSTRAP_[A-Z_]*[A-Z]", path.read_text()))
    assert named - known == set()


def events() -> Iterator[tuple[str, str | None, set[str], bool]]:
    """Yield name, level, keys and whether there are more of each event in the code."""
    for path in sorted((ROOT / "bootstrap").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            event = node.args[0]
            if not isinstance(event, ast.Constant) or not isinstance(event.value, str):
                continue
            level = node.func.attr if isinstance(node.func, ast.Attribute) else None
            is_log = level in LEVELS or ast.unparse(node.func) in {"log", "warn"}
            if is_log and re.fullmatch(r"[a-z_]+\.[a-z_]+", event.value):
                keys = {keyword.arg for keyword in node.keywords if keyword.arg}
                yield event.value, level, keys, any(k.arg is None for k in node.keywords)


def test_log_events_are_those_of_the_code() -> None:
    """The document has each event with the level and the keys that the code gives it."""
    documented = table((ROOT / "docs/log-events.md").read_text(), "event")
    found: dict[str, set[str]] = {}
    for event, level, keys, has_more in events():
        found.setdefault(event, set()).update(keys)
        levels, text, _ = documented[event]
        assert level is None or level in levels.split(", "), event
        assert text.startswith("of the ") is has_more, event
    assert found.keys() == documented.keys()
    for event, keys in found.items():
        if keys:
            assert keys == set(re.findall(r"`(\w+)`", documented[event][1])), event


def test_outcomes_are_those_of_the_code() -> None:
    """The document lists each outcome of a run, and no other."""
    text = (ROOT / "docs/log-events.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("`outcome` is one of"))
    classes = [BootstrapError]
    for each in classes:
        classes += each.__subclasses__()
    outcomes = {each.outcome for each in classes[1:]} | {"healthy", "unforeseen"}
    assert set(re.findall(r"`(\w+)`", line)) - {"outcome"} == outcomes


def test_codes_of_findings_are_those_of_the_code() -> None:
    """The document lists each code of a finding, and no other."""
    documented = table((ROOT / "docs/log-events.md").read_text(), "code")
    assert list(documented) == [code.value for code in FindingCode]


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("*.md")), ids=name)
def test_decision_has_its_four_parts(path: Path) -> None:
    """Each decision has context, decision, consequences and what was rejected."""
    text = path.read_text()
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert len(text.splitlines()) < 60
