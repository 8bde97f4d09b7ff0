"""Large clusters, from the text that their servers would print.

Run with `-s` to see the figures. Bounds are wide: they catch a cube, not a busy machine.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 1024
SCRIPT = """
import json, sys, time
from bench.measured import peak_kib
from dataclasses import replace
from tests.support.builders import endpoint, node, node_id, POLICY
from bootstrap.core import parsing
from bootstrap.core.planner import plan
from bootstrap.core.slots import even_split
from bootstrap.core.topology import ClusterView, DesiredTopology

count, kind = int(sys.argv[1]), sys.argv[2]
shards = count // 2
split = [str(part).replace(",", " ") for part in even_split(shards)]
lines = []
for i in range(count):
    ip = endpoint(i).addresses[0]
    mine = ("master", "-") if i < shards else ("slave", node_id(i % shards))
    slots = split[i] if i < shards else ""
    lines.append((node_id(i), f"{ip}:6379@16379", *mine, i % shards + 1, slots))

def text(me, now):
    if kind == "fresh":
        return f"{node_id(me)} :6379@16379 myself,master - 0 0 0 connected"
    rows = []
    for i, (name, at, role, of, epoch, slots) in enumerate(lines):
        if kind == "stale" and me % 100 == 7 and i % 10 == 3:
            epoch, slots = 0, ""
        mark = "myself," if i == me else ""
        rows.append(f"{name} {at} {mark}{role} {of} 0 {now + i} {epoch} connected {slots}".rstrip())
    return "\\n".join(rows)

cache = {}
reading = 0.0
nodes = []
for me in range(count):
    raw = text(me, 1700000000000 + me)
    started = time.process_time()
    reply = parsing.parse_nodes(raw, cache)
    reading += time.process_time() - started
    mine = reply.known[reply.node_id]
    nodes.append(replace(node(me), known=reply.known, state_ok=kind != "fresh",
                         current_epoch=0 if kind == "fresh" else shards))
started = time.process_time()
step = plan(ClusterView(nodes=tuple(nodes)), DesiredTopology(nodes=count, replicas=1), POLICY)
planning = time.process_time() - started
print(json.dumps({
    "read_s": round(reading, 2), "plan_s": round(planning, 2), "actions": len(step.actions),
    "stage": step.stage, "findings": [f.code for f in step.findings],
    "rss_kb": peak_kib(),
}))
"""


def measured(count: int, kind: str) -> dict[str, object]:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(count), kind],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not result.returncode, result.stderr
    figures: dict[str, object] = json.loads(result.stdout)
    print(f"\n{count} nodes, {kind}: {figures}")
    return figures


SIZES = [
    10,
    100,
    300,
    pytest.param(1000, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("kind", ["healthy", "fresh", "stale"])
def test_reading_and_planning_stay_in_bounds(count: int, kind: str) -> None:
    """A thousand nodes print a million lines: seconds, and far below a gigabyte."""
    figures = measured(count, kind)
    seconds = float(str(figures["read_s"])) + float(str(figures["plan_s"]))
    assert seconds < 0.5 + 30 * (count / 1000) ** 2
    assert int(str(figures["rss_kb"])) < (80 + 420 * count / 1000) * MEGABYTE
    if kind == "healthy":
        assert not figures["findings"]
        assert not figures["actions"]
    elif kind == "fresh":
        assert figures["stage"] == "form"
    elif count >= 100:
        assert figures["findings"] == ["view_outdated"]
        assert figures["actions"] == count // 100 * (count // 20)
