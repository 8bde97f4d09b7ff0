"""The laws that every plan keeps, from whatever view it starts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, note
from hypothesis import strategies as st

from bootstrap.core import model
from bootstrap.core.actions import (
    Action,
    AssignSlots,
    Forget,
    Meet,
    MoveSlots,
    Plan,
    Replicate,
    Reset,
    describe,
)
from bootstrap.core.slots import SlotSet, even_counts, union
from bootstrap.core.topology import ClusterView, Role
from tests.support.faults import Draw, absent_pod
from tests.support.model import World, steps
from tests.support.scenes import Scene, sketch
from tests.support.strategies import damaged, lopsided, shuffled, whole_scenes


def world_of(scene: Scene) -> World:
    return World(view=scene.view, desired=scene.desired, policy=scene.policy, keys=scene.keys)


def ends_well(world: World, plan: Plan) -> bool:
    return plan.is_healthy or bool(plan.refusals) or (bool(world.view.absent) and not plan.actions)


def tell(world: World, plan: Plan) -> None:
    note(sketch(world.view))
    note(f"{plan.stage!r} {len(plan.actions)}: {[describe(a) for a in plan.actions[:6]]}")
    note(f"   findings {[(f.code.value, f.detail) for f in plan.findings][:6]}")


def twice_owned(view: ClusterView) -> SlotSet:
    once = twice = 0
    for node in view.nodes:
        twice |= once & node.slots.mask
        once |= node.slots.mask
    return SlotSet(twice)


@given(scene=whole_scenes())
def test_a_whole_view_gives_an_empty_plan(scene: Scene) -> None:
    """Law 2 holds: a healthy view gives an empty plan."""
    plan = world_of(scene).plan()
    assert plan.is_healthy
    assert not plan.actions


@given(scene=damaged())
def test_plans_end_in_a_healthy_cluster_or_a_refusal(scene: Scene) -> None:
    """Law 3: within a bound, no key lost on the way, and all keys where their slots are."""
    before = world_of(scene).all_keys()
    for each, step in steps(world_of(scene)):
        tell(each, step)
        world, plan = each, step
    assert ends_well(world, plan)
    if plan.is_healthy:
        assert not world.strays()
    if not scene.policy.allow_data_loss and "contested" not in scene.happened:
        assert world.all_keys() == before


def check_action(view: ClusterView, action: Action) -> None:
    """Check what must not be, whatever happens."""
    nodes = view.by_id()
    claimed = union(k.slots for n in view.nodes for k in n.known.values())
    match action:
        case AssignSlots(slots=slots):
            assert not slots & claimed
        case Forget(gone=gone):
            assert gone not in nodes
            assert not any(n.known[gone].slots for n in view.nodes if gone in n.known)
        case Reset(node=node_id):
            assert not nodes[node_id].slots
            assert nodes[node_id].role is Role.REPLICA or not nodes[node_id].keys
        case Replicate(node=node_id):
            assert not nodes[node_id].slots
            assert nodes[node_id].role is Role.REPLICA or not nodes[node_id].keys
        case MoveSlots(source=source, target=target, slots=slots):
            assert not slots - (nodes[source].slots | nodes[target].slots)
            assert nodes[target].role is Role.PRIMARY
        case _:
            pass


@given(scene=damaged())
def test_no_action_harms(scene: Scene) -> None:
    """Law 4: after every action coverage has not shrunk and no slot has one owner more."""
    for each, step in steps(world_of(scene)):
        tell(each, step)
        world = each
        for action in step.actions:
            seen, after = world.look(), world.after(action)
            check_action(seen, action)
            owned = union(n.slots for n in after.view.nodes)
            assert not union(n.slots for n in seen.nodes) - owned
            assert not twice_owned(after.view) - twice_owned(seen)
            world = after


@given(scene=damaged(), cuts=st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_a_plan_may_be_cut_after_any_action(scene: Scene, cuts: list[int]) -> None:
    """Law 5 holds: a plan that is cut after any action still ends healthy or refused."""
    world = world_of(scene)
    for cut in cuts:
        for action in world.plan().actions[:cut]:
            world = world.after(action)
    for each, step in steps(world):
        tell(each, step)
        world, plan = each, step
    assert ends_well(world, plan)


@given(scene=damaged(), seed=st.integers(0, 99))
def test_order_does_not_matter(scene: Scene, seed: int) -> None:
    """Law 6: neither that of nodes nor that of lines."""
    world = world_of(scene)
    mixed = replace(world, view=shuffled(scene.view, seed))
    assert mixed.plan() == world.plan()


@given(scene=lopsided())
def test_moves_equal_the_surplus(scene: Scene) -> None:
    """Law 7: what is moved is what is too much, once, and then all is even."""
    plan = world_of(scene).plan()
    moves = [a for a in plan.actions if isinstance(a, MoveSlots)]
    assume(moves or not plan.findings)
    counts = sorted((len(n.slots) for n in scene.view.nodes if n.slots), reverse=True)
    counts += [0] * (scene.desired.primaries - len(counts))
    staying = scene.desired.primaries
    least = sum(max(0, c - t) for c, t in zip(counts, even_counts(staying), strict=False))
    least += sum(counts[staying:])
    if len(counts) == staying:
        assert sum(len(m.slots) for m in moves) == least
    view = scene.view
    for move in moves:
        assert not move.slots - view.by_id()[move.source].slots
        view = model.expected(view, move)
    assert sorted((len(n.slots) for n in view.nodes if n.slots), reverse=True) == list(
        even_counts(staying)
    )


@st.composite
def with_absent(draw: Draw) -> Scene:
    scene = draw(damaged())
    absent_pod(draw, scene)
    return scene


@given(scene=with_absent())
def test_only_primaries_meet_again_while_a_pod_is_absent(scene: Scene) -> None:
    """Law 8 holds: while a wanted pod is absent, nothing is done but MEETs of known primaries."""
    assume(any(scene.desired.stays(a.ordinal) for a in scene.view.absent))
    nodes = scene.view.by_id()
    for action in world_of(scene).plan().actions:
        assert isinstance(action, Meet)
        one, other = nodes[action.node], nodes[action.target]
        assert one.slots
        assert other.slots
        assert other.node_id in one.known or one.node_id in other.known
