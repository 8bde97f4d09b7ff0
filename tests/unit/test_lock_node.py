"""The node that carries the lock."""

import pytest

from bootstrap.core.topology import ClusterView
from tests.support.builders import node, view, without


def test_the_lowest_ordinal_carries_the_lock_whatever_order_the_replies_have() -> None:
    """Every run has to choose the same node."""
    nodes = view("3x1").nodes
    assert ClusterView(nodes=nodes[::-1]).lock_node().endpoint.ordinal == 0
    assert without(view("3x1"), 0).lock_node().endpoint.ordinal == 1


def test_a_member_that_is_none_of_the_pods_never_carries_the_lock() -> None:
    """The program does not send credentials to such a member."""
    assert ClusterView(nodes=(node(-1), node(4))).lock_node().endpoint.ordinal == 4
    with pytest.raises(ValueError, match="empty"):
        ClusterView(nodes=(node(-1),)).lock_node()
