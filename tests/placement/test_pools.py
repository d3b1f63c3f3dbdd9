"""Clusters of several kinds of nodes: what is placed where, and for how much."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings

from muxjax.cost.chip import A100, H200
from muxjax.cost.measured import costs_of
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.check import violations
from muxjax.placement.cluster import Mesh
from muxjax.placement.greedy import place
from muxjax.placement.objective import Objective
from muxjax.placement.plan_file import of_json
from muxjax.placement.problem import Cluster, Demand, Placement, Pool, Problem
from muxjax.placement.report import price
from muxjax.placement.search_space import search_space
from muxjax.placement.trim import least_cost
from muxjax.specs.published import BY_NAME
from tests.placement.exhaustive import best_of_all
from tests.placement.toy import problems, solver


def pool(chip=A100, nodes: int = 1, devices: int = 2, **more) -> Pool:
    return Pool(chip=chip, nodes=nodes, devices_per_node=devices, **more)


def asked(name: str, shape: str, rate_rps: float, **more) -> Demand:
    return Demand(name=name, spec=BY_NAME[shape], rate_rps=rate_rps, prompt_tokens=160, output_tokens=300, **more)


def searched(problem: Problem) -> Placement:
    return place(problem, *search_space(problem, Roofline())).placement


@settings(deadline=None, max_examples=40)
@given(problems(most_models=3, nodes=(1, 1), devices=(1, 2), small=(1, 2)))
def test_the_search_finds_what_the_best_of_all_placements_serves(problem):
    objective, candidates = solver(problem)
    best = best_of_all(problem, objective, candidates)
    try:
        found = place(problem, objective, candidates)
    except ConfigError:
        assert best is None
        return

    assert best is not None and found.worth >= 0.97 * objective.total(best)


def test_what_fits_on_one_kind_of_device_only_is_there():
    """The 65B's weights fit on four A100s, of which a node has two, and not on one H200 but on two."""
    problem = Problem(demands=(asked("large", "llama-65b", 0.2), asked("small", "llama-7b", 0.2)), cluster=Cluster((pool(), pool(H200))))
    placement = searched(problem)

    assert violations(problem, placement) == [] and placement.chips == ("A100-80GB", "H200")
    (large,) = [unit for unit in placement.units if "large" in [placed.model for placed in unit.members]]
    assert (large.pool, large.devices, placement.chip(large), large.first_device) == (1, 2, "H200", 2)


def test_a_target_that_one_chip_keeps_leads_there():
    """A decode of a 13B on an A100 takes some 20 ms."""
    fast = asked("fast", "llama-13b", 0.5, tpot_s=0.012)
    problem = Problem(demands=(fast,), cluster=Cluster((pool(devices=1), pool(H200, devices=1))))

    assert [unit.pool for unit in searched(problem).units] == [1]


def test_a_placement_of_other_kinds_of_nodes_is_reported():
    one = (asked("a", "llama-7b", 0.2),)
    placement = searched(Problem(demands=one, cluster=Cluster((pool(H200, devices=1),))))
    problem = Problem(demands=one, cluster=Cluster((pool(devices=1), pool(H200, devices=1))))

    assert violations(problem, placement) == ["pool 0 of the placement is of H200, that of the cluster of A100-80GB"]
    assert violations(problem, replace(placement, chips=())) == []


@pytest.mark.parametrize("pool, chips, most", [(-1, ["H200"], 0), (-5, ["H200"], 0), (1, ["H200"], 0), (-1, [], 7), (8, [], 7)])
def test_units_in_pools_that_a_file_does_not_name_are_refused(pool, chips, most):
    written = {"muxjax_placement": 1, "chips": chips, "units": [{"devices": 1, "members": [], "pool": pool}]}
    with pytest.raises(ConfigError, match=rf"units\.0\.pool must be 0 to {most}\D.*, got {pool}"):
        of_json(written, "file")


def test_units_in_pools_that_there_are_not_are_reported():
    problem = Problem(demands=(asked("a", "llama-7b", 0.2),), cluster=Cluster((pool(), pool(H200))))
    placement = searched(problem)
    (unit,) = placement.units
    elsewhere = replace(placement, units=(replace(unit, pool=2),))
    other = replace(placement, units=(replace(unit, pool=1 - unit.pool),))

    assert violations(problem, elsewhere) == ["unit 0 lies in pool 2 of the cluster, which has 2, counted from 0"]
    assert "lies in none of 1 nodes of 2 devices" in violations(problem, other)[0]


@pytest.mark.parametrize("prices", [(1.0, 3.5), (1.0, 1.5), (1.0, 1.0)])
def test_the_least_cost_is_that_of_the_cheapest_devices_that_serve_all(prices):
    demands = (asked("a", "llama-7b", 14.0), asked("b", "llama-13b", 3.0), asked("c", "llama-7b", 1.0))
    pools = (pool(devices=4, price=prices[0]), pool(H200, price=prices[1]))
    problem = Problem(demands=demands, cluster=Cluster(pools), objective="least-cost")
    found = least_cost(problem, partial(search_space, costs=Roofline()))
    every = itertools.product(range(5), range(3))
    enough = [counts for counts in every if any(counts) and serves_all(problem, counts)]

    assert violations(problem, found.placement) == []
    assert price(problem.cluster, found.placement) == pytest.approx(min(counts[0] * prices[0] + counts[1] * prices[1] for counts in enough))


def serves_all(problem: Problem, counts: tuple[int, ...]) -> bool:
    """Whether a whole search finds a placement that does on so many devices."""
    pools = tuple(replace(own, usable=count) for own, count in zip(problem.cluster.pools, counts, strict=True))
    fewer = replace(problem, cluster=Cluster(pools))
    try:
        objective, candidates = search_space(fewer, Roofline())
        return objective.serves_all(place(fewer, objective, candidates).worth)
    except ConfigError:
        return False


def test_each_chip_costs_what_was_measured_of_it():
    spec, both = BY_NAME["llama-3.1-8b"], costs_of([A100, H200])
    for chip in (A100, H200):
        mesh = Problem(demands=(asked("a", "llama-3.1-8b", 1.0),), cluster=Cluster((pool(chip),)))
        own = mesh.mesh(mesh.demands[0])
        assert both.decode_s(spec, own, 8, 4000) == costs_of([chip]).decode_s(spec, own, 8, 4000)


def test_load_counts_the_speed_of_devices():
    problem = Problem(demands=(asked("a", "llama-7b", 1.0),), cluster=Cluster((pool(), pool(H200))))
    objective = Objective(problem, lambda unit: 0.0)
    slow, fast = (Mesh(2, at) for at in (0, 1))

    assert objective.speed(fast) == 2 and objective.speed(slow) == pytest.approx(2 * A100.flops_per_s / H200.flops_per_s)
