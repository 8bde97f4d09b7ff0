"""What a run reports while it works: in a pod as log lines, at a terminal as steps."""

import asyncio
import re
from collections.abc import Callable
from datetime import datetime

import pytest
from structlog.testing import capture_logs

from bootstrap.core import planner
from bootstrap.core.actions import Plan, Stage
from bootstrap.core.topology import Absent, ClusterView
from bootstrap.errors import StaleViewError
from bootstrap.loop.observation import Observation
from bootstrap.loop.progress import MISSING_EVERY_S, MISSING_FIRST_S, ProgressLog
from bootstrap.net.migration.session import Progress
from bootstrap.report.run_screen import RunScreen
from tests.support.builders import POLICY, absent, fresh, view, wanted
from tests.support.virtual_time import run

ALIVE = view("3x1")
NAMELESS = ClusterView(
    nodes=(),
    absent=tuple(
        Absent(name=f"redis-app-{i}", ordinal=i, phase="dns", cause="no address in DNS yet")
        for i in range(6)
    ),
)
Line = dict[str, object]


class Shown(RunScreen):
    """A screen that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.waited: list[str] = []
        self.moves: list[tuple[int, int, str]] = []

    def step(self, words: str) -> None:
        self.steps.append(words)

    def waits(self, words: str) -> None:
        self.waited.append(words)

    def moved(self, slots: int, total: int, words: str) -> None:
        self.moves.append((slots, total, words))


def seen(what: ClusterView) -> Observation:
    return Observation(view=what, plan=planner.plan(what, wanted("3x1"), POLICY))


def logged(work: Callable[[ProgressLog], None], *, seconds: float = 0.0) -> list[Line]:
    """Return what is logged when the work is done once a second for some time."""

    async def all_of_it() -> None:
        progress = ProgressLog(desired=wanted("3x1"))
        for _ in range(round(seconds) + 1):
            work(progress)
            await asyncio.sleep(1.0)

    with capture_logs() as lines:
        run(all_of_it())
    return [dict(line) for line in lines]


def of(event: str, lines: list[Line]) -> list[Line]:
    return [line for line in lines if line["event"] == event]


def test_pods_that_are_missing_for_one_reason_are_one_line() -> None:
    """With how many there are; the reason of another one is another line."""
    lines = of("finding.detected", logged(lambda p: p.observed(seen(NAMELESS))))
    (line,) = (line for line in lines if line["code"] == "pod_absent")
    assert "(6 pods): no address in DNS yet" in str(line["detail"])
    lines = of("finding.detected", logged(lambda p: p.observed(seen(absent(ALIVE, 4)))))
    assert lines[0]["node"] == "redis-app-4"


def test_missing_pods_are_reported_soon_with_since_when_and_the_usual_causes() -> None:
    """Within ten seconds, and then seldom; since when is the same in every line."""
    lines = of("pods.waited", logged(lambda p: p.observed(seen(NAMELESS)), seconds=40))
    assert len(lines) == 2
    assert [line["waited_s"] for line in lines] == [
        MISSING_FIRST_S,
        MISSING_FIRST_S + MISSING_EVERY_S,
    ]
    assert len({str(line["since"]) for line in lines}) == 1
    assert datetime.fromisoformat(str(lines[0]["since"])).tzinfo
    assert "PVC" in str(lines[0]["remedy"])
    assert "quota" in str(lines[0]["remedy"])


def shown(work: Callable[[ProgressLog], None]) -> Shown:
    screen = Shown()

    async def all_of_it() -> None:
        work(ProgressLog(desired=wanted("3x1"), screen=screen))

    with capture_logs() as lines:
        run(all_of_it())
    assert lines == []
    return screen


def test_at_a_terminal_a_state_is_a_step_once() -> None:
    """What is waited for is replaced each time."""

    def work(progress: ProgressLog) -> None:
        for each in (NAMELESS, NAMELESS, fresh(6), ALIVE):
            progress.observed(seen(each))

    screen = shown(work)
    states = ["unknown (warning)", "degraded (warning)", "healthy (ok)"]
    assert [step.partition(":")[0] for step in screen.steps] == states
    assert "PVC" in screen.waited[0]
    assert screen.waited[-1] == ""


def test_at_a_terminal_a_plan_a_failure_and_moves_are_shown() -> None:
    """A plan that is repeated and a failure that is repeated are shown once."""
    moves = Progress(slots_total=5, slots_moved=1, keys_moved=1)
    plan = seen(fresh(6)).plan

    def work(progress: ProgressLog) -> None:
        for _ in "ab":
            progress.planned(plan, stage=Stage.FORM)
            progress.failed(StaleViewError(cause="it moved", remedy="wait"), phase="form")
            progress.moved(moves)

    screen = shown(work)
    assert screen.steps == [
        "form: SetConfigEpoch 6, AssignSlots 3, Meet 3",
        "form is tried again: it moved; wait",
    ]
    assert [each[:2] for each in screen.moves] == [(1, 5), (1, 5)]
    assert re.fullmatch(r"1 key  \d+ keys/s  \d+ s left", screen.moves[0][2])


@pytest.mark.parametrize("plan", [Plan(), seen(ALIVE).plan])
def test_the_last_observation_is_remembered(plan: Plan) -> None:
    """For the end of the run."""
    progress = ProgressLog(desired=wanted("3x1"))

    async def observe() -> None:
        progress.observed(Observation(view=ALIVE, plan=plan))

    run(observe())
    assert progress.seen is not None
    assert progress.verdict is not None
    assert progress.verdict.since
