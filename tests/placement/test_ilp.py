"""The integer program finds what trying everything finds."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.placement.cluster import packs
from muxjax.placement.problem import Cluster, Problem
from muxjax.placement.references.ilp import optimum, splits
from tests.placement.exhaustive import best_of_all
from tests.placement.toy import CHIP, demand, problems, solver

SOLVER = 1e-6
"""Relative; CBC's tolerance."""


@settings(deadline=None, max_examples=25)
@given(problems(most_models=3) | problems(most_models=3, nodes=(1, 1), devices=(1, 2), small=(1, 2)), st.integers(1, 2))
def test_the_program_serves_what_the_best_of_all_placements_serves(problem, parts):
    objective, candidates = solver(problem)
    if problem.cluster.devices > 4:
        parts = 1
    exact = optimum(problem, objective, candidates, most_parts=parts)
    oracle = best_of_all(problem, objective, candidates, most_parts=parts)

    assert (exact is None) == (oracle is None)
    if exact is not None and oracle is not None:
        assert abs(objective.total(exact) - objective.total(oracle)) <= SOLVER * objective.total(oracle)
        assert packs((contents.mesh for contents in exact), problem.cluster)


def test_without_replicas_the_program_serves_less():
    problem = Problem(demands=(demand("a", 800, 30.0, kv_heads=1),), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2))
    objective, candidates = solver(problem)
    one, two = (optimum(problem, objective, candidates, most_parts=parts) for parts in (1, 2))

    assert one and two and len(one) == 1 and len(two) == 2
    assert objective.total(two) > 1.5 * objective.total(one)


def test_a_rate_is_split_as_the_meshes_are_unequal():
    """Two devices serve twice what one does: two thirds of the rate are theirs."""
    problem = Problem(demands=(demand("a", 20, 1e9, kv_heads=2),), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=3))
    objective, candidates = solver(problem)
    most_rps = sum(candidates.of("a")[tp].throughput_rps for tp in (0, 1))
    problem = replace(problem, demands=(replace(problem.demands[0], rate_rps=0.97 * most_rps),))
    objective, candidates = solver(problem)
    even, uneven = (optimum(problem, objective, candidates, most_parts=2, grain=grain) for grain in (1, 3))

    assert even and uneven and objective.total(even) < 0.99 * objective.total(uneven)
    assert sorted((contents.mesh.devices, 1 / contents.members[0].parts) for contents in uneven) == [
        (1, pytest.approx(1 / 3)),
        (2, pytest.approx(2 / 3)),
    ]


def test_splits_are_even_or_of_a_grain():
    assert splits(2) == [(1,), (2, 2)]
    assert splits(3, grain=4) == [(1,), (2, 2), (3, 3, 3), (4, 4 / 3), (4, 4, 2)]
    assert all(sum(1 / parts for parts in split) == pytest.approx(1) and len(split) <= 4 for split in splits(4, grain=6))


def test_what_does_not_fit_has_no_optimum():
    problem = Problem(
        demands=(demand("a", 700, 1.0), demand("b", 700, 1.0)),
        cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=1),
        memory_frac=1.0,
    )

    assert optimum(problem, *solver(problem)) is None
    assert best_of_all(problem, *solver(problem)) is None


def test_fewer_members_a_unit_leave_fewer_columns():
    problem = Problem(
        demands=tuple(demand(name, 100, 20.0) for name in "abc"), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=4)
    )
    objective, candidates = solver(problem)
    apart = optimum(problem, objective, candidates, most_members=1)

    assert apart is not None and all(len(contents.members) == 1 for contents in apart)
