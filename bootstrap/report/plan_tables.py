"""A plan for people: the verdict, what is done stage by stage, the layout afterwards, the sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..core.actions import (
    Action,
    AssignSlots,
    Failover,
    GatherKeys,
    Meet,
    MoveSlots,
    Plan,
    Replicate,
    describe,
)
from ..core.facts import Facts
from ..core.findings import FindingCode, abbreviate, counted, listed
from ..core.move_costs import move_cost
from ..core.slots import union
from ..core.topology import ClusterView, short_id
from . import layout, tables
from .layout import Look

_LEAST_ROWS = 5
_MOVED = FindingCode.ADDRESS_STALE
_AFTERWARDS = ("AFTERWARDS", "PRIMARY", "REPLICAS", "SLOTS", "PLACES")


def plan(
    look: Look, forecast: Sequence[Plan], after: ClusterView, screen: Console
) -> RenderableType:
    """Return all that `plan` prints.

    Args:
        look: What was observed, and the next stage.
        forecast: The stages that are likely to follow.
        after: The view that is likely then.
        screen: Where it is to fit.
    """
    steps = [step for step in (look.plan, *forecast) if step.actions]
    head = tables.headline(look, screen)
    end = [Text(summary(look, [look.plan, *forecast]), "bold"), *_hint(look)]
    if not steps:
        return Group(head, *end)
    shards = [s for s in layout.shards(Facts(after, look.desired)) if s.number is not None]
    if not screen.is_terminal:
        return Group(head, _stages(steps, look, None), _layout(shards, len(shards)), *end)
    room = screen.height - 2 - tables.height([head, *end], screen)
    # Fewer names, then fewer stages, until there is room for the layout as well.
    fewer = [*((most, len(steps)) for most in (4, 2, 1, 0)), *((0, n) for n in (6, 3, 1))]
    for most, count in fewer:
        stages = _stages(steps[:count], look, most, left=len(steps[count:]))
        left = room - tables.height([stages], screen)
        if left >= min(_LEAST_ROWS, len(shards) + 1):
            break
    return Group(head, stages, _layout(shards, max(1, left - 2)), *end)


def summary(look: Look, steps: Sequence[Plan]) -> str:
    """Return the plan in one line."""
    if look.plan.refusals:
        return f"Plan: refused, nothing is changed: {look.verdict.reason}"
    if look.plan.is_waiting:
        return f"Plan: blocked, nothing is changed: {look.verdict.reason}"
    actions = [action for step in steps for action in step.actions]
    if not actions:
        waits = "Plan: nothing to send, the servers need time"
        return "Plan: nothing to do" if look.plan.is_healthy else waits
    facts = Facts(look.view, look.desired)
    joining = [node for node in facts.staying if node.is_isolated]
    # A member that seems to be gone may be a pod that was not observed.
    forgotten = len(facts.leaving) + (0 if look.plan.is_partial else len(facts.gone))
    cost = move_cost(steps, look.view)
    moved = f" ({layout.size(cost.bytes)}, {counted(cost.keys, 'key')})" if cost.keys else ""
    assigned = len(union(a.slots for a in actions if isinstance(a, AssignSlots)))
    replicas = sum(isinstance(a, Replicate) for a in actions)
    failovers = sum(isinstance(a, Failover) for a in actions)
    again = {a.target for a in actions if isinstance(a, Meet) and a.reason is _MOVED}
    parts = [f"{len(joining)} to join"]
    parts += [f"{len(again)} to introduce again"] if again else []
    parts += [f"{counted(assigned, 'slot')} to assign"] if assigned else []
    parts += [f"{counted(replicas, 'replica')} to attach"] if replicas else []
    parts += [f"{counted(failovers, 'failover')}"] if failovers else []
    parts += [f"{counted(cost.slots, 'slot')}{moved} to move", f"{forgotten} to forget"]
    return f"Plan: {', '.join(parts)}"


def _hint(look: Look) -> Iterator[Text]:
    fingerprint = look.plan.fingerprint
    yield Text(f"fingerprint: {fingerprint}")
    if look.plan.actions:
        yield Text(f"to run exactly this, or nothing: run --expect {fingerprint}")


def _stages(steps: Sequence[Plan], look: Look, most: int | None, left: int = 0) -> RenderableType:
    """Return a row for each stage and kind of action, with the first so many nodes."""
    names = {str(node.node_id): node.name for node in look.view.nodes}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for index, step in enumerate(steps):
        label = f"{'then' if index else 'next'}: {step.stage}"
        for kind, group in groupby(step.actions, key=lambda action: type(action).__name__):
            alike = list(group)
            words = _some([*_subjects(alike, names, most and 3)], most, "; ") if most != 0 else ""
            reasons = ", ".join(dict.fromkeys(action.reason for action in alike))
            cells = (label, kind, str(len(alike)), f"{words} ({reasons})".lstrip())
            table.add_row(*map(tables.text, cells))
            label = ""
    more = (
        [Text(f"not shown: {counted(left, 'later stage')} (piped output shows all)", "italic")]
        if left
        else []
    )
    return Group(table, *more)


def _some(words: Sequence[str], most: int | None, separator: str = ", ") -> str:
    """Return the first words and how many others there are; one other is named as well."""
    is_short = most is not None and len(words) == most + 1
    return listed(words, most=None if is_short else most, separator=separator)


def _subjects(alike: Sequence[Action], names: dict[str, str], most: int | None) -> Iterator[str]:
    """Yield the nodes of actions of one kind; those with one counterpart are one subject."""
    pairs: dict[str, list[str]] = {}
    for action in alike:
        fields = {key: str(value) for key, value in describe(action).items()}
        node = next(fields[key] for key in ("source", "node") if key in fields)
        other = next((fields[key] for key in ("target", "primary", "gone") if key in fields), "")
        first, second = (names.get(each, short_id(each)) for each in (node, other))
        if isinstance(action, MoveSlots | GatherKeys | AssignSlots):
            first += f" -> {second}" if second else ""
            yield f"{first} {counted(len(action.slots), 'slot')} ({abbreviate(action.slots)})"
        elif second:
            pairs.setdefault(second, []).append(first)
        else:
            yield first
    for second, firsts in pairs.items():
        yield f"{_some(firsts, most)} -> {second}"


def _layout(shards: Sequence[layout.Shard], room: int) -> RenderableType:
    """Return the shards as they will be, as many as there is room for."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in _AFTERWARDS:
        table.add_column(name, no_wrap=name != "PLACES", overflow="fold")
    shown = shards[:room] if len(shards) > room + 1 else shards
    for shard in shown:
        primary, *replicas = shard.rows
        places = " ".join(dict.fromkeys(filter(None, (row.get("PLACE") for row in shard.rows))))
        names = ", ".join(row["POD"] for row in replicas)
        cells = (str(shard.number), primary["POD"], names, str(len(shard.slots)), places)
        table.add_row(*map(tables.text, cells))
    left = len(shards) - len(shown)
    more = [Text(f"not shown: {counted(left, 'shard')} (piped output shows all)", "italic")]
    return Group(table, *(more if left else []))
