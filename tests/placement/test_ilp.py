"""The integer program finds what trying everything finds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.placement.cluster import packs
from muxjax.placement.exhaustive import best_of_all
from muxjax.placement.ilp import optimum
from muxjax.placement.problem import Cluster, Problem
from tests.placement.toy import CHIP, demand, problems, solver

SOLVER = 1e-6
"""Relative; CBC's tolerance."""


@settings(deadline=None, max_examples=25)
@given(problems(most_models=3), st.integers(1, 2))
def test_the_program_serves_what_the_best_of_all_placements_serves(problem, parts):
    objective, candidates = solver(problem)
    if problem.cluster.devices > 4:
        parts = 1
    exact = optimum(problem, objective, candidates, most_parts=parts)
    oracle = best_of_all(problem, objective, candidates, most_parts=parts)

    assert (exact is None) == (oracle is None)
    if exact is not None and oracle is not None:
        assert abs(objective.total(exact) - objective.total(oracle)) <= SOLVER * objective.total(oracle)
        assert packs(tuple(sorted((contents.devices for contents in exact), reverse=True)), problem.cluster)


def test_without_replicas_the_program_serves_less():
    problem = Problem(demands=(demand("a", 800, 30.0, kv_heads=1),), cluster=Cluster(chip=CHIP, nodes=1, devices_per_node=2))
    objective, candidates = solver(problem)
    one, two = (optimum(problem, objective, candidates, most_parts=parts) for parts in (1, 2))

    assert one and two and len(one) == 1 and len(two) == 2
    assert objective.total(two) > 1.5 * objective.total(one)


def test_what_does_not_fit_has_no_optimum():
    problem = Problem(
        demands=(demand("a", 700, 1.0), demand("b", 700, 1.0)), cluster=Cluster(chip=CHIP, nodes=1, devices_per_node=1), memory_frac=1.0
    )

    assert optimum(problem, *solver(problem)) is None
    assert best_of_all(problem, *solver(problem)) is None


def test_fewer_members_a_unit_leave_fewer_columns():
    problem = Problem(demands=tuple(demand(name, 100, 20.0) for name in "abc"), cluster=Cluster(chip=CHIP, nodes=1, devices_per_node=4))
    objective, candidates = solver(problem)
    apart = optimum(problem, objective, candidates, most_members=1)

    assert apart is not None and all(len(contents.members) == 1 for contents in apart)
