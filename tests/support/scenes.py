"""A cluster to which things happen, described in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bootstrap.core.planner import Policy
from bootstrap.core.topology import ClusterView, DesiredTopology, NodeId, Place, Role
from tests.support.builders import POLICY, node_id

if TYPE_CHECKING:
    from hypothesis.vendor.pretty import RepresentationPrinter


_MANY = 200
Keys = dict[NodeId, dict[int, frozenset[int]]]


@dataclass(kw_only=True, repr=False)
class Scene:
    """A cluster being damaged.

    Attributes:
        happened: Names of the faults, for the reader of a failing example.
        keys: Where keys lie, by node id and slot.
    """

    view: ClusterView
    desired: DesiredTopology
    policy: Policy = POLICY
    keys: Keys = field(default_factory=dict)
    happened: list[str] = field(default_factory=list)
    next_key: int = 0

    def __repr__(self) -> str:
        faults = ", ".join(self.happened) or "nothing"
        return f"<{faults} happened; wanted {self.desired}, {self.policy}; {sketch(self.view)}>"

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: object) -> None:
        """Let Hypothesis print the sketch."""
        printer.text(repr(self))

    @property
    def ordinals(self) -> list[int]:
        """Return the ordinals that answer."""
        return [n.endpoint.ordinal for n in self.view.nodes]

    def primaries(self) -> list[int]:
        """Return ordinals of members that own slots."""
        return [n.endpoint.ordinal for n in self.view.nodes if n.slots]

    def replicas(self) -> list[int]:
        """Return ordinals of replicas."""
        return [n.endpoint.ordinal for n in self.view.nodes if n.role is Role.REPLICA]

    def put_key(self, number: int, slot: int) -> None:
        """Lay a key at a node."""
        self.next_key += 1
        held = self.keys.setdefault(node_id(number), {})
        held[slot] = held.get(slot, frozenset()) | {self.next_key}


def sketch(seen: ClusterView) -> str:
    """Return a view in one line: ordinals, roles, slots, epochs and open slots."""
    ordinal = {n.node_id: n.endpoint.ordinal for n in seen.nodes}
    words = []
    for n in seen.nodes:
        of = n.myself.primary_id
        role = f"<-{ordinal.get(of, of[:8])}" if of else "P"
        marks = f" m{dict(n.migrating)}" if n.migrating else ""
        marks += f" i{dict(n.importing)}" if n.importing else ""
        shown = str(n.slots)[:_MANY]
        words.append(
            f"{n.endpoint.ordinal}:{n.node_id[:6]} {role} [{shown}] e{n.myself.config_epoch}"
            f" knows {len(n.known)}{marks} {n.place if n.place != Place() else ''}"
        )
    return "; ".join(words)
