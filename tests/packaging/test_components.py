"""Components go together in any order, or kustomize refuses and prints the reason."""

import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.support.rendering import (
    COMPONENTS,
    KUBECTL,
    MANIFESTS,
    Object,
    load_all,
    try_to_render,
)

Write = Callable[..., Path]


def refusals() -> dict[frozenset[str], str]:
    """Return the pairs that refuse, and the reason that each gives."""
    found = {}
    for one in yaml.safe_load_all((MANIFESTS / "refusals/refusals.yaml").read_text()):
        marks = one["target"]["annotationSelector"].split(",")
        pair = frozenset(mark.removeprefix("redis-cluster-bootstrap/") for mark in marks)
        found[pair] = yaml.safe_load(one["patch"])[0]["path"].removeprefix("/components ")
    return found


REFUSALS = refusals()
PAIRS = list(combinations(COMPONENTS, 2))
WITH_OBJECTS = {"network-policy", "reconcile"}  # kustomize refuses to add an object twice


def sorted_lists(value: object) -> object:
    """Return the value with its lists in one order: components append where their turn comes."""
    if isinstance(value, dict):
        return {key: sorted_lists(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted(
            (sorted_lists(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True)
        )
    return value


def check_pair(write: Write, pair: tuple[str, str], program: Sequence[str]) -> None:
    outcomes = []
    for name, order in (("ab", pair), ("ba", pair[::-1])):
        folder = write(name=name, components=[f"../manifests/components/{c}" for c in order])
        outcomes.append(try_to_render(folder, program))
    if reason := REFUSALS.get(frozenset(pair)):
        for done in outcomes:
            assert done.returncode
            assert " ".join(reason.split()) in " ".join(done.stderr.split())
            assert f"{pair[0]} and {pair[1]}" in reason or f"{pair[1]} and {pair[0]}" in reason
        return
    rendered = []
    for done in outcomes:
        assert done.returncode == 0, done.stderr
        objects = load_all(done.stdout)
        names = [(o["kind"], o["metadata"]["name"]) for o in objects]
        assert len(names) == len(set(names))
        rendered.append(objects)
    assert sorted_lists(rendered[0]) == sorted_lists(rendered[1])


@pytest.mark.parametrize("pair", PAIRS, ids="-and-".join)
def test_pair_renders_alike_in_both_orders_or_is_refused(
    write_overlay: Write, pair: tuple[str, str]
) -> None:
    """Two components give the same objects in both orders, or do not render at all."""
    check_pair(write_overlay, pair, KUBECTL)


def test_all_pairs_in_other_versions(write_overlay: Write, other_kustomize: Sequence[str]) -> None:
    """Other versions of kustomize render each pair as kubectl does."""
    for pair in PAIRS:
        check_pair(write_overlay, pair, other_kustomize)


def test_every_refusal_names_components_that_exist() -> None:
    """A pair that is refused consists of components of this repository."""
    assert {name for pair in REFUSALS for name in pair} <= set(COMPONENTS)


@pytest.mark.parametrize("name", sorted({name for pair in REFUSALS for name in pair}))
def test_refused_component_marks_the_job(name: str) -> None:
    """A component that cannot work in some bases marks the Job, and a transformer refuses it."""
    lines: Object = yaml.safe_load(
        (MANIFESTS / "components" / name / "kustomization.yaml").read_text()
    )
    assert lines["transformers"] == ["../../refusals"]
    assert f"redis-cluster-bootstrap/{name}" in str(lines["patches"])


@pytest.mark.parametrize("base", ["../manifests", "../manifests/overlays/production"])
@pytest.mark.parametrize("name", COMPONENTS)
def test_component_on_top_of_an_overlay(write_overlay: Write, base: str, name: str) -> None:
    """What an overlay has already is refused or renders; nothing is half there."""
    included = {"../manifests": {"reconcile"}}
    production = {"auth", "tls", "network-policy", "reconcile", "metrics"}
    there = included.get(base, production)
    done = try_to_render(
        write_overlay(resources=base, components=[f"../manifests/components/{name}"])
    )
    again = name in there and name in WITH_OBJECTS
    refused = again or any(frozenset((name, one)) in REFUSALS for one in there)
    assert bool(done.returncode) == refused, done.stderr
