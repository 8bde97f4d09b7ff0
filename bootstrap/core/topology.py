"""What the nodes reported, kept as they reported it.

Rules: every node's own view is a value of its own and is never merged into another; what could
not be read is a field (`ClusterView.absent`), never a gap. A node is known by its id; addresses
and names change. Values are frozen; equal replies give equal (often identical) values.

Invariant: only `NodeView.myself` is first-hand; every other line is what one node heard of another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from .slots import SlotSet

NodeId = NewType("NodeId", str)


def short_id(node_id: str) -> str:
    """Return the first eight digits, for logs and tables only."""
    return node_id[:8]


class Role(StrEnum):
    """What a node is to its slots."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Flag(StrEnum):
    """Flags of `CLUSTER NODES` that say something is not well, verbatim."""

    FAIL = "fail"
    PFAIL = "fail?"
    HANDSHAKE = "handshake"
    NOADDR = "noaddr"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node says it is: numeric IP, client port and bus port (`cport`)."""

    ip: str
    port: int
    cport: int

    def __str__(self) -> str:
        """Return `ip:port`, with brackets around IPv6."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Place:
    """Failure domain of a pod; empty strings where unknown."""

    zone: str = ""
    node: str = ""

    def __str__(self) -> str:
        """Return `zone/node`."""
        return f"{self.zone}/{self.node}"

    @property
    def domain(self) -> str:
        """Return the largest failure domain that is known: the zone, otherwise the node."""
        return self.zone or self.node

    def overlap(self, other: Place) -> int:
        """Return 1 for a shared zone plus 2 for a shared node, which fails more often."""
        zone = bool(self.zone) and self.zone == other.zone
        node = bool(self.node) and self.node == other.node
        return zone + 2 * node


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A pod as DNS or BOOTSTRAP_ENDPOINTS names it.

    Attributes:
        name: Pod name or configured host; what people know.
        host: Full DNS name, against which certificates are verified.
        ordinal: Position in the StatefulSet or in the configured list; negative for no pod of ours.
        addresses: Numeric addresses of the one chosen family.
    """

    name: str
    host: str
    ordinal: int
    addresses: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNode:
    """One line of one node's `CLUSTER NODES`, the `myself` mark taken out.

    Attributes:
        config_epoch: Of its primary, when the node is a replica.
        link_up: The bus link from the node that said this; true for itself.
    """

    node_id: NodeId
    address: Address
    role: Role
    primary_id: NodeId | None
    flags: frozenset[Flag]
    config_epoch: int
    link_up: bool
    slots: SlotSet

    @property
    def is_handshake(self) -> bool:
        """Return whether this is a temporary entry of a MEET under way, with a temporary id."""
        return Flag.HANDSHAKE in self.flags


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What one node said about itself and about every node that it knows.

    Attributes:
        address: Where it is to be met: announced, otherwise where it answered.
        announced_ip: `cluster-announce-ip` when it is set, otherwise empty.
        known: All it knows, itself included, by id; handshake entries are in `handshakes`.
        handshakes: Addresses of MEETs under way.
        migrating: Open slots and their targets. `importing`: and their sources.
        keys: Of all databases.
        link_up: A replica's replication link; true for a primary.
        primary_ip: Where a replica's replication dials; empty for a primary.
        replication_offset: Bytes of the replication stream made or taken.
        no_failover: `cluster-replica-no-failover`; None where CONFIG is not allowed.
        data_bytes: The part of `used_memory` that the keys take.
        max_memory: Bytes; 0 for no limit.
        eviction_policy: `maxmemory-policy`.
        persistence_errors: Fields of INFO persistence that say `err`, as far as writes fail by it.
        min_replicas_to_write: Replicas without which the server takes no writes.
        replica_buffer: Bytes of writes that may wait for a replica that copies; 0 for no limit.
        node_timeout_s: `cluster-node-timeout`; the default where CONFIG is not allowed.
        libraries: Function libraries that it has; 0 before 7.0.
        databases: How many it can have (`cluster-databases`); 0 where that is not known.
        highest_database: The last one that has keys.
        functions: Digests of these; None where no node lacks any, or FUNCTION is not allowed.
        commands: Optional CLUSTER subcommands that the server knows.
        shards: Ids by shard, as the node groups them (from 7.2); None when it was not asked.
    """

    endpoint: Endpoint
    address: Address
    node_id: NodeId
    run_id: str
    engine: str
    version: tuple[int, int, int]
    known: Mapping[NodeId, KnownNode]
    announced_ip: str = ""
    handshakes: frozenset[Address] = frozenset()
    migrating: Mapping[int, NodeId] = field(default_factory=dict)
    importing: Mapping[int, NodeId] = field(default_factory=dict)
    cluster_enabled: bool = True
    state_ok: bool = False
    current_epoch: int = 0
    keys: int = 0
    link_up: bool = True
    primary_ip: str = ""
    replication_offset: int = 0
    used_memory: int = 0
    data_bytes: int = 0
    max_memory: int = 0
    eviction_policy: str = "noeviction"
    persistence_errors: frozenset[str] = frozenset()
    min_replicas_to_write: int = 0
    replica_buffer: int = 0
    node_timeout_s: float = 15.0
    no_failover: bool | None = None
    libraries: int = 0
    databases: int = 0
    highest_database: int = 0
    functions: frozenset[str] | None = None
    place: Place = Place()
    commands: frozenset[str] = frozenset()
    shards: frozenset[frozenset[NodeId]] | None = None

    @property
    def name(self) -> str:
        """Return the pod's name."""
        return self.endpoint.name

    @property
    def ordinal(self) -> int:
        """Return the pod's ordinal."""
        return self.endpoint.ordinal

    @property
    def ips(self) -> frozenset[str]:
        """Return every IP address at which it may be dialled."""
        return frozenset((self.address.ip, *self.endpoint.addresses))

    @property
    def myself(self) -> KnownNode:
        """Return the node's line about itself, the only place where its slots are first-hand."""
        return self.known[self.node_id]

    @property
    def role(self) -> Role:
        """Return its own role."""
        return self.myself.role

    @property
    def shard_primary(self) -> NodeId:
        """Return the id of the primary that it replicates; its own where it replicates none."""
        return self.myself.primary_id or self.node_id

    @property
    def slots(self) -> SlotSet:
        """Return the slots that it says it owns."""
        return self.myself.slots

    @property
    def is_isolated(self) -> bool:
        """Return whether it knows only itself."""
        return len(self.known) == 1

    @property
    def open_slots(self) -> SlotSet:
        """Return the slots in transit, migrating or importing."""
        return SlotSet.of((*self.migrating, *self.importing))


def ids_by_shard(nodes: Iterable[NodeView]) -> frozenset[frozenset[NodeId]]:
    """Return node ids by shard, each replica with the primary that it reports."""
    shards: dict[NodeId, set[NodeId]] = {}
    for node in nodes:
        shards.setdefault(node.shard_primary, set()).add(node.node_id)
    return frozenset(map(frozenset, shards.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A pod that gave no view.

    Attributes:
        phase: How far it came: `dns`, `connect`, `serve` or `command`.
        cause: What was seen, with the server's or the system's own words.
        address: Where it was asked; empty when it has none yet.
        remedy: What to do, where who failed is not the pod; empty for the usual.
    """

    name: str
    ordinal: int
    phase: str
    cause: str
    address: str = ""
    remedy: str = ""

    @property
    def named_cause(self) -> str:
        """Return the cause with the pod's name, once."""
        return self.cause if self.cause.startswith(self.name) else f"{self.name}: {self.cause}"

    @property
    def bare_cause(self) -> str:
        """Return the cause without the pod's own name and address: like causes are equal."""
        name, address = re.escape(self.name), re.escape(self.address)
        return re.sub(rf"^{name}(?: at {address}(?= port))?:? (?:is )?", "", self.cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outsider:
    """A member that gossip names and that is not one of the pods, and whose address answers.

    It was asked without credentials, so nothing else is known of it. `is_verified`: it gave this id
    itself; otherwise any process may have answered.
    """

    node_id: NodeId
    address: Address
    is_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """Everything that was seen in one observation.

    Attributes:
        slot_keys: Slots in question for which a node has keys; asked only where it matters.
        stray_keys: Keys of slots that a node does not own; asked only of nodes that are to own no
            slot any more, and, without those that they import, of servers that do not show them.
        restarting: Names of pods that DNS names, and that have been silent for no longer than a
            restart takes.
    """

    nodes: tuple[NodeView, ...]
    absent: tuple[Absent, ...] = ()
    outsiders: tuple[Outsider, ...] = ()
    slot_keys: Mapping[NodeId, Mapping[int, int]] = field(default_factory=dict)
    stray_keys: Mapping[NodeId, int] = field(default_factory=dict)
    restarting: frozenset[str] = frozenset()

    def by_id(self) -> dict[NodeId, NodeView]:
        """Return the views by node id."""
        return {node.node_id: node for node in self.nodes}

    def lock_node(self) -> NodeView:
        """Return the pod on which runs agree who may change the cluster: the lowest that answered.

        Every run must choose the same, and ids and addresses change. A member that is not one of
        the configured pods is never chosen: it is not sent credentials.
        """
        pods = (n for n in self.nodes if n.ordinal >= 0)
        return min(pods, key=lambda n: (n.ordinal, n.name, n.node_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredTopology:
    """How many pods the cluster is to have, and how many replicas per primary.

    Pods with ordinals below `nodes` stay, the others leave.
    """

    nodes: int
    replicas: int

    @property
    def primaries(self) -> int:
        """Return how many shards there are; pods left over become further replicas."""
        return self.nodes // (self.replicas + 1)

    @property
    def most_replicas(self) -> int:
        """Return how many replicas a primary has at most, when the pods left over are spread."""
        return -(-(self.nodes - self.primaries) // self.primaries)

    def stays(self, ordinal: int) -> bool:
        """Return whether the pod of this ordinal is wanted; negative ones are not our pods."""
        return 0 <= ordinal < self.nodes
