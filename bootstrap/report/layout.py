"""What a drawing of a cluster has: shards with a row for each member, and the slot space as a bar.

Pure: from a view to words and numbers. A shard keeps its row and its number while its primary is
missing, because it is numbered by its first slot; what no pod reported is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from ..core.actions import Plan
from ..core.facts import Facts
from ..core.findings import most_members
from ..core.slots import SLOT_COUNT, SlotSet, union
from ..core.topology import (
    Absent,
    Address,
    ClusterView,
    DesiredTopology,
    KnownNode,
    NodeId,
    NodeView,
    Role,
    short_id,
)
from ..core.verdict import State, Verdict

CONTESTED, OPEN, UNSERVED, UNKNOWN = "!*.?"
LEGEND = {
    CONTESTED: "two owners",
    OPEN: "in transit",
    UNSERVED: "not served",
    UNKNOWN: "owner unknown",
}
Row: TypeAlias = dict[str, str]
_UNIT = 1024
_ABSENCES = {"dns": "no address", "connect": "no answer", "serve": "not ready", "command": "error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One observation, and all that is shown of it."""

    view: ClusterView
    plan: Plan
    desired: DesiredTopology
    verdict: Verdict
    at: datetime

    @property
    def is_healthy(self) -> bool:
        """Return whether it shows what was asked for, without pods beyond the wanted number."""
        return self.verdict.state is State.HEALTHY


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A primary, seen or not, and its replicas.

    Attributes:
        number: Position by the first slot; None for a pod that is no part of a cluster.
        live: Members that answered, the primary first.
        rows: Of all members, by the names of columns.
    """

    number: int | None = None
    primary_id: NodeId | None = None
    slots: SlotSet = field(default_factory=SlotSet)
    live: tuple[NodeView, ...] = ()
    rows: tuple[Row, ...]

    @property
    def has_primary(self) -> bool:
        """Return whether its primary answered."""
        return bool(self.live) and self.live[0].node_id == self.primary_id

    @property
    def is_ok(self) -> bool:
        """Return whether nothing is to be said about any member."""
        return self.number is not None and all(row["STATE"] == "ok" for row in self.rows)


def shards(facts: Facts) -> tuple[Shard, ...]:
    """Return every shard, also those whose primary did not answer, and then all other pods."""
    lost = _lost(facts)
    lines = {**facts.truth, **lost}
    groups: dict[NodeId, list[NodeId]] = {}
    for node_id in lines:
        groups.setdefault(_root(lines, node_id), []).append(node_id)
    pods = {i: pod for i, line in lost.items() if (pod := _pod_at(line.address, facts))}
    rows = {i: _row(node, facts) for i, node in facts.live.items()}
    rows |= {i: _lost_row(line, pods.get(i), facts) for i, line in lost.items()}

    def shard(root: NodeId, number: int | None) -> Shard:
        ids = sorted(groups[root], key=lambda i: i != root)
        return Shard(
            number=number,
            primary_id=root,
            slots=lines[root].slots,
            live=tuple(facts.live[i] for i in ids if i in facts.live),
            rows=tuple(rows[i] for i in ids),
        )

    # A member that is gone and had no slots is no shard; nor is a pod that is new.
    numbered = [root for root, ids in groups.items() if lines[root].slots or len(ids) > 1]
    numbered.sort(key=lambda root: next(lines[root].slots.ranges(), (SLOT_COUNT, 0)))
    answered = {node.name for node in facts.nodes}
    known = set(numbered)
    others = [_row(node, facts) for node in facts.nodes if node.node_id not in facts.live]
    others += [
        {"POD": pod.name, "ADDRESS": pod.address, "STATE": _absence(pod)}
        for pod in facts.view.absent
        if pod not in pods.values() and pod.name not in answered
    ]
    if left := len(facts.gone | facts.unseen) - len(lost):
        others.append({"POD": f"? {left} more", "STATE": "not seen"})
    return (
        *(shard(root, number) for number, root in enumerate(numbered)),
        *(shard(root, None) for root in groups if root not in known),
        *(Shard(rows=(row,)) for row in others),
    )


def _root(lines: Mapping[NodeId, KnownNode], node_id: NodeId) -> NodeId:
    """Return the primary of a node, through replicas of replicas."""
    seen: set[NodeId] = set()
    while (above := lines[node_id].primary_id) and above in lines and above not in seen:
        seen.add(node_id := above)
    return node_id


def _lost(facts: Facts) -> dict[NodeId, KnownNode]:
    """Return what peers say of the members that did not answer, of many the first ones."""
    lines: dict[NodeId, KnownNode] = {}
    for node_id in sorted(facts.gone | facts.unseen)[: most_members(facts)]:
        told = [n.known[node_id] for n in facts.live.values() if node_id in n.known]
        slots = union(line.slots for line in told) - facts.owned
        lines[node_id] = replace(told[0], slots=slots)
    return lines


def _pod_at(address: Address, facts: Facts) -> Absent | None:
    """Return the pod that was asked at an address and did not answer."""
    at = [pod for pod in facts.view.absent if pod.address and pod.address == address.ip]
    return next((pod for pod in at if len(at) == 1 or pod.name == str(address)), None)


def _lost_row(line: KnownNode, pod: Absent | None, facts: Facts) -> Row:
    gone = "gone" if line.node_id in facts.gone else "not seen"
    return {
        "POD": pod.name if pod else f"? {short_id(line.node_id)}",
        "ADDRESS": str(line.address) if line.address.ip else "",
        "STATE": _absence(pod) if pod else gone,
        **_role(line),
    }


def _absence(pod: Absent) -> str:
    return f"absent: {_ABSENCES.get(pod.phase, pod.phase)}"


def _role(line: KnownNode) -> Row:
    if line.role is Role.REPLICA:
        return {"ROLE": line.role.value}
    return {"ROLE": line.role.value, "SLOTS": str(len(line.slots)), "RANGES": str(line.slots)}


def _row(node: NodeView, facts: Facts) -> Row:
    faults = [] if node.state_ok else ["new" if node.is_isolated and not node.slots else "fail"]
    faults += ["link down"] * (not node.link_up)
    faults += ["leaving"] * (not facts.stays(node))
    primary = facts.primary_of(node)
    row = {
        "POD": node.name,
        "ADDRESS": str(node.address),
        "KEYS": str(node.keys),
        "MEMORY": size(node.used_memory),
        "STATE": "surplus" if node in facts.surplus else ", ".join(faults) or "ok",
        "PLACE": str(node.place).strip("/"),
        **_role(node.myself),
    }
    if node.role is Role.REPLICA and primary and node.link_up:
        row["LAG"] = size(max(0, primary.replication_offset - node.replication_offset))
    if node.max_memory:
        row["MEMORY"] += f" {100 * node.used_memory // node.max_memory}%"
    return row


def bar(facts: Facts, drawn: Sequence[Shard], cells: int) -> str:
    """Return the slot space: for each cell the last digit of its shard, or what is wrong there."""
    missing = SlotSet.all() - facts.owned
    special = {
        CONTESTED: facts.contested,
        UNKNOWN if facts.is_blocked else UNSERVED: missing,
        OPEN: facts.open_slots,
    }
    owners = [(shard.slots, str(shard.number % 10)) for shard in drawn if shard.number is not None]

    def glyph(cell: int) -> str:
        first, last = cell * SLOT_COUNT // cells, (cell + 1) * SLOT_COUNT // cells - 1
        part = SlotSet.span(first, last)
        for mark, slots in special.items():
            if slots & part:
                return mark
        return max(owners, key=lambda owner: len(owner[0] & part))[1] if owners else UNSERVED

    return "".join(map(glyph, range(cells)))


def size(count: float) -> str:
    """Return bytes as people write them, with the units of Redis (1024)."""
    unit = "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if count < _UNIT:
            break
        count, unit = count / _UNIT, larger
    return f"{count:.{0 if unit == 'B' else 1}f} {unit}"


def duration(seconds: float) -> str:
    """Return a time as people write it."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def ranges_of(numbers: Sequence[int]) -> str:
    """Return numbers as ranges, `0-3, 5`."""
    return str(SlotSet.of(numbers)).replace(",", ", ")
