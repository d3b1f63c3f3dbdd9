"""Whoever places real shapes by the estimator keeps every limit of a placement."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cost.chip import A100
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates
from muxjax.placement.check import violations
from muxjax.placement.greedy import Effort, place
from muxjax.placement.objective import Objective
from muxjax.placement.problem import Cluster, Demand, Placement, Problem
from muxjax.placement.references.baselines import memory_greedy, spatial_aware, spatial_blind
from muxjax.placement.references.ilp import optimum
from muxjax.placement.search_space import search_space
from muxjax.specs.published import BY_NAME

SHAPES = st.sampled_from(["llama-7b", "llama-13b", "llama-30b", "llama-65b", "llama-3.1-8b"])


@st.composite
def real_problems(draw) -> Problem:
    shapes = draw(st.lists(st.tuples(SHAPES, st.floats(0.1, 15)), min_size=1, max_size=3))
    demands = tuple(
        Demand(name=f"{shape}-{i}", spec=BY_NAME[shape], rate_rps=rate, prompt_tokens=200, output_tokens=300)
        for i, (shape, rate) in enumerate(shapes)
    )
    cluster = Cluster.uniform(chip=A100, nodes=draw(st.integers(1, 2)), devices_per_node=draw(st.sampled_from((2, 3, 4))))
    return Problem(demands=demands, cluster=cluster, fairness=draw(st.sampled_from((float("inf"), 1.0, 0.2))))


def by_search(problem: Problem, objective: Objective, candidates: Candidates) -> Placement:
    return place(problem, objective, candidates, Effort(parts=2)).placement


def by_looks(problem: Problem, objective: Objective, candidates: Candidates) -> Placement:
    return place(problem, objective, candidates, Effort(groups=0)).placement


def by_program(problem: Problem, objective: Objective, candidates: Candidates) -> Placement:
    state = optimum(problem, objective, candidates)
    if state is None:
        raise ConfigError("nothing fits")
    return objective.placement(state)


@pytest.mark.parametrize("placer", [by_search, by_looks, by_program])
@settings(deadline=None, max_examples=15)
@given(real_problems())
def test_every_placement_passes_the_check(placer, problem):
    try:
        placement = placer(problem, *search_space(problem, Roofline()))
    except ConfigError:
        return

    assert violations(problem, placement) == []


@pytest.mark.parametrize("baseline", [memory_greedy, spatial_blind, spatial_aware])
@settings(deadline=None, max_examples=15)
@given(real_problems())
def test_every_baseline_without_a_fairness_bound_passes_the_check(baseline, problem):
    problem = replace(problem, fairness=float("inf"))
    try:
        placement = baseline(problem, *search_space(problem, Roofline()))
    except ConfigError:
        return

    assert violations(problem, placement) == []


def test_a_placement_of_another_problem_does_not_pass():
    demands = (Demand(name="a", spec=BY_NAME["llama-7b"], rate_rps=1.0, prompt_tokens=200, output_tokens=300),)
    problem = Problem(demands=demands, cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=2))
    other = replace(problem, demands=(replace(demands[0], rate_rps=2.0),))

    assert violations(other, by_search(problem, *search_space(problem, Roofline())))
