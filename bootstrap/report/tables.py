"""Plans and views for people, as tables; the only module that imports rich."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..core.actions import Action, Plan, describe
from ..core.facts import Facts
from ..core.findings import Finding, abbreviate
from ..core.move_costs import move_cost
from ..core.topology import ClusterView, DesiredTopology, NodeView, Place, Role
from ..process.cleaning import clean

_NARROWEST = 100
_SHOWN = 12


def console() -> Console:
    """Return a console on stdout; wide enough for a row a line where there is no terminal."""
    width = None if sys.stdout.isatty() else max(_NARROWEST, shutil.get_terminal_size().columns)
    return Console(width=width, highlight=False, soft_wrap=False)


def rendered(drawn: RenderableType) -> str:
    """Return what would be printed to stdout, without the last line's end."""
    screen = console()
    with screen.capture() as capture:
        screen.print(drawn)
    return capture.get().removesuffix("\n")


@contextmanager
def live(write: Callable[[str], None]) -> Iterator[Callable[[RenderableType], None]]:
    """Yield what redraws `status --watch`; without a terminal it writes what has changed."""
    screen = console()
    if screen.is_terminal:
        with Live(console=screen, auto_refresh=False) as display:
            yield functools.partial(display.update, refresh=True)
        return
    printed = ""

    def print_changed(drawn: RenderableType) -> None:
        nonlocal printed
        if printed != (new := rendered(drawn)):
            write(printed := new)

    yield print_changed


def status(view: ClusterView, plan: Plan, desired: DesiredTopology) -> RenderableType:
    """Return the table of nodes by shard, then what is not as required."""
    facts = Facts(view, desired)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SHARD", "POD", "ADDRESS", "ROLE", "SLOTS", "RANGES", "KEYS", "STATE"):
        table.add_column(name, justify="right" if name in {"SLOTS", "KEYS"} else "left")
    if any(node.place != Place() for node in view.nodes):
        table.add_column("PLACE")
    shown = set()
    for number, shard in enumerate(facts.shards):
        for node in shard:
            shown.add(node.node_id)
            _add_row(table, str(number), node, facts)
    for node in view.nodes:
        if node.node_id not in shown:
            _add_row(table, "-", node, facts)
    for absent in view.absent:
        _add_cells(table, "-", absent.name, absent.address, "?", "", "", "", absent.cause)
    return Group(table, Text(), *_verdict(plan, facts))


def _add_row(table: Table, shard: str, node: NodeView, facts: Facts) -> None:
    is_primary = node.role is Role.PRIMARY
    state = "ok" if node.state_ok else "fail"
    if not node.link_up:
        state += ", replication link down"
    if not facts.desired.stays(node.endpoint.ordinal):
        state += ", leaving"
    place = [str(node.place)] if node.place != Place() else []
    _add_cells(
        table,
        shard if is_primary else "",
        node.name,
        str(node.address),
        node.role.value,
        str(len(node.slots)) if is_primary else "",
        abbreviate(node.slots, most=3) if is_primary else "",
        str(node.keys),
        state,
        *place,
    )


def _add_cells(table: Table, *cells: str) -> None:
    """Add a row of plain text, in which brackets are no markup of rich."""
    table.add_row(*map(_text, cells))


def _text(words: str, style: str = "") -> Text:
    """Return text that may contain what peers said."""
    return Text(clean(words), style)


def _verdict(plan: Plan, facts: Facts) -> list[RenderableType]:
    notices = _findings(plan.notices)
    if plan.is_healthy:
        count = len(facts.staying)
        shape = f"{count} nodes, {facts.desired.primaries} shards, 16384 slots"
        return [Text(f"healthy: {shape}", "green"), *notices]
    lines: list[RenderableType] = [
        _text(f"refused: {refusal.cause}; {refusal.remedy}", "red") for refusal in plan.refusals
    ]
    lines += _findings(plan.findings[:_SHOWN])
    if len(plan.findings) > _SHOWN:
        lines.append(Text(f"and {len(plan.findings) - _SHOWN} more findings"))
    return [*lines, *notices]


def _findings(findings: Sequence[Finding]) -> list[Text]:
    return [_text(f"{finding.code.value}: {finding.detail}", "yellow") for finding in findings]


def plan_text(plan: Plan, forecast: Sequence[Plan], view: ClusterView) -> RenderableType:
    """Return this stage, then the later ones as a forecast."""
    names = {str(node.node_id): node.name for node in view.nodes}
    parts: list[RenderableType] = []
    if plan.is_healthy:
        parts.append(Text("nothing to do: the cluster is healthy", "green"))
    parts += [
        _text(f"refused: {refusal.cause}; {refusal.remedy}", "red") for refusal in plan.refusals
    ]
    for index, step in enumerate((plan, *forecast)):
        if step.actions:
            label = "next" if index == 0 else "forecast"
            stage = step.stage.name.lower() if step.stage else ""
            parts += [Text(f"{label}: {stage}", "bold"), _actions(step.actions, names)]
    if not plan.actions and not plan.refusals:
        parts += _findings(plan.findings[:_SHOWN])
    parts += _findings(plan.notices)
    total = move_cost([plan, *forecast], view)
    if total.slots:
        parts.append(Text(f"to move: {total.slots} slots, {total.keys} keys, {total.bytes} bytes"))
    parts.append(Text(f"fingerprint: {plan.fingerprint}"))
    return Group(*parts)


def _actions(actions: Sequence[Action], names: dict[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for action in actions[:_SHOWN]:
        fields = describe(action)
        reason = str(fields.pop("reason"))
        kind = str(fields.pop("action"))
        words = [f"{key} {names.get(str(value), str(value))}" for key, value in fields.items()]
        _add_cells(table, "", kind, ", ".join(words), reason)
    if len(actions) > _SHOWN:
        table.add_row("", f"and {len(actions) - _SHOWN} more", "", "")
    return table
