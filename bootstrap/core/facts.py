"""What follows from a view, derived once per pass and handed on.

Rules: a node's own line is first-hand and outranks what others report about it; a live process is
recognised by its node id, never by its address; an id without a view is `gone` only when no member
has a working link to it, otherwise it is `unseen`: a process that runs where this program does not
reach it.

Invariant: every known id is exactly one of staying, leaving, unseen or gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from .slots import SlotSet, union, union_by_key
from .topology import (
    Absent,
    ClusterView,
    DesiredTopology,
    Flag,
    KnownNode,
    NodeId,
    NodeView,
    Role,
    ids_by_shard,
)

FAILING = frozenset({Flag.FAIL, Flag.PFAIL})
LOST = FAILING | {Flag.HANDSHAKE, Flag.NOADDR}


def is_linked(line: KnownNode) -> bool:
    """Return whether the node that reported this line has a working link to the other one."""
    return line.link_up and not line.flags & LOST


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts derived from one view, each computed when it is first used."""

    view: ClusterView
    desired: DesiredTopology

    @cached_property
    def nodes(self) -> tuple[NodeView, ...]:
        """Views by ordinal, members that are no pods last; replies arrive in any order."""

        def order(node: NodeView) -> tuple[bool, int, NodeId, str]:
            return (node.ordinal < 0, node.ordinal, node.node_id, node.name)

        return tuple(sorted(self.view.nodes, key=order))

    @cached_property
    def groups(self) -> tuple[frozenset[NodeId], ...]:
        """Ids that know each other, directly or through others; a fresh node is on its own."""
        groups: list[set[NodeId]] = []
        for node in self.nodes:
            met = [group for group in groups if not group.isdisjoint(node.known)]
            separate = [group for group in groups if group.isdisjoint(node.known)]
            groups = [*separate, set(node.known).union(*met)]
        return tuple(frozenset(group) for group in groups)

    @cached_property
    def slot_groups(self) -> tuple[frozenset[NodeId], ...]:
        """Groups in which a node owns a slot in the view of any node."""
        owning = {i for node in self.nodes for i, line in node.known.items() if line.slots}
        return tuple(group for group in self.groups if group & owning)

    @cached_property
    def staying(self) -> tuple[NodeView, ...]:
        """Views of the wanted pods, by ordinal."""
        return tuple(filter(self.stays, self.nodes))

    def stays(self, node: NodeView) -> bool:
        """Return whether a node is one of the wanted pods."""
        return self.desired.stays(node.ordinal)

    @cached_property
    def leaving(self) -> tuple[NodeView, ...]:
        """Views of pods that are not wanted but still members, highest ordinal first."""
        ours = {n.node_id for n in self.staying}
        known = {i for n in self.staying for i in n.known} | ours
        return tuple(
            n
            for n in reversed(self.nodes)
            if not self.stays(n) and (n.node_id in known or not ours.isdisjoint(n.known))
        )

    @cached_property
    def surplus(self) -> list[NodeView]:
        """Views of pods that are neither wanted nor members."""
        count, live = self.desired.nodes, self.live
        return [n for n in self.nodes if n.ordinal >= count and n.node_id not in live]

    @cached_property
    def live(self) -> dict[NodeId, NodeView]:
        """Members that answered, staying ones first."""
        return {n.node_id: n for n in (*self.staying, *self.leaving)}

    @cached_property
    def has_keys(self) -> bool:
        """Whether any member has a key."""
        return any(n.keys for n in self.live.values())

    @cached_property
    def has_nothing_to_lose(self) -> bool:
        """Whether no member has a key and none is gone."""
        return not self.has_keys and not self.gone

    @cached_property
    def truth(self) -> dict[NodeId, KnownNode]:
        """The line of each live node about itself."""
        return {node_id: node.myself for node_id, node in self.live.items()}

    @cached_property
    def unseen(self) -> frozenset[NodeId]:
        """Known ids that gave no view and that some member has a working link to.

        The links of a process end with it; a process that only this program cannot reach keeps
        them. An outsider that gave its id lives, whatever its links are.
        """
        verified = {o.node_id for o in self.view.outsiders if o.is_verified}
        return frozenset(
            node_id
            for node in self.live.values()
            for node_id in node.known.keys() - self.live.keys()
            if node_id in verified or is_linked(node.known[node_id])
        )

    @cached_property
    def gone(self) -> frozenset[NodeId]:
        """Known ids without a live process."""
        known = {i for n in self.live.values() for i in n.known}
        return frozenset(known - self.live.keys() - self.unseen)

    @cached_property
    def blocking_pods(self) -> tuple[Absent, ...]:
        """Pods whose missing view blocks every change: wanted ones, and those that answered.

        One that is to leave does so for the time of a restart where data is missing that it may
        have: whether it is lost is decided after that.
        """
        lost_targets = {i for n in self.owners for i in n.migrating.values()} & self.gone
        is_data_missing = bool(self.lost_slots or lost_targets)
        return tuple(
            absent
            for absent in sorted(self.view.absent, key=lambda a: (a.ordinal, a.name))
            if self.desired.stays(absent.ordinal)
            or absent.phase in {"serve", "command"}
            or (is_data_missing and absent.name in self.view.restarting)
        )

    @property
    def is_blocked(self) -> bool:
        """Whether a wanted pod is absent, or a member runs that is not reached.

        It may own slots or have the only copy of keys.
        """
        return bool(self.blocking_pods or self.unseen)

    @cached_property
    def owned(self) -> SlotSet:
        """Slots that live nodes report as their own."""
        return union(node.slots for node in self.live.values())

    @cached_property
    def slots_of_gone(self) -> dict[NodeId, SlotSet]:
        """Slots that no live node owns and that a view assigns to an id without a process."""
        return union_by_key(
            (node_id, slots)
            for node in self.live.values()
            for node_id in self.gone & node.known.keys()
            if (slots := node.known[node_id].slots - self.owned)
        )

    @cached_property
    def lost_slots(self) -> SlotSet:
        """Slots of members that are gone with every copy of their data."""
        return union(s for i, s in self.slots_of_gone.items() if not self.successors_of(i))

    @cached_property
    def uncovered(self) -> SlotSet:
        """Slots that no live node owns and that no view assigns to any node."""
        return SlotSet.all() - self.owned - union(self.slots_of_gone.values())

    @cached_property
    def owner_by_peers(self) -> dict[NodeId, SlotSet]:
        """Uncovered slots by the live primary that another node still reports as their owner."""
        left = self.uncovered
        claims: list[tuple[NodeId, SlotSet]] = []
        for node in self.live.values() if left else ():
            for other in self.primaries:
                line = node.known.get(other.node_id)
                if line and (slots := line.slots & left):
                    claims.append((other.node_id, slots))
                    left -= slots
        return union_by_key(claims)

    @cached_property
    def contested(self) -> SlotSet:
        """Slots that two live nodes report as their own."""
        once = twice = 0
        for node in self.live.values():
            twice |= once & node.slots.mask
            once |= node.slots.mask
        return SlotSet(twice)

    @property
    def has_damaged_slots(self) -> bool:
        """Whether a slot is without one live owner."""
        return bool(self.uncovered or self.slots_of_gone or self.contested)

    @cached_property
    def open_slots(self) -> SlotSet:
        """Slots that any live node reports as migrating or importing."""
        return union(node.open_slots for node in self.live.values())

    @property
    def importing(self) -> SlotSet:
        """Slots that any live node reports as importing."""
        return SlotSet.of(slot for node in self.live.values() for slot in node.importing)

    @cached_property
    def in_question(self) -> SlotSet:
        """Slots for which the planner must know which nodes have keys."""
        if not self.has_keys:
            return SlotSet()
        return self.uncovered | self.lost_slots | self.open_slots | self.contested

    @cached_property
    def primaries(self) -> tuple[NodeView, ...]:
        """Live primaries, with slots or without."""
        return tuple(n for n in self.live.values() if n.role is Role.PRIMARY)

    @cached_property
    def staying_primaries(self) -> tuple[NodeView, ...]:
        """Those of the wanted pods, by ordinal."""
        return tuple(n for n in self.staying if n.role is Role.PRIMARY)

    @cached_property
    def owners(self) -> tuple[NodeView, ...]:
        """Live primaries with slots."""
        return tuple(n for n in self.primaries if n.slots)

    def see_each_other(self, nodes: Sequence[NodeView]) -> bool:
        """Return whether the bus works between all of the nodes, in the view of each."""
        lines = [n.known.get(other.node_id) for n in nodes for other in nodes if other is not n]
        return all(line and line.link_up and not line.flags & FAILING for line in lines)

    @cached_property
    def max_epoch(self) -> int:
        """The highest epoch that any node has heard of."""
        epochs = (max(n.current_epoch, n.myself.config_epoch) for n in self.nodes)
        return max(epochs, default=0)

    def primary_of(self, node: NodeView) -> NodeView | None:
        """Return the live primary that a replica reports; a primary itself."""
        return self.live.get(node.shard_primary)

    def replicas_of(self, primary: NodeId) -> tuple[NodeView, ...]:
        """Return the live nodes that report themselves as replicas of a primary."""
        return self._replicas.get(primary, ())

    def successors_of(self, gone: NodeId) -> tuple[NodeView, ...]:
        """Return the live replicas that have the data of a primary that is gone.

        A replica dials an address and does not verify the node id behind it: where another node
        came to the primary's address, with or without data, the replica has copied that node.
        While no node has keys, there is nothing to distinguish copies by, and nothing to lose.
        """
        replicas = self.replicas_of(gone)
        if not self.has_keys:
            return replicas
        return tuple(n for n in replicas if not self._copied_another(n))

    def _copied_another(self, replica: NodeView) -> bool:
        others = (n for n in self.live.values() if n is not replica)
        return replica.link_up and any(replica.primary_ip in n.ips for n in others)

    @cached_property
    def _replicas(self) -> dict[NodeId, tuple[NodeView, ...]]:
        replicas: dict[NodeId, tuple[NodeView, ...]] = {}
        for node in self.live.values():
            primary = node.myself.primary_id
            if node.role is Role.REPLICA and primary is not None:
                replicas[primary] = (*replicas.get(primary, ()), node)
        return replicas

    @cached_property
    def shards(self) -> tuple[tuple[NodeView, ...], ...]:
        """Live members by shard, the primary first, shards by the ordinal of the primary."""
        primaries = sorted(self.primaries, key=lambda n: n.ordinal)
        return tuple((primary, *self.replicas_of(primary.node_id)) for primary in primaries)

    @cached_property
    def shard_ids(self) -> frozenset[frozenset[NodeId]]:
        """Live node ids by shard, each replica with the primary that it reports."""
        return ids_by_shard(self.live.values())

    @cached_property
    def differing(self) -> tuple[NodeView, ...]:
        """Members with a line that differs from what the live node reports about itself."""
        return tuple(n for n in self.live.values() if n.known != self.truth and not n.is_isolated)

    @cached_property
    def moved(self) -> frozenset[NodeId]:
        """Members whose own line does not have their present address."""
        return frozenset(i for i, n in self.live.items() if not is_at(n.myself, n))


def is_at(line: KnownNode, node: NodeView) -> bool:
    """Return whether a line has the present address of a node."""
    address = line.address
    return address.port == node.address.port and (
        address.ip == node.address.ip
        or (not node.announced_ip and address.ip in node.endpoint.addresses)
    )
