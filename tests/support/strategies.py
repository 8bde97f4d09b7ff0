"""What Hypothesis draws: slot sets, healthy clusters, and clusters with things gone wrong.

A damaged cluster is a healthy one on which a few faults were put; so a failing example reads as the
list of faults that made it.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import strategies as st

from bootstrap.core.planner import Policy
from bootstrap.core.slots import SLOT_COUNT, SlotSet
from bootstrap.core.topology import ClusterView, DesiredTopology
from tests.support.builders import at, own, placed, view
from tests.support.faults import FAULTS, Draw
from tests.support.scenes import Scene


def slot_sets() -> st.SearchStrategy[SlotSet]:
    """Draw sets from empty to all, of ranges and single slots."""
    slot = st.integers(0, SLOT_COUNT - 1)
    few = st.frozensets(slot, max_size=20).map(SlotSet.of)
    spans = st.tuples(slot, slot).map(lambda ends: SlotSet.span(min(ends), max(ends)))
    pair = st.tuples(spans, spans)
    return st.one_of(
        few,
        spans,
        pair.map(lambda p: p[0] | p[1]),
        pair.map(lambda p: p[0] - p[1]),
        st.sampled_from([SlotSet(), SlotSet.all()]),
    )


def shapes(most_shards: int = 5, most_replicas: int = 2) -> st.SearchStrategy[str]:
    """Draw sizes like `3x1`."""
    return st.tuples(st.integers(1, most_shards), st.integers(0, most_replicas)).map(
        lambda s: f"{s[0]}x{s[1]}"
    )


@st.composite
def places(draw: Draw, numbers: range) -> dict[int, str]:
    """Draw failure domains: none, zones, or zones and nodes."""
    zones = draw(st.integers(0, 4))
    if not zones:
        return {}
    hosts = draw(st.integers(0, 3))
    return {
        i: f"z{draw(st.integers(1, zones))}/" + (f"n{draw(st.integers(1, hosts))}" if hosts else "")
        for i in numbers
    }


@st.composite
def whole_scenes(draw: Draw, most_shards: int = 5) -> Scene:
    """Draw a healthy cluster, in places, perhaps with data."""
    shape = draw(shapes(most_shards))
    shards, replicas = map(int, shape.split("x"))
    count = shards * (1 + replicas)
    seen = placed(view(shape), draw(places(range(count))))
    scene = Scene(view=seen, desired=DesiredTopology(nodes=count, replicas=replicas))
    if draw(st.booleans()):
        for number in scene.primaries():
            first = next(iter(at(seen, number).slots))
            scene.put_key(number, first)
    return scene


@st.composite
def lopsided(draw: Draw) -> Scene:
    """Draw a cluster whose primaries own anything from nothing to all, some of them to be many."""
    shape = draw(shapes())
    scene = Scene(view=view(shape), desired=DesiredTopology(nodes=0, replicas=0))
    shards, replicas = map(int, shape.split("x"))
    scene.desired = DesiredTopology(nodes=shards * (1 + replicas), replicas=replicas)
    cuts = sorted(
        draw(st.lists(st.integers(0, SLOT_COUNT), min_size=shards - 1, max_size=shards - 1))
    )
    for number, (first, last) in enumerate(zip([0, *cuts], [*cuts, SLOT_COUNT], strict=True)):
        part = SlotSet.span(first, last - 1) if first < last else SlotSet()
        scene.view = own(scene.view, number, slots=part)
    return scene


def shuffled(seen: ClusterView, seed: int) -> ClusterView:
    """Return the same nodes, lines and absent pods in another order."""
    order = Random(seed)
    nodes = [
        replace(n, known=dict(order.sample([*n.known.items()], len(n.known)))) for n in seen.nodes
    ]
    return replace(
        seen,
        nodes=tuple(order.sample(nodes, len(nodes))),
        absent=tuple(order.sample(seen.absent, len(seen.absent))),
    )


@st.composite
def damaged(draw: Draw) -> Scene:
    """Draw a cluster to which one to four things have happened."""
    scene = draw(whole_scenes(most_shards=4))
    for fault in draw(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4)):
        scene.happened.append(fault.__name__)
        fault(draw, scene)
    consent, rebalance = draw(st.booleans()), draw(st.booleans())
    scene.policy = Policy(allow_data_loss=consent, rebalance=rebalance)
    return scene
