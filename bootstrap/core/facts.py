"""What follows from a view, worked out once for diagnosis and planning.

Rules: a node's own line is first-hand and wins over what others say of it; a live process is
recognised by its id; an id that gave no view is `gone` only when no member has a sound link to it,
else it is `unseen`: somebody's process, wherever it is.

Invariant: every known id is exactly one of staying, leaving, unseen or gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from .slots import SlotSet, union
from .topology import Absent, ClusterView, DesiredTopology, Flag, KnownNode, NodeId, NodeView, Role

FAILING = frozenset({Flag.FAIL, Flag.PFAIL})
LOST = FAILING | {Flag.HANDSHAKE, Flag.NOADDR}


@dataclass(frozen=True, eq=False)
class Facts:
    """Derived facts about one view.

    Attributes:
        view: What was seen.
        desired: What is wanted.
    """

    view: ClusterView
    desired: DesiredTopology

    @cached_property
    def nodes(self) -> tuple[NodeView, ...]:
        """Views by ordinal, members that are none of the pods last; answers come in any order."""
        return tuple(
            sorted(
                self.view.nodes,
                key=lambda n: (n.endpoint.ordinal < 0, n.endpoint.ordinal, n.node_id, n.name),
            )
        )

    @cached_property
    def groups(self) -> tuple[frozenset[NodeId], ...]:
        """Ids that know each other, directly or through others; a fresh node is one of its own."""
        groups: list[set[NodeId]] = []
        for node in self.nodes:
            merged = set(node.known)
            apart = []
            for group in groups:
                if merged.isdisjoint(group):
                    apart.append(group)
                else:
                    merged |= group
            groups = [*apart, merged]
        return tuple(frozenset(group) for group in groups)

    @cached_property
    def slot_groups(self) -> tuple[frozenset[NodeId], ...]:
        """Return the groups in which anybody owns a slot, in anybody's view."""
        owning = {
            known.node_id
            for node in self.view.nodes
            for known in node.known.values()
            if known.slots
        }
        return tuple(group for group in self.groups if group & owning)

    @cached_property
    def staying(self) -> tuple[NodeView, ...]:
        """Views of the wanted pods, by ordinal."""
        return tuple(n for n in self.nodes if self.desired.stays(n.endpoint.ordinal))

    @cached_property
    def leaving(self) -> tuple[NodeView, ...]:
        """Views of pods that are not wanted but still members, highest ordinal first."""
        ours = {n.node_id for n in self.staying}
        known = {i for n in self.staying for i in n.known} | ours
        return tuple(
            n
            for n in reversed(self.nodes)
            if not self.desired.stays(n.endpoint.ordinal)
            and (n.node_id in known or not ours.isdisjoint(n.known))
        )

    @cached_property
    def live(self) -> dict[NodeId, NodeView]:
        """Members with a process, staying first."""
        return {n.node_id: n for n in (*self.staying, *self.leaving)}

    @cached_property
    def truth(self) -> dict[NodeId, KnownNode]:
        """What each live node says of itself."""
        return {node_id: node.myself for node_id, node in self.live.items()}

    @cached_property
    def unseen(self) -> frozenset[NodeId]:
        """Known ids that gave no view and that some member has a sound link to.

        A process that ends takes its links along; one that only we do not reach keeps them.
        """
        return frozenset(
            node_id
            for node in self.live.values()
            for node_id in node.known.keys() - self.live.keys()
            if node.known[node_id].link_up and not node.known[node_id].flags & LOST
        )

    @cached_property
    def gone(self) -> frozenset[NodeId]:
        """Known ids without a live process."""
        known = {i for n in self.live.values() for i in n.known}
        return frozenset(known - self.live.keys() - self.unseen)

    @cached_property
    def blocking_pods(self) -> tuple[Absent, ...]:
        """Pods without a view of which we cannot go on: wanted ones, and those that answered."""
        return tuple(
            absent
            for absent in sorted(self.view.absent, key=lambda a: (a.ordinal, a.name))
            if self.desired.stays(absent.ordinal) or absent.phase in {"serve", "command"}
        )

    @cached_property
    def owned(self) -> SlotSet:
        """Slots with a live owner, first-hand."""
        return union(node.slots for node in self.live.values())

    @cached_property
    def slots_of_gone(self) -> dict[NodeId, SlotSet]:
        """Slots that some view gives to an id without a process and that no live node owns."""
        claims: dict[NodeId, SlotSet] = {}
        for node in self.live.values():
            for node_id in self.gone & node.known.keys():
                slots = node.known[node_id].slots - self.owned
                if slots:
                    claims[node_id] = claims.get(node_id, SlotSet()) | slots
        return claims

    @cached_property
    def lost_slots(self) -> SlotSet:
        """Slots of members that are gone with all copies of their data."""
        return union(s for i, s in self.slots_of_gone.items() if not self.heirs_of(i))

    @cached_property
    def uncovered(self) -> SlotSet:
        """Slots that no live node owns and no view gives to anybody."""
        return SlotSet.all() - self.owned - union(self.slots_of_gone.values())

    @cached_property
    def owner_by_peers(self) -> dict[NodeId, SlotSet]:
        """Uncovered slots by the live primary that some other node still calls their owner."""
        left = self.uncovered
        claims: dict[NodeId, SlotSet] = {}
        for node in self.live.values() if left else ():
            for node_id, other in self.live.items():
                line = node.known.get(node_id)
                slots = line.slots & left if line else SlotSet()
                if slots and other.role is Role.PRIMARY:
                    claims[node_id] = claims.get(node_id, SlotSet()) | slots
                    left -= slots
        return claims

    @cached_property
    def contested(self) -> SlotSet:
        """Slots that two live nodes say they own."""
        once = twice = 0
        for node in self.live.values():
            twice |= once & node.slots.mask
            once |= node.slots.mask
        return SlotSet(twice)

    @cached_property
    def open_slots(self) -> SlotSet:
        """Slots in transit anywhere."""
        return union(node.open_slots for node in self.live.values())

    @cached_property
    def in_question(self) -> SlotSet:
        """Slots for which the planner must know who holds keys."""
        doubtful = self.uncovered | self.lost_slots | self.open_slots | self.contested
        if not doubtful or not any(node.keys for node in self.live.values()):
            return SlotSet()
        return doubtful

    @cached_property
    def owners(self) -> tuple[NodeView, ...]:
        """Live primaries with slots."""
        return tuple(n for n in self.live.values() if n.role is Role.PRIMARY and n.slots)

    def see_each_other(self, nodes: Sequence[NodeView]) -> bool:
        """Return whether the bus works between all of the nodes, in the view of each."""
        lines = [n.known.get(other.node_id) for n in nodes for other in nodes if other is not n]
        return all(line and line.link_up and not line.flags & FAILING for line in lines)

    @cached_property
    def max_epoch(self) -> int:
        """The highest epoch that any node knows of."""
        epochs = [n.current_epoch for n in self.view.nodes]
        epochs += [n.myself.config_epoch for n in self.view.nodes]
        return max(epochs, default=0)

    def replicas_of(self, primary: NodeId) -> tuple[NodeView, ...]:
        """Return the live replicas of a primary, by their own word."""
        return self._replicas.get(primary, ())

    def heirs_of(self, gone: NodeId) -> tuple[NodeView, ...]:
        """Return the replicas with the data of a primary that is gone.

        Replication dials an address and asks nobody for an id: where another node came to the
        primary's address, with or without data of its own, the replica has copied that one.
        Where no node holds keys there is nothing to tell copies by, and nothing to lose.
        """
        replicas = self.replicas_of(gone)
        if not any(n.keys for n in self.live.values()):
            return replicas
        return tuple(n for n in replicas if not self._copied_another(n))

    def _copied_another(self, orphan: NodeView) -> bool:
        others = (n for n in self.live.values() if n is not orphan)
        ips = {ip for n in others for ip in (n.address.ip, *n.endpoint.addresses)}
        return orphan.link_up and orphan.primary_ip in ips

    @cached_property
    def _replicas(self) -> dict[NodeId, tuple[NodeView, ...]]:
        replicas: dict[NodeId, tuple[NodeView, ...]] = {}
        for node in self.live.values():
            primary = node.myself.primary_id
            if node.role is Role.REPLICA and primary is not None:
                replicas[primary] = (*replicas.get(primary, ()), node)
        return replicas

    def is_at(self, line: KnownNode, node: NodeView) -> bool:
        """Return whether a line has the node's present address."""
        address = line.address
        return address.port == node.address.port and (
            address.ip == node.address.ip
            or (not node.announced_ip and address.ip in node.endpoint.addresses)
        )

    def unacquainted_pairs(self) -> Iterator[tuple[NodeView, NodeView]]:
        """Yield (a, b) where staying or leaving a does not know b."""
        ids = self.truth.keys()
        for node in self.live.values():
            if ids <= node.known.keys():
                continue
            for node_id, other in self.live.items():
                if node_id not in node.known:
                    yield node, other

    def stale_addresses(self) -> Iterator[tuple[NodeView, NodeView]]:
        """Yield (a, b) where a knows b at an address that is not b's; (b, b) for its own line.

        A node that is alone may not know its own address yet; the first MEET tells it.
        """
        for node in self.live.values() if self._moved else self._differing:
            if node.is_isolated:
                continue
            for node_id, other in self.live.items():
                line = node.known.get(node_id)
                if line is None or (line is other.myself and node_id not in self._moved):
                    continue
                if Flag.NOADDR in line.flags or not self.is_at(line, other):
                    yield node, other

    @cached_property
    def _differing(self) -> tuple[NodeView, ...]:
        """Members with a line that is not what the live node says of itself."""
        return tuple(n for n in self.live.values() if n.known != self.truth and not n.is_isolated)

    @cached_property
    def _moved(self) -> frozenset[NodeId]:
        return frozenset(i for i, n in self.live.items() if not self.is_at(n.myself, n))

    def outdated_views(self) -> Iterator[tuple[NodeView, NodeView]]:
        """Yield (a, b) where a's line on b differs from b's own in role, primary, slots, epoch."""
        for node in self._differing:
            for node_id, own in self.truth.items():
                line = node.known.get(node_id)
                if line is not None and line is not own and not same_facts(line, own):
                    yield node, self.live[node_id]

    @cached_property
    def true_shards(self) -> frozenset[frozenset[NodeId]]:
        """Live ids by shard, each replica with the primary it names."""
        shards: dict[NodeId, set[NodeId]] = {}
        for node_id, line in self.truth.items():
            shards.setdefault(line.primary_id or node_id, set()).add(node_id)
        return frozenset(frozenset(shard) for shard in shards.values())

    def shard_mismatches(self) -> Iterator[tuple[NodeView, NodeView]]:
        """Yield (a, b) where a groups b with other nodes by shard id than b's replication does."""
        for node in self.staying:
            if node.shards is None or node.shards == self.true_shards:
                continue
            astray = {i for shard in self.true_shards - node.shards for i in shard}
            for node_id, other in self.live.items():
                if node_id in astray and other is not node:
                    yield node, other

    def flagged(self) -> Iterator[tuple[NodeView, NodeView, frozenset[Flag]]]:
        """Yield (a, b, flags) where a says that live b fails."""
        for node in self._differing:
            for node_id, other in self.live.items():
                line = node.known.get(node_id)
                if line is not None and line.flags & FAILING:
                    yield node, other, line.flags & FAILING


def same_facts(line: KnownNode, own: KnownNode) -> bool:
    """Return whether two lines agree on what only a node's own header carries."""
    return (
        line.role is own.role
        and line.primary_id == own.primary_id
        and line.slots == own.slots
        and (line.config_epoch == own.config_epoch or own.role is Role.REPLICA)
    )
