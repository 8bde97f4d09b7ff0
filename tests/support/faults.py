"""Things that go wrong, one function each; each takes the scene so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st

from bootstrap.core.slots import SLOT_COUNT, SlotSet
from bootstrap.core.topology import Absent, ClusterView, DesiredTopology, Flag, Place, Role
from tests.support.builders import (
    acquaint,
    address,
    at,
    endpoint,
    estranged,
    line,
    node,
    node_id,
    own,
    with_line,
)
from tests.support.builders import (
    field as change,
)
from tests.support.scenes import Scene

Draw = st.DrawFn


def _one(draw: Draw, numbers: list[int]) -> int:
    return draw(st.sampled_from(numbers))


def missing_link(draw: Draw, scene: Scene) -> None:
    """One node does not know another, or neither knows the other; a replica knows its primary."""
    if len(scene.ordinals) < 2:
        return
    one, other = draw(st.permutations(scene.ordinals))[:2]
    for who, whom in ((one, other), (other, one)):
        if at(scene.view, who).myself.primary_id != node_id(whom) and (
            who == one or draw(st.booleans())
        ):
            scene.view = estranged(scene.view, who, whom)


def stale_address(draw: Draw, scene: Scene) -> None:
    """A pod came back elsewhere: others, and its own line, say where it was."""
    number = _one(draw, scene.ordinals)
    flags = draw(st.sampled_from([frozenset(), frozenset({Flag.FAIL}), frozenset({Flag.PFAIL})]))
    elsewhere = address(number, moved=True)
    for who in scene.ordinals:
        if node_id(number) in at(scene.view, who).known:
            marks = frozenset() if who == number else flags
            scene.view = with_line(
                scene.view, who, number, address=elsewhere, flags=marks, link_up=not marks
            )


def swapped_addresses(draw: Draw, scene: Scene) -> None:
    """Two pods came back on each other's address."""
    if len(scene.ordinals) < 2:
        return
    one, other = draw(st.permutations(scene.ordinals))[:2]
    for number, place in (
        (one, at(scene.view, other).address),
        (other, at(scene.view, one).address),
    ):
        if node_id(number) in at(scene.view, one).known:
            scene.view = own(scene.view, number, address=place)


def lost_address(draw: Draw, scene: Scene) -> None:
    """A node says noaddr of another, which lives."""
    if len(scene.ordinals) < 2:
        return
    one, other = draw(st.permutations(scene.ordinals))[:2]
    if node_id(other) in at(scene.view, one).known:
        scene.view = with_line(
            scene.view, one, other, flags=frozenset({Flag.NOADDR, Flag.FAIL}), link_up=False
        )


def open_slot(draw: Draw, scene: Scene) -> None:
    """A move broke off: migrating, importing, several importing, keys at both ends or none."""
    owners = scene.primaries()
    if not owners:
        return
    owner = _one(draw, owners)
    slot = draw(st.sampled_from(list(at(scene.view, owner).slots)[:3]))
    others = [n for n in scene.ordinals if n != owner]
    if draw(st.booleans()) and others:
        target = _one(draw, others)
        marks = {**at(scene.view, owner).migrating, slot: node_id(target)}
        scene.view = change(scene.view, owner, migrating=marks)
    importing: list[int] = []
    if others:
        importing = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    for number in importing:
        if at(scene.view, number).role is Role.PRIMARY:
            marks = {**at(scene.view, number).importing, slot: node_id(owner)}
            scene.view = change(scene.view, number, importing=marks)
            if draw(st.booleans()):
                scene.put_key(number, slot)
    if draw(st.booleans()):
        scene.put_key(owner, slot)


def half_told(draw: Draw, scene: Scene) -> None:
    """Both ends of a move say that the other owns the slot, so nobody does."""
    owners = scene.primaries()
    if len(owners) < 2:
        return
    source, target = draw(st.permutations(owners))[:2]
    slot = next(iter(at(scene.view, source).slots))
    scene.view = own(scene.view, source, slots=at(scene.view, source).slots - SlotSet.of([slot]))
    if draw(st.booleans()):
        marks = {**at(scene.view, target).importing, slot: node_id(source)}
        scene.view = change(scene.view, target, importing=marks)
    held = scene.keys.get(node_id(source), {})
    if slot in held:
        scene.keys.setdefault(node_id(target), {})[slot] = held.pop(slot)
    if draw(st.booleans()):
        scene.put_key(source, slot)


def contested(draw: Draw, scene: Scene) -> None:
    """Two live nodes say that they own some slots; one has the keys."""
    owners = scene.primaries()
    if len(owners) < 2:
        return
    one, other = draw(st.permutations(owners))[:2]
    part = at(scene.view, one).slots.lowest(draw(st.integers(1, 3)))
    mine = at(scene.view, other)
    scene.view = with_line(scene.view, other, other, slots=mine.slots | part)
    if draw(st.booleans()):
        marks = {**at(scene.view, one).migrating, **dict.fromkeys(part, node_id(other))}
        scene.view = change(scene.view, one, migrating=marks)
    held = scene.keys.get(node_id(one), {})
    if draw(st.booleans()):
        for slot in [s for s in held if s in part]:
            scene.keys.setdefault(node_id(other), {})[slot] = held.pop(slot)


def uncovered(draw: Draw, scene: Scene) -> None:
    """Somebody deleted slots; keys may be left."""
    owners = scene.primaries()
    if not owners:
        return
    number = _one(draw, owners)
    mine = at(scene.view, number).slots
    lost = mine.lowest(draw(st.sampled_from([1, 5, SLOT_COUNT])))
    scene.view = own(scene.view, number, slots=mine - lost)
    if draw(st.booleans()):
        held = scene.keys.get(node_id(number), {})
        for slot in [s for s in held if s in lost]:
            del held[slot]


def lost_member(draw: Draw, scene: Scene) -> None:
    """A process is gone for ever; an empty pod may have come in its place."""
    if len(scene.ordinals) < 2:
        return
    number = _one(draw, scene.ordinals)
    flags = draw(st.sampled_from([frozenset({Flag.FAIL}), frozenset({Flag.PFAIL}), frozenset()]))
    for who in scene.ordinals:
        if who != number and node_id(number) in at(scene.view, who).known:
            scene.view = with_line(scene.view, who, number, flags=flags, link_up=not flags)
    newcomer = draw(st.sampled_from(["empty", "absent", "empty"]))
    nodes = [n for n in scene.view.nodes if n.endpoint.ordinal != number]
    if newcomer == "empty":
        empty = node(number + 500)
        nodes.append(
            replace(
                empty,
                endpoint=endpoint(number),
                address=address(number),
                known={i: replace(k, address=address(number)) for i, k in empty.known.items()},
            )
        )
        nodes.sort(key=lambda n: n.endpoint.ordinal)
        scene.view = replace(scene.view, nodes=tuple(nodes))
    else:
        missing = Absent(name=endpoint(number).name, ordinal=number, phase="dns", cause="NXDOMAIN")
        scene.view = replace(scene.view, nodes=tuple(nodes), absent=(*scene.view.absent, missing))


def epoch_collision(draw: Draw, scene: Scene) -> None:
    """Several primaries have one config epoch."""
    for number in scene.primaries():
        if draw(st.booleans()):
            scene.view = own(scene.view, number, config_epoch=1)


def uneven_slots(draw: Draw, scene: Scene) -> None:
    """One primary gave slots to another, perhaps all of them."""
    owners = scene.primaries()
    if len(owners) < 2:
        return
    one, other = draw(st.permutations(owners))[:2]
    part = at(scene.view, one).slots.highest(draw(st.sampled_from([1, 2, 1000, SLOT_COUNT])))
    scene.view = own(scene.view, one, slots=at(scene.view, one).slots - part)
    scene.view = own(scene.view, other, slots=at(scene.view, other).slots | part)
    held = scene.keys.get(node_id(one), {})
    for slot in [s for s in held if s in part]:
        scene.keys.setdefault(node_id(other), {})[slot] = held.pop(slot)


def uneven_replicas(draw: Draw, scene: Scene) -> None:
    """Replicas follow other primaries than they should, or none."""
    for number in scene.replicas():
        if draw(st.booleans()):
            of = _one(draw, scene.ordinals)
            if of != number and node_id(of) in at(scene.view, number).known:
                scene.view = own(scene.view, number, primary_id=node_id(of))


def empty_primary(draw: Draw, scene: Scene) -> None:
    """A replica was made into a primary without slots."""
    if scene.replicas():
        number = _one(draw, scene.replicas())
        scene.view = own(scene.view, number, role=Role.PRIMARY, primary_id=None)


def broken_link(draw: Draw, scene: Scene) -> None:
    """A replica lost its primary's stream."""
    for number in scene.replicas():
        if draw(st.booleans()):
            scene.view = change(scene.view, number, link_up=False)


def newcomers(draw: Draw, scene: Scene) -> None:
    """More pods are wanted than are members; all of them are up."""
    replicas = scene.desired.replicas
    count = draw(st.integers(1, 2 * (1 + replicas)))
    first = max(scene.desired.nodes, 1 + max(scene.ordinals, default=0))
    new = tuple(node(i) for i in range(first, first + count))
    scene.view = replace(scene.view, nodes=(*scene.view.nodes, *new))
    scene.desired = DesiredTopology(nodes=first + count, replicas=replicas)


def leavers(draw: Draw, scene: Scene) -> None:
    """Fewer pods are wanted than are members."""
    replicas = scene.desired.replicas
    least = 1 + replicas
    if scene.desired.nodes > least:
        count = draw(st.integers(least, scene.desired.nodes - 1))
        scene.desired = DesiredTopology(nodes=count, replicas=replicas)


def other_replicas(draw: Draw, scene: Scene) -> None:
    """Another number of replicas is wanted of the same pods."""
    replicas = draw(st.integers(0, 2))
    if scene.desired.nodes >= 1 + replicas:
        scene.desired = DesiredTopology(nodes=scene.desired.nodes, replicas=replicas)


def gone_id(draw: Draw, scene: Scene) -> None:
    """Some nodes still know a member that nobody has seen for long, or claim slots for it."""
    number = draw(st.integers(900, 902))
    flags = draw(st.sampled_from([frozenset({Flag.FAIL}), frozenset({Flag.NOADDR})]))
    owned = draw(st.sampled_from(["", "", "0-2"]))
    for who in scene.ordinals:
        observer = at(scene.view, who)
        if not observer.is_isolated and draw(st.booleans()):
            part = SlotSet.parse(owned) - observer.slots
            ghost = line(number, flags=flags, link_up=False, slots=part)
            known = {i: replace(k, slots=k.slots - part) for i, k in observer.known.items()}
            scene.view = change(scene.view, who, known={**known, ghost.node_id: ghost})


def outdated_view(draw: Draw, scene: Scene) -> None:
    """A node has old slots, epoch or role of another."""
    if len(scene.ordinals) < 2:
        return
    one, other = draw(st.permutations(scene.ordinals))[:2]
    if node_id(other) not in at(scene.view, one).known:
        return
    if draw(st.booleans()):
        scene.view = with_line(scene.view, one, other, slots=SlotSet(), config_epoch=0)
    else:
        scene.view = with_line(scene.view, one, other, role=Role.PRIMARY, primary_id=None)


def state_fail(draw: Draw, scene: Scene) -> None:
    """A node says cluster_state:fail, holds failovers, or has handshakes open."""
    number = _one(draw, scene.ordinals)
    scene.view = change(scene.view, number, state_ok=False)
    if draw(st.booleans()):
        other = _one(draw, scene.ordinals)
        scene.view = change(
            scene.view, number, handshakes=frozenset({at(scene.view, other).address})
        )
    if draw(st.booleans()):
        scene.view = change(scene.view, number, no_failover=True)


def functions(draw: Draw, scene: Scene) -> None:
    """Some nodes hold function libraries."""
    for number in scene.ordinals:
        if draw(st.booleans()):
            scene.view = change(scene.view, number, libraries=1)


def moved_place(draw: Draw, scene: Scene) -> None:
    """Pods were put on other nodes."""
    for number in scene.ordinals:
        if draw(st.booleans()):
            scene.view = change(scene.view, number, place=Place(zone="z1", node="n1"))


def fresh_start(draw: Draw, scene: Scene) -> None:
    """Nothing was done yet, or only a part of the first plan."""
    count = scene.desired.nodes
    scene.keys = {}
    nodes = [node(i) for i in range(count)]
    met = draw(st.integers(0, count))
    acquainted = acquaint(nodes[:met]).nodes if met else ()
    scene.view = ClusterView(nodes=(*acquainted, *nodes[met:]))


def absent_pod(draw: Draw, scene: Scene) -> None:
    """A pod does not answer; its process may own slots."""
    if len(scene.ordinals) > 1:
        number = _one(draw, scene.ordinals)
        missing = Absent(name=endpoint(number).name, ordinal=number, phase="dns", cause="NXDOMAIN")
        left = tuple(n for n in scene.view.nodes if n.endpoint.ordinal != number)
        scene.view = replace(scene.view, nodes=left, absent=(*scene.view.absent, missing))


FAULTS: list[Callable[[Draw, Scene], None]] = [
    missing_link,
    stale_address,
    swapped_addresses,
    lost_address,
    open_slot,
    half_told,
    contested,
    uncovered,
    lost_member,
    epoch_collision,
    uneven_slots,
    uneven_replicas,
    empty_primary,
    broken_link,
    newcomers,
    leavers,
    other_replicas,
    gone_id,
    outdated_view,
    state_fail,
    functions,
    moved_place,
    fresh_start,
]
