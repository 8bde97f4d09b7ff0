"""When to stop before the first change.

Rules: whatever could lose data, or mix two clusters, is a refusal that names the node, the reason
and what a person can do. Refusals about single nodes are told as soon as the node was seen, also
while other pods are still missing.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import key_holders
from .actions import Refusal
from .facts import Facts
from .findings import abbreviate
from .roles import assign_roles
from .slots import SlotSet, union
from .topology import NodeId, NodeView, Role, short_id

OLDEST = (6, 2, 0)


def refuse(facts: Facts, *, allow_data_loss: bool) -> tuple[Refusal, ...]:
    """Return every reason for not touching anything; empty when it is safe to go on."""
    single = [*_servers(facts), *_duplicates(facts), *_fresh_with_keys(facts)]
    if single:
        return tuple(single)
    mixed = [*_two_clusters(facts), *_outsiders(facts)]
    if mixed:
        return tuple(mixed)
    if facts.blocking_pods or facts.unseen:
        return ()
    return (
        *_contests(facts),
        *_slots_without_data(facts, allow_data_loss=allow_data_loss),
        *_memory(facts),
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


def _duplicates(facts: Facts) -> Iterator[Refusal]:
    by_id: dict[NodeId, list[NodeView]] = {}
    for node in facts.nodes:
        by_id.setdefault(node.node_id, []).append(node)
    for node_id, nodes in by_id.items():
        if len(nodes) > 1:
            names = " and ".join(f"{n.name} ({n.address})" for n in nodes)
            same = len({n.run_id for n in nodes}) == 1
            yield Refusal(
                node=nodes[0].name,
                cause=f"{names} are the same process"
                if same
                else f"{names} have the same node id {short_id(node_id)}",
                remedy="give every pod an address of its own"
                if same
                else "one has a copied volume: delete that pod's nodes.conf, or its volume if "
                "nothing in it is needed, and restart it",
            )


def _fresh_with_keys(facts: Facts) -> Iterator[Refusal]:
    """Refuse a lone node with keys, also where it owns slots.

    A server that comes up with data but without nodes.conf takes the slots of its keys
    (verifyClusterConfigWithData); joined, it would contest them with those who own them.
    """
    alone = facts.desired.nodes == 1
    for node in facts.nodes:
        if node.is_isolated and not alone and node.role is Role.PRIMARY and node.keys:
            yield Refusal(
                node=node.name,
                cause=f"{node.name} is in no cluster but holds {node.keys} keys",
                remedy="move the keys away and empty it, or take it out of the pods",
            )


def _two_clusters(facts: Facts) -> Iterator[Refusal]:
    """Refuse groups that would collide; groups of a start that was broken off may unite.

    Those are told from two clusters by this: all members are ours, nobody owns a slot that
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
            remedy="see that every name leads to the right pod; if one of the clusters is not "
            "needed, empty its pods with CLUSTER RESET HARD",
        )


def _first_pod(facts: Facts, group: frozenset[NodeId]) -> str:
    """Return the first of our pods in a group, or of its nodes where none is ours."""
    members = [node for node in facts.nodes if node.node_id in group]
    return min(members, key=lambda n: (n.endpoint.ordinal < 0, n.endpoint.ordinal)).name


def _outsiders(facts: Facts) -> Iterator[Refusal]:
    """Refuse a pod of another cluster, and a live member that is no pod of ours.

    Most of our pods are in our cluster; a group with fewer of them is another one.
    """
    live = facts.view.by_id()
    main = max(facts.slot_groups, key=len, default=None)
    for group in facts.groups:
        ours = [live[i] for i in group if i in live and live[i].endpoint.ordinal >= 0]
        strays = sorted(live[i].name for i in group if i in live and live[i].endpoint.ordinal < 0)
        unknown = [i for i in group if i not in live]
        is_main = 2 * len(ours) > facts.desired.nodes
        if ours and not is_main and (strays or (unknown and main is not None and group != main)):
            pod = min(ours, key=lambda n: n.endpoint.ordinal).name
            yield Refusal(
                node=pod,
                cause=f"{pod} is in another cluster: it knows {len(strays) + len(unknown)} nodes "
                "that are none of the pods",
                remedy="see that its name leads to the right pod; empty it with CLUSTER RESET HARD "
                "if it is not needed there any more",
            )
        elif strays:
            yield Refusal(
                node=strays[0],
                cause=f"{strays[0]} is a live member of the cluster but none of the pods",
                remedy="name its pod too, or stop it once it owns no slots; it is forgotten then",
            )


def _contests(facts: Facts) -> Iterator[Refusal]:
    """Refuse to choose between owners of one config epoch that both hold keys of a slot.

    A move that told its target already is no contest; it is finished.
    """
    masks: dict[tuple[str, ...], int] = {}
    for slot in facts.contested:
        candidates = key_holders.candidates(facts, slot)
        ids = {n.node_id for n in candidates}
        handed = any(n.migrating.get(slot) in ids for n in candidates)
        if len(candidates) > 1 and key_holders.keys_in(facts, candidates[0], slot) and not handed:
            names = tuple(n.name for n in candidates)
            masks[names] = masks.get(names, 0) | 1 << slot
    for names, mask in masks.items():
        yield Refusal(
            node=names[0],
            cause=f"{' and '.join(names)} own slots {abbreviate(SlotSet(mask))} with one config "
            "epoch, and each holds keys of them",
            remedy="see which of them is right, and take the slots from the other one with "
            "CLUSTER DELSLOTS",
        )


def _slots_without_data(facts: Facts, *, allow_data_loss: bool) -> Iterator[Refusal]:
    """Refuse to give away slots whose data nobody here has, unless there is consent."""
    if allow_data_loss:
        return
    for node_id, slots in sorted(facts.slots_of_gone.items()):
        if facts.heirs_of(node_id):
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
    settled_by_import = SlotSet.of(s for n in facts.live.values() for s in n.importing)
    orphans = slots - key_holders.slots_with_keys(facts, slots)
    orphans -= settled_by_import | union(facts.owner_by_peers.values())
    for node in facts.live.values():
        copies = orphans & SlotSet.of(facts.view.slot_keys.get(node.node_id, ()))
        if copies:
            orphans -= copies
            yield Refusal(
                node=node.name,
                cause=f"nobody owns slots {abbreviate(copies)}, and only {node.name} holds keys of "
                "them, which its primary lacks",
                remedy=f"make {node.name} a primary with CLUSTER FAILOVER FORCE, or accept the "
                "loss of these keys with BOOTSTRAP_ALLOW_DATA_LOSS=true",
            )
    empty = not facts.gone and not any(n.keys for n in facts.live.values())
    if orphans and not empty:
        yield Refusal(
            cause=f"nobody owns slots {abbreviate(orphans)} and no node holds keys of them",
            remedy=_CONSENT,
        )


_CONSENT = (
    "bring the lost pod's volume back, or accept the loss of their keys with "
    "BOOTSTRAP_ALLOW_DATA_LOSS=true"
)


def _memory(facts: Facts) -> Iterator[Refusal]:
    """Refuse to shrink into less memory than the data needs (limits are `maxmemory`)."""
    fewer = len(facts.owners) > facts.desired.primaries
    if not fewer and all(facts.desired.stays(n.endpoint.ordinal) for n in facts.owners):
        return
    drain = assign_roles(facts).drain
    leaving = [n for n in facts.owners if n.node_id in drain]
    staying = [n for n in facts.owners if n.node_id not in drain]
    if not leaving or not staying or not all(n.max_memory for n in staying):
        return
    needed = sum(n.used_memory for n in leaving)
    room = sum(n.max_memory - n.used_memory for n in staying)
    if needed > room:
        names = ", ".join(n.name for n in leaving)
        yield Refusal(
            node=leaving[0].name,
            cause=f"the data of {names} ({needed} bytes) does not fit into the {room} bytes that "
            "the staying primaries have left below maxmemory",
            remedy="raise maxmemory, or keep more pods",
        )
