"""Objectives: what is worth how much, and who is served under each where not all can be."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import A100, H200
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.cluster import Mesh
from muxjax.placement.estimate.estimator import Estimator, ModelEstimate
from muxjax.placement.goals import GOALS, MISSED, in_time
from muxjax.placement.greedy import place
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.objective import Member, UnitContents
from muxjax.placement.problem import Cluster, Demand, Placement, Problem
from muxjax.placement.search_space import score, search_space
from muxjax.placement.trim import fewest_devices
from muxjax.specs.published import BY_NAME
from tests.placement.exhaustive import best_of_all


def asked(name: str, shape: str, rate_rps: float, **more) -> Demand:
    return Demand(name=name, spec=BY_NAME[shape], rate_rps=rate_rps, prompt_tokens=200, output_tokens=300, **more)


def problem(*demands: Demand, devices: int, chip=A100, **more) -> Problem:
    return Problem(demands=demands, cluster=Cluster.uniform(chip=chip, nodes=1, devices_per_node=devices), **more)


def replicas(problem: Problem, placement: Placement, model: str) -> list[ModelEstimate]:
    estimates = map(Estimator(problem, Roofline()).estimate, placement.units)
    return [estimate.models[model] for estimate in estimates if model in estimate.models]


def shares(problem: Problem, placement: Placement) -> dict[str, float]:
    """Of each LLM's rate, that is served."""
    return {one.name: sum(each.throughput_rps for each in replicas(problem, placement, one.name)) / one.rate_rps for one in problem.demands}


def placed(problem: Problem) -> Placement:
    return place(problem, *search_space(problem, Roofline())).placement


CROWDED = problem(asked("popular", "llama-7b", 80.0), asked("large", "llama-65b", 2.0), devices=8)
"""More than eight devices serve: two of them serve thirteen times as many requests of the small LLM as of the large one."""


@given(st.sampled_from(sorted(GOALS)), st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 1))
def test_more_is_worth_more_from_nothing_to_all(name, rate_rps, one, other):
    goal = GOALS[name]

    assert goal(rate_rps, 0.0) == 0
    assert goal(rate_rps, 1.0) == pytest.approx(rate_rps if name == "throughput" else 1.0)
    assert (goal(rate_rps, one) <= goal(rate_rps, other)) == (one <= other) or one == pytest.approx(other, abs=1e-9)


@given(st.floats(0.001, 10), st.floats(0.001, 10), st.floats(0.001, 10), st.floats(0.001, 10))
def test_a_target_is_kept_or_next_to_nothing_is_worth_anything(ttft_s, tpot_s, most_ttft_s, most_tpot_s):
    worth = in_time(ttft_s, tpot_s, most_ttft_s, most_tpot_s)

    assert worth == 1 if ttft_s <= most_ttft_s and tpot_s <= most_tpot_s else worth <= MISSED
    assert in_time(ttft_s, tpot_s, None, None) == 1
    assert MISSED / 2 == in_time(float("inf"), tpot_s, most_ttft_s, None) <= in_time(2 * ttft_s, tpot_s, most_ttft_s, most_tpot_s) <= worth


def test_the_sum_starves_a_large_model_and_the_default_does_not():
    by_sum, by_default = placed(replace(CROWDED, objective="throughput")), placed(CROWDED)

    assert shares(CROWDED, by_sum)["large"] < 0.3
    assert shares(CROWDED, by_default)["large"] > 0.99 and shares(CROWDED, by_default)["popular"] > 0.6


@pytest.mark.parametrize("devices", [2, 3, 4])
def test_max_min_is_near_the_most_that_the_least_served_can_get(devices):
    """Of all placements of one replica each."""
    demands = (asked("a", "llama-7b", 30.0), asked("b", "llama-13b", 6.0), asked("c", "llama-30b", 3.0))
    crowded = problem(*demands, devices=devices, objective="max-min")
    objective, candidates = search_space(crowded, Roofline())

    def least(placement: Placement) -> float:
        return min(shares(crowded, placement).values())

    alone = [best_of_all(replace(crowded, objective=goal), *search_space(replace(crowded, objective=goal), Roofline())) for goal in GOALS]
    best = max(least(objective.placement(state)) for state in alone if state)

    assert least(place(crowded, objective, candidates).placement) >= 0.95 * best


def test_a_weight_says_who_gets_the_device_that_is_left():
    demands = (asked("a", "llama-7b", 50.0), asked("b", "llama-7b", 50.0))
    for heavier in range(2):
        weighted = [replace(one, weight=5.0) if i == heavier else one for i, one in enumerate(demands)]
        served = shares(crowded := problem(*weighted, devices=3), placed(crowded))

        assert served["ab"[heavier]] > 1.5 * served["ab"[1 - heavier]]


def test_a_target_takes_the_degree_that_keeps_it():
    """One device would serve the rate, and two do in time."""
    free = problem(asked("a", "llama-30b", 0.5), devices=4, chip=H200)
    alone = {one.tp: one for one in search_space(free, Roofline())[1].of("a")}
    tpot_s = {tp: replicas(free, placement_of(free, tp), "a")[0].tpot_s for tp in alone}
    most_s = (tpot_s[1] + tpot_s[2]) / 2
    bound = replace(free, demands=(asked("a", "llama-30b", 0.5, tpot_s=most_s),))
    objective, candidates = search_space(bound, Roofline())

    assert alone[1].meets_rate and not candidates.of("a")[0].meets_rate and candidates.of("a")[1].meets_rate
    assert all(one.tpot_s <= most_s for one in replicas(bound, place(bound, objective, candidates).placement, "a"))


def placement_of(problem: Problem, tp: int) -> Placement:
    """The one LLM, on a mesh of that degree."""
    (demand,) = problem.demands
    return search_space(problem, Roofline())[0].placement([UnitContents(Mesh(tp), (Member(demand.name, 1, tp),))])


def test_what_is_late_counts_little_for_the_objective():
    late = problem(asked("a", "llama-7b", 1.0, tpot_s=1e-6), devices=1)
    (unit,) = placed(late).units

    assert 0 < score(late, Roofline())(unit) < score(replace(late, demands=(asked("a", "llama-7b", 1.0),)), Roofline())(unit) == 1


def test_the_fewest_devices_serve_all_and_one_less_does_not():
    demands = (asked("a", "llama-7b", 25.0), asked("b", "llama-13b", 3.0), asked("c", "llama-7b", 1.0))
    whole = problem(*demands, devices=8, objective="fewest-devices")
    space = partial(search_space, costs=Roofline())
    found = fewest_devices(whole, space)
    devices = sum(unit.devices for unit in found.placement.units)
    fewer = replace(whole, cluster=Cluster((replace(whole.cluster.pools[0], usable=devices - 1),)))

    assert devices < sum(unit.devices for unit in place_with_headroom(whole, space).placement.units)
    assert min(shares(whole, found.placement).values()) == pytest.approx(1)
    assert not search_space(fewer, Roofline())[0].serves_all(place(fewer, *search_space(fewer, Roofline())).worth)


def test_what_the_whole_cluster_cannot_serve_is_placed_on_all_of_it():
    found = fewest_devices(replace(CROWDED, objective="fewest-devices"), partial(search_space, costs=Roofline()))

    assert sum(unit.devices for unit in found.placement.units) == 8


@pytest.mark.parametrize("wrong", [{"objective": "most"}, {"objective": ""}])
def test_an_unknown_objective_is_told_with_the_known_ones(wrong):
    with pytest.raises(ConfigError, match="objective must be one of balanced, throughput, max-min, fewest-devices"):
        replace(CROWDED, **wrong)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), 1e9])
def test_a_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ConfigError, match=r"models\.a\.weight must be over 0, to 1000"):
        asked("a", "llama-7b", 1.0, weight=weight)
