"""What people see: kept screens, and what is true of every screen."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from bootstrap.core.facts import Facts
from bootstrap.report import json_output, layout, tables
from bootstrap.report.run_screen import RunScreen
from tests.support import screens
from tests.support.builders import at, own, view, wanted, without

MINUTES = "2 min 7 s"


def test_screens_are_those_that_were_looked_at() -> None:
    """`python -m tests.support.screens` writes them; look at the difference before you keep it."""
    kept = {path.name: path.read_text(encoding="utf-8") for path in screens.KEPT.glob("*.txt")}
    assert screens.shown() == kept


@pytest.mark.parametrize("name", screens.SCENES)
@pytest.mark.parametrize("size", ["80x24", "120x40", "200x50"])
@pytest.mark.parametrize("command", ["status", "watch", "plan"])
def test_a_screen_fits_the_terminal(name: str, size: str, command: str) -> None:
    """Nothing scrolls away, the verdict is on top, and what was left out is named."""
    columns, rows = map(int, size.split("x"))
    lines = screens.drawn(name, command, size).splitlines()
    look = screens.looked(name, acts=command == "plan")
    assert len(lines) < rows
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith(f"{look.verdict.state.words} ({look.verdict.severity}) since")
    assert MINUTES in lines[0] or command == "watch"
    if command != "plan" and len(look.view.nodes) > rows:
        assert any(line.startswith("not shown:") for line in lines)


@pytest.mark.parametrize("name", screens.SCENES)
def test_a_pipe_loses_nothing(name: str) -> None:
    """Every pod, every range of slots and every cause is there, a line each."""
    text = screens.drawn(name, "status", "pipe")
    look = screens.looked(name, acts=False)
    for node in look.view.nodes:
        assert node.name in text
        assert str(node.slots) in text
    assert all(absent.name in text for absent in look.view.absent)
    assert "…" not in text
    assert "not shown" not in text
    assert look.verdict.next in text.splitlines()[1 + bool(look.verdict.reason)]


@pytest.mark.parametrize("name", screens.SCENES)
def test_colors_add_nothing_but_colors(name: str) -> None:
    """The same words in the same places."""
    plain = screens.drawn(name, "status", "80x24")
    colored = screens.drawn(name, "status", "80x24", colors=True)
    parts = [part.partition("m")[2] for part in f"\x1b[0m{colored}".split("\x1b[")[1:]]
    words = "".join(parts)
    assert [line.rstrip() for line in words.splitlines()] == plain.splitlines()


def document(look: layout.Look) -> Any:  # noqa: ANN401 - as a reader of JSON has it
    """Return the JSON of `status`."""
    return json.loads(json.dumps(json_output.status_as_json(look)))


def test_a_shard_without_its_primary_keeps_its_row_and_number() -> None:
    """In the drawing and in JSON, before and after."""
    before = screens.looked("healthy", acts=False)
    after = screens.looked("hung-primary", acts=False)
    shard = document(after)["shards"][1]
    assert (shard["number"], shard["primary"], shard["slots"]) == (1, None, "5462-10922")
    assert shard["replicas"] == ["redis-app-4"]
    assert document(before)["shards"][1]["primary"] == "redis-app-1"
    drawn = layout.shards(Facts(after.view, after.desired))
    assert [row["POD"] for row in drawn[1].rows] == ["redis-app-1", "redis-app-4"]
    assert [row["STATE"] for row in drawn[1].rows] == ["absent: no answer", "ok"]


def test_what_nobody_saw_is_unknown() -> None:
    """Slots of pods that did not answer are not said to be nobody's."""
    slots = document(screens.looked("hung-primary", acts=False))["slots"]
    assert slots["unknown"] == "5462-10922"
    assert slots["uncovered"] == ""
    text = screens.drawn("no-names", "status", "pipe")
    assert "(34 pods)" in text.splitlines()[1]
    assert "owned by" not in text
    assert "." not in next(line for line in text.splitlines() if line.startswith("slots"))


def test_a_blocked_plan_is_not_nothing_to_do() -> None:
    """A plan that waits for a pod says so, in JSON as well, and has another fingerprint."""
    blocked, healthy = (
        screens.looked("hung-primary", acts=True),
        screens.looked("healthy", acts=False),
    )
    assert blocked.plan.fingerprint != healthy.plan.fingerprint
    assert "\nPlan: blocked" in screens.drawn("hung-primary", "plan", "pipe")
    assert json_output.plan_as_json(blocked, [])["blocked"] is True
    assert json_output.plan_as_json(healthy, [])["blocked"] is False


def test_a_plan_ends_in_a_summary_and_says_how_to_run_it() -> None:
    """What is alike is one row."""
    text = screens.drawn("growing", "plan", "80x24")
    fingerprint = screens.looked("growing", acts=True).plan.fingerprint
    assert text.count("Meet") == 1
    assert "Plan: 2 to join" in text
    assert text.endswith(f"run --expect {fingerprint}")


def test_without_a_terminal_a_watch_prints_what_has_changed() -> None:
    """Neither the time nor the memory is a change."""
    printed: list[str] = []
    look = screens.looked("healthy", acts=False)
    other = screens.looked("hung-primary", acts=False)
    with tables.live(printed.append) as draw:
        for each in (look, look, other):
            draw(each, each.at + timedelta(seconds=len(printed)), "")
    assert [text.split()[0] for text in printed] == ["healthy", "degraded"]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (3 << 40, "3.0 TB")]
)
def test_sizes_are_those_of_people(count: int, text: str) -> None:
    """Bytes are written with the units of Redis."""
    assert layout.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.4, "59 s"), (127, MINUTES), (7260, "2 h 1 min")]
)
def test_times_are_those_of_people(seconds: float, text: str) -> None:
    """Seconds become minutes and hours where that is shorter."""
    assert layout.duration(seconds) == text


def test_a_replica_of_a_replica_is_in_the_shard_of_its_primary() -> None:
    """Each node has one row, also in a ring, which no server makes."""
    seen = own(view("3x2"), 6, primary_id=at(view("3x2"), 3).node_id)
    drawn = layout.shards(Facts(seen, wanted("3x2")))
    assert {row["POD"] for row in drawn[0].rows} == {"redis-app-0", "redis-app-3", "redis-app-6"}
    ring = own(seen, 3, primary_id=at(seen, 6).node_id)
    assert sum(len(shard.rows) for shard in layout.shards(Facts(ring, wanted("3x2")))) == 9


def test_a_member_that_is_gone_is_shown_once() -> None:
    """Whether or not its pod is named."""
    drawn = layout.shards(Facts(without(view("3x1"), 0, 3), wanted("3x1")))
    assert [row["STATE"] for row in drawn[0].rows] == ["gone", "gone"]
    assert drawn[0].number == 0


def test_a_run_shows_steps_what_it_waits_for_and_a_bar() -> None:
    """Steps stay; below them is one line, or the bar while slots move."""
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True, _environ={})
    run = RunScreen(screen=console)
    run.step("introduce: Meet 13")
    run.waits("redis-app-6: no address in DNS yet")
    assert "introduce: Meet 13" in written.getvalue()
    assert "waiting for 0 s: redis-app-6: no address" in tables.rendered(run, console)
    run.moved(1365, 4096, "33283 keys  27581 keys/s  2 s left")
    bar = tables.rendered(run, console)
    assert "1365/4096 slots  33283 keys  27581 keys/s  2 s left" in bar
    assert bar.count("\n") == 0
    run.step("forget: Forget 7")
    assert "slots" not in tables.rendered(run, console)
    with run.shown():
        run.waits("")
