"""Of placements that serve everything, the one that would serve more of the same is chosen."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from muxjax.errors import ConfigError
from muxjax.placement.greedy import Effort, place
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.problem import Cluster, Placement, Problem
from tests.placement.toy import CHIP, demand, problems, score, solver

QUICK = Effort(parts=2)


def grown(problem: Problem, growth: float) -> Problem:
    return replace(problem, demands=tuple(replace(one, rate_rps=one.rate_rps * growth) for one in problem.demands))


def share_served(problem: Problem, placement: Placement, growth: float) -> float:
    """Of all requests, were there so many times as many."""
    more = grown(problem, growth)
    of = score(more)
    units = [replace(unit, members=tuple(replace(one, rate_rps=one.rate_rps * growth) for one in unit.members)) for unit in placement.units]
    return sum(map(of, units)) / sum(one.rate_rps for one in more.demands)


@settings(deadline=None, max_examples=40)
@given(problems())
def test_rates_may_grow_as_told_and_nothing_less_is_served(problem):
    try:
        plain = place(problem, *solver(problem), QUICK)
    except ConfigError:
        return
    found = place_with_headroom(problem, solver, QUICK)

    assert found.worth == plain.worth
    assert sum(map(score(problem), found.placement.units)) == pytest.approx(plain.worth)
    assert found.growth == 1 or share_served(problem, found.placement, found.growth) == pytest.approx(1)


def test_models_that_fit_on_one_device_get_both():
    cluster = Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2)
    problem = Problem(demands=tuple(demand(name, 300, 2.0, kv_heads=1) for name in "ab"), cluster=cluster, memory_frac=1.0)
    plain, found = place(problem, *solver(problem)), place_with_headroom(problem, solver)

    assert share_served(problem, plain.placement, found.growth) < 0.99 < share_served(problem, found.placement, found.growth)
    assert plain.growth == 1 < found.growth


def test_growth_that_devices_cannot_serve_is_never_tried():
    """A device serves no more of one LLM than what it serves of it alone, whose rate here is over half of that."""
    cluster = Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=1)
    problem = Problem(demands=(demand("a", 500, 1.0),), cluster=cluster)
    _, candidates = solver(grown(problem, 1e6))
    most_rps = candidates.of("a")[0].throughput_rps
    asked: list[float] = []

    def search_space(problem: Problem):
        asked.append(problem.demands[0].rate_rps / most_rps)
        return solver(problem)

    found = place_with_headroom(grown(problem, 0.6 * most_rps), search_space)

    assert found.growth == pytest.approx(2**0.5)
    assert asked == pytest.approx([0.6, 1e9 / most_rps, 0.6 * 2**0.5])  # the rate, one without end, and one step in place of two


@settings(deadline=None, max_examples=40)
@given(problems())
def test_no_growth_is_tried_twice(problem):
    asked: list[float] = []

    def search_space(more: Problem):
        asked.append(round(more.demands[0].rate_rps / problem.demands[0].rate_rps, 6))
        return solver(more)

    try:
        place_with_headroom(problem, search_space, QUICK)
    except ConfigError:
        return
    assert len(asked) == len(set(asked))


def test_who_serves_not_all_has_no_headroom():
    cluster = Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=1)
    problem = Problem(demands=(demand("a", 500, 100.0),), cluster=cluster)

    assert place_with_headroom(problem, solver).growth == 1
