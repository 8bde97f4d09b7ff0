"""Views in few words: `view("3x1")` is three shards of a primary and one replica, whole.

Nodes are named by ordinal. Builders return new values; what a test changes is on its own lines:
`own` changes what a node says of itself, `with_line` what one node says of another, `field` what is
not part of CLUSTER NODES.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bootstrap.core.facts import Facts
from bootstrap.core.planner import Policy
from bootstrap.core.slots import SlotSet, even_split, union
from bootstrap.core.topology import (
    Absent,
    Address,
    ClusterView,
    DesiredTopology,
    Endpoint,
    KnownNode,
    NodeId,
    NodeView,
    Place,
    Role,
)

POLICY = Policy()
CONSENT = Policy(allow_data_loss=True)
AS_IT_IS = Policy(rebalance=False)


def node_id(number: int) -> NodeId:
    """Return 40 hex digits that are the same in every run."""
    return NodeId(hashlib.sha1(b"node %d" % number, usedforsecurity=False).hexdigest())


def slots(text: str) -> SlotSet:
    """Return a slot set as people write it."""
    return SlotSet.parse(text)


def address(number: int, *, moved: bool = False) -> Address:
    """Return the address of a pod; `moved` for where it was before its restart."""
    return Address(
        ip=f"10.{1 if moved else 0}.{number >> 8}.{number & 255}", port=6379, cport=16379
    )


def endpoint(number: int) -> Endpoint:
    """Return the pod of that ordinal; a negative one is a member that is no pod."""
    name = f"redis-app-{number}" if number >= 0 else f"member-{-number}"
    at = address(number if number >= 0 else 60000 - number)
    host = f"{name}.redis-service.default.svc.cluster.local"
    return Endpoint(name=name, host=host, ordinal=number, addresses=(at.ip,), port=at.port)


def line(number: int, owned: str = "", of: int | None = None, **changes: Any) -> KnownNode:
    """Return a line of CLUSTER NODES about a node."""
    known = KnownNode(
        node_id=node_id(number),
        address=Address(endpoint(number).addresses[0], 6379, 16379),
        role=Role.PRIMARY if of is None else Role.REPLICA,
        primary_id=None if of is None else node_id(of),
        flags=frozenset(),
        config_epoch=0,
        link_up=True,
        slots=slots(owned),
    )
    return replace(known, **changes)


def node(
    number: int, owned: str = "", *, of: int | None = None, epoch: int = 0, **fields: Any
) -> NodeView:
    """Return a node that knows only itself; without arguments a fresh one."""
    mine = line(number, owned, of, config_epoch=epoch)
    return replace(
        NodeView(
            endpoint=endpoint(number),
            address=mine.address,
            node_id=mine.node_id,
            run_id=f"run-{number}",
            engine="redis",
            version=(7, 0, 15),
            known={mine.node_id: mine},
            current_epoch=epoch,
            no_failover=False,
        ),
        **fields,
    )


def acquaint(nodes: Iterable[NodeView], gone: Iterable[KnownNode] = ()) -> ClusterView:
    """Return the view in which every node knows every other as it is, and the gone ones."""
    members = sorted(nodes, key=lambda n: (n.endpoint.ordinal < 0, n.endpoint.ordinal))
    known = {n.node_id: n.myself for n in members}
    known |= {k.node_id: replace(k, link_up=False) for k in gone}
    epoch = max((k.config_epoch for k in known.values()), default=0)
    covered = union(k.slots for k in known.values()) == SlotSet.all()
    return ClusterView(
        nodes=tuple(
            replace(n, known=dict(known), current_epoch=epoch, state_ok=covered) for n in members
        )
    )


def view(shape: str, **fields: Any) -> ClusterView:
    """Return a healthy cluster: `3x1` is 3 shards with 1 replica each, pod i in shard i mod 3."""
    shards, replicas = map(int, shape.split("x"))
    primaries = [
        node(i, str(part), epoch=i + 1, **fields) for i, part in enumerate(even_split(shards))
    ]
    others = [
        node(i, of=i % shards, epoch=i % shards + 1, **fields)
        for i in range(shards, shards * (1 + replicas))
    ]
    return acquaint([*primaries, *others])


def fresh(count: int, **fields: Any) -> ClusterView:
    """Return pods that were never in a cluster."""
    return ClusterView(nodes=tuple(node(i, **fields) for i in range(count)))


def wanted(shape: str) -> DesiredTopology:
    """Return what people ask for: `3x1` is 6 nodes with 1 replica a primary."""
    shards, replicas = map(int, shape.split("x"))
    return DesiredTopology(nodes=shards * (1 + replicas), replicas=replicas)


def facts(seen: ClusterView, desired: DesiredTopology | str) -> Facts:
    """Return the facts of a view."""
    return Facts(seen, wanted(desired) if isinstance(desired, str) else desired)


def at(seen: ClusterView, number: int) -> NodeView:
    """Return the view of the pod of that ordinal."""
    return next(n for n in seen.nodes if n.endpoint.ordinal == number)


def _put(seen: ClusterView, changed: NodeView) -> ClusterView:
    nodes = tuple(changed if n.endpoint == changed.endpoint else n for n in seen.nodes)
    return replace(seen, nodes=nodes)


def field(seen: ClusterView, number: int, **changes: Any) -> ClusterView:
    """Change fields of one node's view."""
    return _put(seen, replace(at(seen, number), **changes))


def with_line(seen: ClusterView, who: int, whom: int, **changes: Any) -> ClusterView:
    """Change what one node says of another; its line about itself when both are the same."""
    observer = at(seen, who)
    changed = replace(observer.known[node_id(whom)], **changes)
    return _put(seen, replace(observer, known={**observer.known, changed.node_id: changed}))


def own(seen: ClusterView, number: int, **changes: Any) -> ClusterView:
    """Change what a node says of itself, and all others repeat it."""
    for observer in seen.nodes:
        if node_id(number) in observer.known:
            seen = with_line(seen, observer.endpoint.ordinal, number, **changes)
    return seen


def estranged(seen: ClusterView, who: int, whom: int) -> ClusterView:
    """Make one node not know another, one-sided."""
    observer = at(seen, who)
    known = {i: k for i, k in observer.known.items() if i != node_id(whom)}
    return _put(seen, replace(observer, known=known))


def without(seen: ClusterView, *numbers: int) -> ClusterView:
    """Take processes away for ever; the others still know their ids, but have no link to them."""
    left = [n for n in seen.nodes if n.endpoint.ordinal not in numbers]
    lost = {n.node_id for n in seen.nodes} - {n.node_id for n in left}
    return replace(
        seen,
        nodes=tuple(
            replace(
                n,
                known={
                    i: replace(k, link_up=False) if i in lost else k for i, k in n.known.items()
                },
            )
            for n in left
        ),
    )


def absent(seen: ClusterView, number: int, cause: str = "connection refused") -> ClusterView:
    """Make a pod not answer."""
    missing = Absent(name=endpoint(number).name, ordinal=number, phase="connect", cause=cause)
    return replace(without(seen, number), absent=(*seen.absent, missing))


def joined(seen: ClusterView, *nodes: NodeView) -> ClusterView:
    """Add nodes as they are: pods that nobody knows yet."""
    return replace(seen, nodes=(*seen.nodes, *nodes))


def counted(seen: ClusterView, keys: Mapping[int, Mapping[int, int]]) -> ClusterView:
    """Add what was counted for slots in question: ordinal, slot, keys."""
    counts = {node_id(number): dict(each) for number, each in keys.items()}
    for number, each in keys.items():
        seen = field(seen, number, keys=max(1, sum(each.values())))
    return replace(seen, slot_keys=counts)


def placed(seen: ClusterView, places: Mapping[int, str]) -> ClusterView:
    """Put pods into failure domains, `zone/node`."""
    for number, place in places.items():
        zone, _, host = place.partition("/")
        seen = field(seen, number, place=Place(zone=zone, node=host))
    return seen
