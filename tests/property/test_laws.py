"""The laws that every plan keeps, from whatever view it starts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from model import World, steps
from strategies import Scene, absent_pod, damaged, sketch, wholes

from bootstrap.core.actions import (
    AssignSlots,
    ClaimSlots,
    Forget,
    MoveSlots,
    Plan,
    Replicate,
    Reset,
)
from bootstrap.core.facts import Facts
from bootstrap.core.slots import SlotSet, even_counts, union
from bootstrap.core.topology import Role


def world_of(scene: Scene) -> World:
    return World(view=scene.view, desired=scene.desired, policy=scene.policy, keys=scene.keys)


def ends_well(plan: Plan) -> bool:
    return plan.is_whole or bool(plan.refusals)


def tell(world: World, plan: Plan) -> None:
    note(sketch(world.view))
    note(f"{plan.stage!r} {len(plan.actions)}: {plan.actions[:6]}")
    note(f"   findings {[(f.code.value, f.detail) for f in plan.findings][:6]}")


@given(scene=wholes())
def test_a_whole_view_gives_an_empty_plan(scene: Scene) -> None:
    """Law 2."""
    plan = world_of(scene).plan()
    assert plan.is_whole
    assert not plan.actions


@given(scene=damaged())
def test_plans_end_in_a_whole_cluster_or_a_refusal(scene: Scene) -> None:
    """Law 3: within a bound, and with all keys where their slots are."""
    last = None
    for world, plan in steps(world_of(scene)):
        tell(world, plan)
        last = world, plan
    assert last is not None
    world, plan = last
    if not world.view.absent:
        assert ends_well(plan)
    if plan.is_whole:
        assert not world.strays()
