"""Node ids that two processes have, because the volume of one is a copy.

Rules: a node id is stored in `nodes.conf`, so a volume that was copied, or restored from a snapshot
while its source runs, makes a second node with the id. Between two of the pods that is seen by
their ids alone. Where the other process is not one of the configured pods, it is seen by the
address at which it answers: the copy knows the addresses of the first cluster, and its messages
change those that the first one has stored.
"""

from __future__ import annotations

from collections.abc import Iterator

from .actions import Refusal
from .facts import Facts, is_linked
from .topology import NodeId, NodeView, Outsider, short_id

RUNBOOK = "docs/runbooks/repair.md has the steps"


def refuse_copied_volumes(facts: Facts) -> Iterator[Refusal]:
    """Refuse ids that two pods have, or a pod and a process that is not one of the pods."""
    by_id: dict[NodeId, list[NodeView]] = {}
    for node in facts.nodes:
        by_id.setdefault(node.node_id, []).append(node)
    for node_id, nodes in by_id.items():
        if len(nodes) > 1:
            yield _two_pods(node_id, nodes)
    copies = [(by_id[o.node_id][0], o) for o in facts.view.outsiders if o.node_id in by_id]
    copies = [(node, o) for node, o in copies if _is_certain(facts, node, o)]
    for node, outsider in sorted(copies, key=lambda copy: copy[0].ordinal)[:1]:
        yield Refusal(
            node=node.name,
            cause=f"node id {short_id(node.node_id)} answers at {node.name} ({node.address}) and "
            f"at {outsider.address}, which is not one of the configured pods: one has a copy of "
            "the other's volume",
            remedy="stop the pods that have the copies, and give the nodes.conf of each other ids, "
            f"or delete it where the data is not needed; {RUNBOOK}",
        )


def _two_pods(node_id: NodeId, nodes: list[NodeView]) -> Refusal:
    names = " and ".join(f"{n.name} ({n.address})" for n in nodes)
    cause = f"{names} have the same node id {short_id(node_id)}"
    remedy = (
        "one has a copied volume: delete that pod's nodes.conf, or its volume if nothing in it is "
        f"needed, and restart it; {RUNBOOK}"
    )
    if len({n.run_id for n in nodes}) == 1:
        cause, remedy = f"{names} are the same process", "give each pod an address of its own"
    return Refusal(node=nodes[0].name, cause=cause, remedy=remedy)


def _is_certain(facts: Facts, node: NodeView, outsider: Outsider) -> bool:
    """Return whether what answers at the address has the id of the pod.

    Where it reports that itself, or where a member has a working link to the id at that address:
    servers close a link on which another id answers. A pod with a second address family is no
    copy.
    """
    if (":" in outsider.address.ip) != (":" in node.address.ip):
        return False
    lines = (n.known.get(node.node_id) for n in facts.nodes if n is not node)
    return outsider.is_verified or any(
        line and line.address == outsider.address and is_linked(line) for line in lines
    )
