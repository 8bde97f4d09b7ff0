"""When to stop before the first change.

Rules: whatever could lose data, or mix two clusters, is a refusal that names the node, the reason
and what a person can do. Refusals about single nodes are reported as soon as the node was observed,
also while other pods are still missing.

Invariant: a refusal never depends on the order of replies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from . import compatibility, key_holders
from .actions import Refusal
from .copied_volumes import RUNBOOK, refuse_copied_volumes
from .facts import Facts
from .findings import abbreviate, counted
from .slots import SlotSet, union, union_by_key
from .topology import ClusterView, NodeId, NodeView, Role, short_id

OLDEST = (6, 2, 0)
_CONSENT = (
    "bring the lost pod's volume back, or accept the loss of their keys with "
    "BOOTSTRAP_ALLOW_DATA_LOSS=true"
)


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
    losses = (*_slots_of_gone(facts), *_in_transit(facts), *_uncovered(facts))
    return (*_contests(facts), *(() if allow_data_loss else losses))


def refuse_stray_keys(view: ClusterView, emptied: Collection[NodeId]) -> tuple[Refusal, ...]:
    """Return the nodes that are to lose their last slot, and have keys of slots of others.

    No client reaches these keys: a person closed the slots by hand, or gave them to another node.
    """
    return tuple(
        Refusal(
            node=node.name,
            cause=f"{node.name} has {counted(count, 'key')} of slots that other nodes own, and "
            "would delete them with its last slot",
            remedy="let a run move them to the owners: send it CLUSTER SETSLOT SLOT IMPORTING and "
            "the owner's id for each of these slots, and run again; or accept the loss of these "
            "keys with BOOTSTRAP_ALLOW_DATA_LOSS=true",
        )
        for node in view.nodes
        if node.node_id in emptied and (count := view.stray_keys.get(node.node_id, 0))
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
            yield Refusal(
                node=node.name,
                cause=f"{node.name} runs {compatibility.runs(node)}",
                remedy="upgrade it to 6.2 or later",
            )


def _fresh_with_keys(facts: Facts) -> Iterator[Refusal]:
    """Refuse an isolated node with keys, also where it owns slots.

    A server that starts with data but without nodes.conf takes the slots of its keys
    (verifyClusterConfigWithData); joined, it would contest them with their owners.
    """
    lost = [
        f"; member {short_id(i)}, which owns slots, has no process" for i in facts.slots_of_gone
    ]
    for node in facts.nodes if facts.desired.nodes > 1 else ():
        if node.is_isolated and node.role is Role.PRIMARY and node.keys:
            yield Refusal(
                node=node.name,
                cause=f"{node.name} is in no cluster but has {counted(node.keys, 'key')}: its "
                "nodes.conf is lost or was deleted, or its volume is another server's"
                f"{min(lost, default='')}",
                remedy=_remedy_of_lost_file(facts, node),
            )


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
    another group owns, and at most one group has keys. While pods are missing, as many unknown
    members may be theirs: another run may have found these pods already.
    """
    groups = [[n for n in facts.nodes if n.node_id in group] for group in facts.slot_groups]
    owned = [union(k.slots for n in group for k in n.known.values()) for group in groups]
    has_overlap = sum(map(len, owned)) > len(union(owned))
    unknown = set().union(*facts.slot_groups) - facts.view.by_id().keys()
    has_foreign = len(unknown) > _missing_pods(facts)
    with_keys = sum(any(n.keys for n in group) for group in groups)
    if len(groups) > 1 and (has_overlap or has_foreign or with_keys > 1):
        first = [group[0].name for group in groups]
        yield Refusal(
            node=first[1],
            cause=f"{' and '.join(first[:3])} belong to {len(groups)} different clusters that own "
            "slots",
            remedy="check that each DNS name resolves to the right pod; if one of the clusters is "
            "not needed, empty its pods with CLUSTER RESET HARD",
        )


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
        is_apart = main is not None and group != main and len(unknown) > _missing_pods(facts)
        if ours and not is_main and (foreign or is_apart):
            pod = min(ours, key=lambda n: n.ordinal).name
            yield Refusal(
                node=pod,
                cause=f"{pod} is in another cluster: it knows {counted(len(unknown), 'node')} "
                "outside of the configured pods",
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


def _missing_pods(facts: Facts) -> int:
    """Return how many wanted pods gave no view: a member that is not known may be one of them."""
    return sum(facts.desired.stays(absent.ordinal) for absent in facts.view.absent)


def _contests(facts: Facts) -> Iterator[Refusal]:
    """Refuse to choose between owners with one config epoch that both have keys of a slot.

    A move whose target owns the slot already is no contest; it is finished.
    """
    undecided: list[tuple[tuple[str, ...], SlotSet]] = []
    for slot in facts.contested:
        candidates = key_holders.strongest_owners(facts, slot)
        ids = {n.node_id for n in candidates}
        handed = any(n.migrating.get(slot) in ids for n in candidates)
        if len(candidates) > 1 and key_holders.keys_in(facts, candidates[0], slot) and not handed:
            undecided.append((tuple(n.name for n in candidates), SlotSet.of([slot])))
    for names, slots in union_by_key(undecided).items():
        yield Refusal(
            node=names[0],
            cause=f"{' and '.join(names)} own slots {abbreviate(slots)} with one config epoch, and "
            "each has keys of them",
            remedy="find out which of them has the right data, and take the slots from the other "
            "with CLUSTER DELSLOTS",
        )


def _slots_of_gone(facts: Facts) -> Iterator[Refusal]:
    """Refuse to reassign slots of members that are gone with every copy of their data."""
    for node_id, slots in sorted(facts.slots_of_gone.items()):
        if replicas := facts.successors_of(node_id):
            yield from _undecided(replicas, node_id, slots)
            continue
        name, ending = None, "gone with all its replicas"
        if replicas := facts.replicas_of(node_id):
            name = replicas[0].name
            ending = f"gone, and {name}, its replica, copied the node that came to its address"
        yield Refusal(
            node=name,
            cause=f"slots {abbreviate(slots)} belong to member {short_id(node_id)}, "
            f"which is {ending}",
            remedy=_CONSENT,
        )


def _undecided(replicas: Sequence[NodeView], gone: NodeId, slots: SlotSet) -> Iterator[Refusal]:
    """Refuse to choose between a replica that has read more and one that has more keys."""
    known, unknown = key_holders.best_of(replicas)
    if known and unknown and unknown.keys > known.keys:
        yield Refusal(
            node=unknown.name,
            cause=f"slots {abbreviate(slots)} belong to member {short_id(gone)}, which is gone; of "
            f"its replicas {unknown.name} has more keys ({unknown.keys}, {known.name} "
            f"{known.keys}), but since its restart it does not say how much it has read",
            remedy="find out which of them has the right data, and make it a primary with CLUSTER "
            "FAILOVER TAKEOVER; or let the program take the one with more keys with "
            "BOOTSTRAP_ALLOW_DATA_LOSS=true",
        )


def _in_transit(facts: Facts) -> Iterator[Refusal]:
    """Refuse to close slots whose keys were on their way to a member that is gone.

    Those that had arrived there are lost with it, as the keys of its own slots would be. A node
    that has keys of one of these slots, and does not own it, was its replica.
    """
    lost: list[tuple[tuple[str, NodeId], SlotSet]] = []
    survived: set[NodeId] = set()
    for owner in facts.owners if facts.has_keys else ():
        for slot, target in owner.migrating.items():
            if target in facts.gone and not facts.successors_of(target):
                lost.append(((owner.name, target), SlotSet.of([slot])))
                others = (n for n in facts.primaries if n is not owner)
                if any(key_holders.may_have_keys(facts, n, slot) for n in others):
                    survived.add(target)
    for (name, gone), slots in sorted(union_by_key(lost).items()):
        if gone in survived:
            continue
        yield Refusal(
            node=name,
            cause=f"{name} was moving slots {abbreviate(slots)} to member {short_id(gone)}, which "
            "is gone with the keys that had arrived there",
            remedy=_CONSENT,
        )


def _uncovered(facts: Facts) -> Iterator[Refusal]:
    """Refuse to reassign slots that no node owns and whose data no primary has."""
    unowned = facts.uncovered - key_holders.slots_with_keys(facts, facts.uncovered)
    unowned -= facts.importing | union(facts.owner_by_peers.values())
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
    if unowned and (holders := key_holders.hidden_holders(facts)):
        name, count = holders[0].name, key_holders.hidden_keys(facts, holders[0])
        yield Refusal(
            node=name,
            cause=f"no node owns slots {abbreviate(unowned)}, and {name} has "
            f"{counted(count, 'key')} of slots that it does not own",
            remedy="that server does not show of which slots these keys are: if they are of these "
            f"slots, give them to {name} with CLUSTER ADDSLOTS; with "
            "BOOTSTRAP_ALLOW_DATA_LOSS=true the program does so itself",
        )
    elif unowned and not facts.has_nothing_to_lose:
        yield Refusal(
            cause=f"no node owns slots {abbreviate(unowned)} and no node has keys of them",
            remedy=_CONSENT,
        )
