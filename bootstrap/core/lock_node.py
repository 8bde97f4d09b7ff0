"""The node that carries the lock of a run.

Rules: every run must choose the same node, whatever order the replies arrive in and however many
pods each run is configured with, so it is the pod with the lowest ordinal that answered: an id
changes when a pod loses its volume, an address when it restarts.
"""

from __future__ import annotations

from .topology import ClusterView, NodeView


def lock_node(view: ClusterView) -> NodeView:
    """Return the pod on which runs agree who may change the cluster.

    A member that is not one of the configured pods is never chosen: it is not sent credentials.

    Raises:
        ValueError: No pod answered, so there is nothing to change either.
    """
    pods = (n for n in view.nodes if n.ordinal >= 0)
    return min(pods, key=lambda n: (n.ordinal, n.name, n.node_id))
