"""When to stop before the first change.

Rules: whatever could lose data, or mix two clusters, is a refusal that names the node, the reason
and what a person can do. Refusals about single nodes are reported as soon as the node was observed,
also while other pods are still missing.

Invariant: a refusal never depends on the order of replies.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import compatibility, key_holders
from .actions import Refusal
from .copied_volumes import RUNBOOK, refuse_copied_volumes
from .facts import Facts
from .findings import abbreviate
from .slots import SlotSet, union
from .topology import NodeId, NodeView, Role, short_id

OLDEST = (6, 2, 0)


def refuse_nodes(facts: Facts) -> tuple[Refusal, ...]:
    """Return the reasons that lie in single nodes, or in nodes that do not belong together."""
    single = [
        *_servers(facts),
        *compatibility.refuse_incompatible(facts),
        *refuse_copied_volumes(facts),
        *_fresh_with_keys(facts),
    ]
    return tuple(single or [*_two_clusters(facts), *_outsiders(facts)])


def refuse_data_loss(facts: Facts, *, allow_data_loss: bool) -> tuple[Refusal, ...]:
    """Return the reasons that lie in slots whose keys could be lost."""
    return (
        *_contests(facts),
        *_slots_without_data(facts, allow_data_loss=allow_data_loss),
    )


def _servers(facts: Facts) -> Iterator[Refusal]:
    for node in facts.nodes:
        if not node.cluster_enabled:
            yield Refusal(
                node=node.name,
                cause=f"{node.name} runs with cluster mode off",
                remedy="set `cluster-enabled yes` in its redis.conf and restart it",
            )
        elif node.version < OLDEST:
            found = ".".join(map(str, node.version))
            yield Refusal(
                node=node.name,
                cause=f"{node.name} runs {node.engine} {found}",
                remedy="upgrade it to 6.2 or later",
            )


def _fresh_with_keys(facts: Facts) -> Iterator[Refusal]:
    """Refuse an isolated node with keys, also where it owns slots.

    A server that starts with data but without nodes.conf takes the slots of its keys
    (verifyClusterConfigWithData); joined, it would contest them with their owners.
    """
    is_single = facts.desired.nodes == 1
    for node in facts.nodes:
        if node.is_isolated and not is_single and node.role is Role.PRIMARY and node.keys:
            yield Refusal(
                node=node.name,
                cause=f"{node.name} is in no cluster but has {node.keys} keys: its nodes.conf is "
                f"lost or was deleted, or its volume is another server's{_lost_member(facts)}",
                remedy=_remedy_of_lost_file(facts, node),
            )


def _lost_member(facts: Facts) -> str:
    lost = sorted(facts.slots_of_gone)
    return f"; member {short_id(lost[0])}, which owns slots, has no process" if lost else ""


def _remedy_of_lost_file(facts: Facts, node: NodeView) -> str:
    """Return what keeps the data: that of a lost owner is the last, any other a copy."""
    if facts.slots_of_gone:
        return (
            f"stop {node.name} and write its nodes.conf again with the id of the lost member: "
            f"{RUNBOOK}; where the keys are not needed, delete its data files instead"
        )
    if facts.owned == SlotSet.all() and not facts.contested:
        return (
            "the other members own all slots: move its data files (dump.rdb, appendonlydir) to "
            "another place and restart it, and it joins empty"
        )
    return (
        f"put nodes.conf back from a backup, or import the keys into a new cluster: {RUNBOOK}; "
        "where they are not needed, delete its data files"
    )


def _two_clusters(facts: Facts) -> Iterator[Refusal]:
    """Refuse groups that would collide; groups of an interrupted start may unite.

    Those differ from two clusters in this: all members are our pods, no node owns a slot that
    another group owns, and at most one group has keys.
    """
    groups = facts.slot_groups
    if len(groups) <= 1:
        return
    live = facts.view.by_id()
    taken = SlotSet()
    overlap = foreign = False
    with_keys = 0
    for group in groups:
        members = [live[node_id] for node_id in group if node_id in live]
        slots = union(line.slots for node in members for line in node.known.values())
        overlap = overlap or bool(slots & taken)
        taken |= slots
        foreign = foreign or len(members) < len(group)
        with_keys += any(node.keys for node in members)
    if overlap or foreign or with_keys > 1:
        first = [_first_pod(facts, group) for group in groups]
        yield Refusal(
            node=first[1],
            cause=f"{' and '.join(first[:3])} belong to {len(groups)} different clusters that own "
            "slots",
            remedy="check that each DNS name resolves to the right pod; if one of the clusters is "
            "not needed, empty its pods with CLUSTER RESET HARD",
        )


def _first_pod(facts: Facts, group: frozenset[NodeId]) -> str:
    """Return the first of our pods in a group, or of its nodes where none is our pod."""
    members = [node for node in facts.nodes if node.node_id in group]
    return min(members, key=lambda n: (n.ordinal < 0, n.ordinal)).name


def _outsiders(facts: Facts) -> Iterator[Refusal]:
    """Refuse a pod of another cluster, and a live member that is none of our pods.

    Most of our pods are in our cluster; a group with fewer of them is another cluster.
    """
    live = facts.view.by_id()
    answering = {o.node_id: o for o in facts.view.outsiders if o.node_id in facts.unseen}
    main = max(facts.slot_groups, key=len, default=None)
    for group in facts.groups:
        ours = [live[i] for i in group if i in live]
        foreign = sorted((answering[i] for i in group if i in answering), key=lambda o: o.node_id)
        unknown = [i for i in group if i not in live]
        is_main = 2 * len(ours) > facts.desired.nodes
        if ours and not is_main and (foreign or (unknown and main is not None and group != main)):
            pod = min(ours, key=lambda n: n.ordinal).name
            yield Refusal(
                node=pod,
                cause=f"{pod} is in another cluster: it knows {len(unknown)} nodes "
                "that are not one of the configured pods",
                remedy="check that its DNS name resolves to the right pod; empty it with CLUSTER "
                "RESET HARD if it is not needed there any more",
            )
        elif foreign:
            first = f"{foreign[0].address} (node id {short_id(foreign[0].node_id)})"
            yield Refusal(
                node=str(foreign[0].address),
                cause=f"{first} is a live member of the cluster but not one of the configured pods",
                remedy="add its pod to the settings, or stop it once it owns no slots; it will "
                "then be forgotten. If it is not known, it reached the cluster bus: close the bus "
                "port with a NetworkPolicy",
            )


def _contests(facts: Facts) -> Iterator[Refusal]:
    """Refuse to choose between owners with one config epoch that both have keys of a slot.

    A move whose target owns the slot already is no contest; it is finished.
    """
    masks: dict[tuple[str, ...], int] = {}
    for slot in facts.contested:
        candidates = key_holders.strongest_owners(facts, slot)
        ids = {n.node_id for n in candidates}
        handed = any(n.migrating.get(slot) in ids for n in candidates)
        if len(candidates) > 1 and key_holders.keys_in(facts, candidates[0], slot) and not handed:
            names = tuple(n.name for n in candidates)
            masks[names] = masks.get(names, 0) | 1 << slot
    for names, mask in masks.items():
        yield Refusal(
            node=names[0],
            cause=f"{' and '.join(names)} own slots {abbreviate(SlotSet(mask))} with one config "
            "epoch, and each has keys of them",
            remedy="find out which of them has the right data, and take the slots from the other "
            "with CLUSTER DELSLOTS",
        )


def _slots_without_data(facts: Facts, *, allow_data_loss: bool) -> Iterator[Refusal]:
    """Refuse to reassign slots whose data no node has, unless there is consent."""
    if allow_data_loss:
        return
    for node_id, slots in sorted(facts.slots_of_gone.items()):
        if facts.successors_of(node_id):
            continue
        replicas = [n.name for n in facts.replicas_of(node_id)]
        ending = (
            f"gone, and {replicas[0]}, its replica, copied the node that came to its address"
            if replicas
            else "gone with all its replicas"
        )
        yield Refusal(
            node=replicas[0] if replicas else None,
            cause=f"slots {abbreviate(slots)} belong to member {short_id(node_id)}, "
            f"which is {ending}",
            remedy=_CONSENT,
        )
    slots = facts.uncovered
    imported = SlotSet.of(s for n in facts.live.values() for s in n.importing)
    unowned = slots - key_holders.slots_with_keys(facts, slots)
    unowned -= imported | union(facts.owner_by_peers.values())
    for node in facts.live.values():
        copies = unowned & SlotSet.of(facts.view.slot_keys.get(node.node_id, ()))
        if copies:
            unowned -= copies
            yield Refusal(
                node=node.name,
                cause=f"no node owns slots {abbreviate(copies)}, and only {node.name} has keys of "
                "them, which its primary lacks",
                remedy=f"make {node.name} a primary with CLUSTER FAILOVER FORCE, or accept the "
                "loss of these keys with BOOTSTRAP_ALLOW_DATA_LOSS=true",
            )
    empty = not facts.gone and not any(n.keys for n in facts.live.values())
    if unowned and not empty:
        yield Refusal(
            cause=f"no node owns slots {abbreviate(unowned)} and no node has keys of them",
            remedy=_CONSENT,
        )


_CONSENT = (
    "bring the lost pod's volume back, or accept the loss of their keys with "
    "BOOTSTRAP_ALLOW_DATA_LOSS=true"
)
