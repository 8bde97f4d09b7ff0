"""What people and programs read: tables, JSON documents and metrics."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bootstrap.commands import metrics
from bootstrap.core.actions import Plan
from bootstrap.core.model import expected, forecast
from bootstrap.core.planner import plan
from bootstrap.core.topology import Absent, ClusterView, DesiredTopology, Flag
from bootstrap.core.verdict import State, Verdict, verdict
from bootstrap.loop.health import Health
from bootstrap.report import json_output, plan_tables, tables
from bootstrap.report.layout import Look
from tests.support.builders import (
    POLICY,
    absent,
    acquaint,
    address,
    at,
    estranged,
    field,
    fresh,
    line,
    node,
    node_id,
    own,
    placed,
    view,
    wanted,
)

SMALL = wanted("3x1")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def planned(seen: ClusterView, desired: DesiredTopology = SMALL) -> Plan:
    return plan(seen, desired, POLICY)


def looked(seen: ClusterView, desired: DesiredTopology = SMALL) -> Look:
    proposed = planned(seen, desired)
    now = datetime(2026, 11, 27, 16, 20, 3, tzinfo=UTC)
    judged = verdict(proposed, seen).after(None, now.isoformat())
    return Look(view=seen, plan=proposed, desired=desired, verdict=judged, at=now)


def status(seen: ClusterView, desired: DesiredTopology = SMALL) -> list[str]:
    """Return the table, header first, and below it the lines above."""
    screen = tables.console()
    lines = tables.rendered(tables.status(looked(seen, desired), screen), screen).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("SHARD"))
    return [*lines[start:], *lines[:start]]


def proposal(seen: ClusterView, desired: DesiredTopology = SMALL) -> str:
    steps = [*forecast(seen, desired, POLICY)]
    after = seen
    for action in (action for step in steps for action in step.actions):
        after = expected(after, action)
    screen = tables.console()
    drawn = plan_tables.plan(looked(seen, desired), steps[1:], after, screen)
    return tables.rendered(drawn, screen)


def test_the_table_of_a_healthy_cluster_has_each_pod_once_by_shard() -> None:
    """Pods are sorted by shard, each primary before its replica; the verdict is the first line."""
    lines = status(view("3x1"))
    pods = [next(word for word in line.split() if "redis-app-" in word) for line in lines[1:7]]
    assert pods == [f"redis-app-{number}" for number in (0, 3, 1, 4, 2, 5)]
    assert "PLACE" not in lines[0]
    assert all(line.rstrip().endswith("ok") for line in lines[1:7])
    assert lines[7].startswith("healthy (ok) at 16:20:03")


def test_the_table_counts_members_that_a_pod_makes_up() -> None:
    """A pod that has a row has no second one for what it reports."""
    made_up = {node_id(n): line(n, flags=frozenset({Flag.FAIL})) for n in range(1000, 2000)}
    seen = view("3x1")
    seen = field(seen, 2, known={**at(seen, 2).known, **made_up})
    left = Absent(name="redis-app-2", ordinal=-1, phase="serve", cause="redis-app-2 reports 900")
    rows = status(replace(seen, absent=(left,)))
    assert any("? 900 more" in row for row in rows)
    assert sum(" redis-app-2 " in row for row in rows if "absent" in row) == 0
    assert len("\n".join(rows)) < 30_000


def test_the_table_shows_what_is_wrong_with_a_pod() -> None:
    """A broken link, a failing and a leaving pod and an absent one are shown, with their place."""
    seen = acquaint([*view("3x1").nodes, node(6, of=0, epoch=1)])
    seen = field(placed(seen, {0: "zone-a/node-1"}), 3, link_up=False)
    seen = absent(field(seen, 1, state_ok=False), 5)
    lines = status(seen)
    rows = {word: line for line in lines[1:9] for word in line.split() if "redis-app-" in word}
    assert "PLACE" in lines[0]
    assert "zone-a" in rows["redis-app-0"]
    assert "link down" in rows["redis-app-3"]
    assert "leaving" in rows["redis-app-6"]
    assert "fail" in rows["redis-app-1"]
    assert "absent: no answer" in rows["redis-app-5"]
    assert any("redis-app-5" in line and "connection refused" in line for line in lines[9:])
    assert not any(line.startswith("healthy") for line in lines)


def test_the_table_names_causes_and_refusals() -> None:
    """Each cause is one line, and a refusal has its cause and its remedy."""
    lines = status(fresh(6))
    assert any(line.startswith("reason ") and "no slot has an owner" in line for line in lines)
    refused = status(field(fresh(6), 0, keys=5))
    assert any(line.startswith("refused (") for line in refused)
    assert any(line.startswith("reason ") and "redis-app-0" in line for line in refused)


def test_pairs_are_counted() -> None:
    """After the first pairs a line says how many more there are."""
    seen = view("3x1")
    for who in range(6):
        for whom in range(6):
            if who != whom:
                seen = estranged(seen, who, whom)
    assert "and 27 more pairs" in planned(seen).findings[0].detail


def test_the_plan_shows_this_stage_and_the_later_ones() -> None:
    """The stage that comes next has its actions with pod names; later ones follow."""
    text = proposal(fresh(6))
    assert text.index("next: ") < text.index("then: ")
    assert "AssignSlots" in text
    assert "redis-app-0" in text
    assert "fingerprint: " in text


def test_the_plan_of_a_healthy_cluster_is_empty() -> None:
    """Nothing is to be done, and no stage is shown."""
    text = proposal(view("3x1"))
    assert "Plan: nothing to do" in text
    assert "next:" not in text


def test_the_plan_shows_what_moves_cost() -> None:
    """Slots that are to be moved are added up with their keys."""
    text = proposal(acquaint([*view("3x0", keys=3000).nodes, node(3)]), wanted("4x0"))
    assert re.search(r"Plan: 0 to join, 4096 slots \(.*, \d+ keys\) to move, 0 to forget", text)


def test_the_plan_shows_refusals_and_what_it_waits_for() -> None:
    """A refusal has cause and remedy; where only the servers have work the causes are shown."""
    assert "Plan: refused" in proposal(field(fresh(6), 0, keys=5))
    waiting = proposal(field(view("3x1"), 0, state_ok=False))
    assert "next:" not in waiting
    assert "servers need time" in waiting
    assert "fingerprint: " in waiting


def test_status_as_json_has_nodes_shards_and_slots() -> None:
    """The document has each pod with its role, each shard with its replicas, and all slots."""
    seen = placed(view("3x1"), {0: "a/1", 3: "a/1"})
    document = json.loads(json.dumps(json_output.status_as_json(looked(seen))))
    assert document["healthy"] is True
    assert document["slots"] == {
        "owned": 16384, "total": 16384, "uncovered": "", "unknown": "", "open": "",
    }  # fmt: skip
    first = document["shards"][0]
    assert (first["primary"], first["replicas"]) == ("redis-app-0", ["redis-app-3"])
    assert first["slot_count"] == 5462
    replica = next(each for each in document["nodes"] if each["name"] == "redis-app-3")
    assert (replica["role"], replica["primary"], replica["zone"]) == ("replica", "redis-app-0", "a")
    assert replica["version"] == "7.0.15"
    assert document["shared_domains"] == [
        {"shard": "redis-app-0", "nodes": ["redis-app-0", "redis-app-3"]}
    ]


def test_status_as_json_says_what_is_absent_or_leaves() -> None:
    """Absent pods have their cause, and a pod beyond the wanted number is marked."""
    seen = absent(acquaint([*view("3x1").nodes, node(6, of=0, epoch=1)]), 5)
    document = json.loads(json.dumps(json_output.status_as_json(looked(seen))))
    assert document["healthy"] is False
    assert [each["name"] for each in document["absent"]] == ["redis-app-5"]
    assert [each["name"] for each in document["nodes"] if not each["stays"]] == ["redis-app-6"]
    assert document["findings"]


def test_a_plan_as_json_has_its_stage_and_the_forecast() -> None:
    """Actions name pods beside node ids, and the fingerprint is that of the plan."""
    seen = fresh(6)
    now, later = planned(seen), list(forecast(seen, SMALL, POLICY))[1:]
    document = json_output.plan_as_json(looked(seen), later)
    document = json.loads(json.dumps(document))
    assert document["fingerprint"] == now.fingerprint
    assert document["has_work"] is True
    assert {action["node_name"] for action in document["actions"] if "node_name" in action} <= {
        f"redis-app-{number}" for number in range(6)
    }
    assert len(document["forecast"]) == len(later)
    assert document["cost"]["slots"] == 0


def test_the_plan_of_a_healthy_cluster_as_json_is_empty() -> None:
    """There is no stage, no action, no finding and no refusal."""
    seen = view("3x1")
    document = json_output.plan_as_json(looked(seen), ())
    assert document["healthy"] is True
    assert document["stage"] is None
    assert not any(document[name] for name in ("actions", "forecast", "findings", "refusals"))


@pytest.mark.parametrize("state", list(State))
def test_metrics_name_the_present_state(state: State) -> None:
    """One state has the value 1, gauges without a value are left out, and labels are quoted."""
    health = Health(desired=SMALL, fresh_s=20.0, verdict=Verdict(state=state), pods=6)
    health.findings["slots_uncovered"] = 3
    health.runs["healthy"] = 1
    text = metrics.rendered(health)
    lines = text.splitlines()
    prefix = "redis_cluster_bootstrap_"
    assert f'{prefix}state{{state="{state.value}"}} 1' in lines
    assert sum(line.startswith(f"{prefix}state{{") and line.endswith(" 1") for line in lines) == 1
    assert f"{prefix}pods_answering 6" in lines
    assert "last_healthy_timestamp" not in text
    assert f'{prefix}findings{{code="slots_uncovered"}} 3' in lines
    assert f'{prefix}runs_total{{outcome="healthy"}} 1' in lines
    assert f"# TYPE {prefix}keys_moved_total counter" in lines
    assert f"{prefix}slots 16384" in lines
    assert text.endswith("\n")


def test_a_plan_that_introduces_primaries_again_is_not_blocked() -> None:
    """After an outage with a pod still missing, the verdict and the summary name what is sent."""
    seen = view("3x0")
    for number in (0, 1):
        seen = own(seen, number, address=address(number, moved=True))
    seen = absent(seen, 2)
    look = looked(seen, wanted("3x0"))
    assert look.verdict.state is State.DEGRADED
    assert look.verdict.next == "run applies 2 actions of the stage introduce"
    assert plan_tables.summary(look, [look.plan]) == (
        "Plan: 0 to join, 2 to introduce again, 0 slots to move, 0 to forget"
    )
    assert json_output.plan_as_json(look, [])["blocked"] is False
