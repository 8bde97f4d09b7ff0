"""Whether the primaries would vote for a replica, and so whether it fails over FORCE or TAKEOVER.

With neither, in agreement with a primary that is alive: `departures.hand_over`.

Rules: a failover needs the votes of most primaries with slots, also a coordinated one. A primary
votes over its bus link to the replica, and never where it knows a higher config epoch for one of
the slots than the replica does (clusterSendFailoverAuthIfNeeded in cluster_legacy.c), so a replica
that missed the last epoch of its primary is denied forever (valkey-io/valkey#2169).
"""

from __future__ import annotations

from .actions import FailoverMode
from .facts import FAILING, Facts, is_at, is_linked
from .topology import Flag, KnownNode, NodeId, NodeView, Role


def handover_can_be_won(facts: Facts, replica: NodeView) -> bool:
    """Return whether every other member has a working link to a replica at its present address.

    A replica that came back at a new address gets no votes from those who know it at the old
    one, and its primary stops its clients for nothing.
    """
    others = (node for node in facts.live.values() if node is not replica)
    lines = [node.known.get(replica.node_id) for node in others]
    return replica.link_up and all(k and is_linked(k) and is_at(k, replica) for k in lines)


def failover_mode(facts: Facts, replica: NodeView, gone: NodeId) -> FailoverMode | None:
    """Return how a replica is to become primary now; None while it is too early.

    TAKEOVER is the only way where no node votes: without a quorum, for the replica of a primary
    that owned nothing in that replica's own view, and where the others know a higher epoch of that
    primary than the replica does.
    """
    flags = replica.known[gone].flags
    quorum = bool(replica.known[gone].slots) and has_voters(facts, replica)
    if not flags & ({Flag.FAIL, Flag.NOADDR} if quorum else {*FAILING, Flag.NOADDR}):
        return None
    if not quorum:
        return FailoverMode.TAKEOVER
    if not is_denied_for_ever(facts, replica, gone):
        return FailoverMode.FORCE
    return FailoverMode.TAKEOVER if takeover_is_safe(facts, replica, gone) else None


def has_voters(facts: Facts, replica: NodeView) -> bool:
    """Return whether most primaries with slots are alive, counted in the replica's own view."""
    voters = _voters(replica)
    alive = [k for k in voters if k.node_id in facts.live and not k.flags & FAILING]
    return len(alive) > len(voters) // 2


def is_denied_for_ever(facts: Facts, replica: NodeView, gone: NodeId) -> bool:
    """Return whether too many primaries know a higher epoch of a slot than the replica does."""
    willing = [n for n in facts.owners if not _denies(n, replica, gone)]
    return len(willing) <= len(_voters(replica)) // 2


def _voters(replica: NodeView) -> list[KnownNode]:
    return [k for k in replica.known.values() if k.role is Role.PRIMARY and k.slots]


def _denies(voter: NodeView, replica: NodeView, gone: NodeId) -> bool:
    claimed = replica.known[gone]
    return any(
        line.config_epoch > claimed.config_epoch and bool(line.slots & claimed.slots)
        for line in voter.known.values()
    )


def takeover_is_safe(facts: Facts, replica: NodeView, gone: NodeId) -> bool:
    """Return whether a replica may take the slots of a primary that is gone without votes.

    It claims all slots that it knows of its primary, with an epoch above the highest that it knows.
    So no live node may own one of them, and no node may know a higher epoch of the primary, which
    would make the others give the slots back to it.
    """
    reported = [n.known[gone].config_epoch for n in facts.live.values() if gone in n.known]
    is_free = not replica.known[gone].slots & facts.owned
    return is_free and replica.current_epoch >= max(reported)
