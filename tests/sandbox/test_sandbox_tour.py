"""docs/tour.md, followed to the letter; WRITE_TOUR=1 writes what is printed into it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import rig

TOUR = rig.ROOT / "docs/tour.md"
PROMPT = "sandbox> "
# What an order has done; tables, plans and times differ from run to run.
OUTCOME = re.compile(
    r"(?:healthy|killed|started|ended|traffic|error|restarted without data)\b"
    r"|redis-app-\d+ is back|\d+ pods|\d+ keys"
)
ROLES = ("primary", "replica")

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield each order and what is printed below it."""
    for part in ("\n" + text).split("\n" + PROMPT)[1:]:
        order, _, output = part.partition("\n")
        yield order, output


def orders_of(document: str) -> list[tuple[str, str]]:
    """Return the orders of the document and their output."""
    return [
        b for text in re.findall(r"```text\n(.*?)```", document, re.DOTALL) for b in blocks(text)
    ]


def outcome(order: str, output: str) -> list[str]:
    """Return what must be the same: what was done, what was lost, and how many of which role."""
    lines = [line for line in output.splitlines() if OUTCOME.match(line)]
    masked = [re.sub(r"(?! lost)[\d.]+(?! lost)", "N", line) for line in lines]
    roles = [f"{role} {output.count(f' {role} ')}" for role in ROLES if order == "status"]
    return [order, *masked, *roles]


def written(document: str, output: list[tuple[str, str]]) -> str:
    """Return the document with this output."""
    orders = iter(output)

    def filled(block: re.Match[str]) -> str:
        texts = []
        for _ in blocks(block[1]):
            order, printed = next(orders)
            lines = (line.rstrip() for line in printed.splitlines())
            texts.append("\n".join([PROMPT + order, *lines]).strip())
        return "```text\n" + "\n".join(texts) + "\n```"

    return re.sub(r"```text\n(.*?)```", filled, document, flags=re.DOTALL)


@pytest.mark.usefixtures("server", "only_sandbox")
def test_tour_is_what_happens(tmp_path: Path) -> None:
    """Every order of the page has the outcome that the page shows."""
    document = TOUR.read_text()
    script = tmp_path / "script"
    script.write_text("".join(f"{order}\n" for order, _ in orders_of(document)))
    result = rig.run({}, "sandbox", "--script", str(script), timeout_s=300)
    assert result.code == 0, result.stderr
    happened = list(blocks(result.stdout))
    if os.environ.get("WRITE_TOUR"):
        TOUR.write_text(written(document, happened))
        document = TOUR.read_text()
    expected = [outcome(*b) for b in orders_of(document)]
    assert [outcome(*b) for b in happened] == expected, result.stdout
