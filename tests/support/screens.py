"""The screens that people see, of made-up views at a made-up time.

`python -m tests.support.screens` writes them to `tests/unit/screens`, where they are looked at and
kept; `tests/unit/test_screens.py` compares.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from bootstrap.core import model, planner
from bootstrap.core.planner import Policy
from bootstrap.core.topology import Absent, ClusterView, Flag, Place
from bootstrap.core.verdict import verdict
from bootstrap.report import plan_tables, tables
from bootstrap.report.layout import Look
from tests.support.builders import (
    absent,
    acquaint,
    address,
    at,
    field,
    fresh,
    joined,
    node,
    node_id,
    own,
    view,
    wanted,
    with_line,
    without,
)

KEPT = Path(__file__).resolve().parent.parent / "unit" / "screens"
AT = datetime(2026, 11, 27, 16, 20, 3, tzinfo=UTC)
SIZES = {"80x24": (80, 24), "120x40": (120, 40), "200x50": (200, 50), "pipe": None}
MEGABYTE = 1 << 20


def alive(seen: ClusterView) -> ClusterView:
    """Return a view with data, memory, zones, and replicas that are a little behind."""
    for each in seen.nodes:
        number = each.endpoint.ordinal
        seen = field(
            seen,
            number,
            keys=30000,
            used_memory=700 * MEGABYTE,
            data_bytes=650 * MEGABYTE,
            max_memory=1024 * MEGABYTE,
            replication_offset=10_000_000 - 1500 * (each.myself.primary_id is not None),
            place=Place(zone=f"zone-{'abc'[number % 3]}", node=f"node-{number % 9}"),
        )
    return seen


def hung(seen: ClusterView, *numbers: int) -> ClusterView:
    """Return a view in which pods run, but do not answer this program."""
    for number in numbers:
        ip = address(number).ip
        cause = f"redis-app-{number} at {ip} port 6379 does not answer: timed out"
        known = {n.endpoint.ordinal for n in seen.nodes} - {number}
        seen = absent(seen, number, cause)
        missing = replace(seen.absent[-1], address=ip)
        seen = replace(seen, absent=(*seen.absent[:-1], missing))
        for who in known:
            seen = with_line(seen, who, number, link_up=True)
    return seen


def nameless(count: int) -> ClusterView:
    """Return what is seen while the name servers fail."""
    cause = "name servers 10.0.0.10 gave no answer for redis-service.default.svc: SERVFAIL"
    pods = (
        Absent(name=f"redis-app-{i}", ordinal=i, phase="dns", cause=cause, remedy="check CoreDNS")
        for i in range(count)
    )
    return ClusterView(nodes=(), absent=tuple(pods))


def growing(seen: ClusterView, count: int) -> ClusterView:
    """Return a view with pods that are to join."""
    first = len(seen.nodes)
    return joined(seen, *(node(number) for number in range(first, first + count)))


def settling() -> ClusterView:
    """Return a cluster whose views differ for a moment."""
    return with_line(alive(view("3x1")), 4, 0, config_epoch=9)


def failed() -> ClusterView:
    """Return a cluster that serves nothing in the view of one node, with a link that is down."""
    seen = field(alive(view("3x1")), 4, link_up=False, state_ok=False)
    return with_line(seen, 4, 0, flags=frozenset({Flag.PFAIL}))


def many_findings() -> ClusterView:
    """Return a hundred nodes, and ten kinds of findings."""
    seen = own(alive(view("50x1")), 3, config_epoch=5)
    seen = own(seen, 7, slots=at(seen, 8).slots | at(seen, 7).slots)
    seen = field(seen, 60, link_up=False)
    seen = field(seen, 61, no_failover=True)
    seen = field(seen, 62, handshakes=frozenset({address(200)}))
    seen = field(seen, 9, migrating={1700: node_id(10)})
    seen = with_line(seen, 20, 21, flags=frozenset({Flag.FAIL}))
    seen = with_line(seen, 22, 23, config_epoch=77)
    seen = own(seen, 70, primary_id=node_id(69))
    return without(seen, 40, 90)


SCENES: dict[str, tuple[Callable[[], ClusterView], str]] = {
    "healthy": (lambda: alive(view("3x1")), "3x1"),
    "healthy-100": (lambda: alive(view("50x1")), "50x1"),
    "new": (lambda: fresh(6), "3x1"),
    "growing": (lambda: growing(alive(view("3x1")), 2), "4x1"),
    "shrinking": (lambda: alive(view("4x1")), "3x1"),
    "settling": (settling, "3x1"),
    "failed": (failed, "3x1"),
    "hung-primary": (lambda: hung(alive(view("3x1")), 1), "3x1"),
    "hung-shard": (lambda: hung(alive(view("3x1")), 1, 4), "3x1"),
    "lost-replica": (lambda: without(alive(view("3x1")), 4), "3x1"),
    "lost-shard": (lambda: without(alive(view("3x1")), 2, 5), "3x1"),
    "no-names": (lambda: nameless(34), "17x1"),
    "surplus": (lambda: growing(alive(view("3x1")), 2), "3x1"),
    "two-clusters": (
        lambda: joined(
            alive(view("3x1")), *acquaint([node(6, "0-99", epoch=9), node(7, of=6, epoch=9)]).nodes
        ),
        "4x1",
    ),
    "many-findings": (many_findings, "50x1"),
}


PIPED = {"healthy", "growing", "hung-primary", "no-names"}


def looked(name: str, *, acts: bool) -> Look:
    """Return the look at a scene; the state has lasted for two minutes."""
    make, shape = SCENES[name]
    seen, desired = make(), wanted(shape)
    plan = planner.plan(seen, desired, Policy(separate=acts))
    since = (AT - timedelta(seconds=127)).isoformat()
    return Look(
        view=seen,
        plan=plan,
        desired=desired,
        verdict=replace(verdict(plan, seen), since=since),
        at=AT,
    )


def screen(size: str, *, colors: bool = False) -> Console:
    """Return a terminal of that size, or what stands for a pipe."""
    width, height = SIZES[size] or (10_000, 100)
    return Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=SIZES[size] is not None,
        color_system="standard" if colors else None,
        highlight=False,
        _environ={},
    )


def drawn(name: str, command: str, size: str, *, colors: bool = False) -> str:
    """Return what a command prints about a scene."""
    console = screen(size, colors=colors)
    look = looked(name, acts=command == "plan")
    if command == "status":
        return tables.rendered(tables.status(look, console), console)
    if command == "watch":
        now = AT + timedelta(seconds=2)
        late = "redis-app-2: no answer for 1.5 s"
        return tables.rendered(tables.status(look, console, now=now, late=late), console)
    policy = Policy(separate=True)
    later = list(model.forecast(look.view, look.desired, policy))[1:]
    after = look.view
    for action in (action for step in (look.plan, *later) for action in step.actions):
        after = model.expected(after, action)
    return tables.rendered(plan_tables.plan(look, later, after, console), console)


def shown() -> dict[str, str]:
    """Return the kept screens by file name."""
    files = {}
    for name in SCENES:
        pipe = ["pipe"] if name in PIPED else []
        parts = [
            f"$ {command}  # {size}\n{drawn(name, command, size)}\n"
            for command, sizes in (
                ("status", ["80x24", "120x40", *pipe]),
                ("plan", ["80x24", *pipe]),
            )
            for size in sizes
        ]
        files[f"{name}.txt"] = "\n".join(parts)
    extra = [
        f"$ status --watch  # 80x24\n{drawn('healthy', 'watch', '80x24')}\n",
        f"$ status  # 200x50\n{drawn('hung-primary', 'status', '200x50')}\n",
        f"$ status  # 80x24, colors\n{drawn('hung-primary', 'status', '80x24', colors=True)}\n",
    ]
    files["others.txt"] = "\n".join(extra).replace("\x1b", "\\e")
    return files


if __name__ == "__main__":
    for kept in KEPT.glob("*.txt"):
        kept.unlink()
    for name, text in shown().items():
        (KEPT / name).write_text(text, encoding="utf-8")
