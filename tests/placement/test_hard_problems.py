"""Problems that are far too much for the cluster, or of many devices, end after a bounded number of estimates, with a placement."""

from dataclasses import replace

import pytest

from muxjax.cost.chip import A100
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.check import violations
from muxjax.placement.explain import LOOKED_AT, reasons
from muxjax.placement.greedy import ESTIMATES_EACH, Effort, place
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.problem import Cluster, Demand, Placed, Placement, Problem, UnitPlan
from muxjax.placement.search_space import search_space
from muxjax.specs.published import BY_NAME
from tests.placement.toy import CHIP, demand, solver

SHAPES = ("llama-7b", "llama-7b", "llama-13b", "llama-7b", "llama-30b", "llama-7b")


def real(models: int, nodes: int, rps_per_device: float) -> Problem:
    """A few popular models and many that are not."""
    weights = [1 / (1 + i) for i in range(models)]
    rates = [weight / sum(weights) * rps_per_device * nodes * 8 for weight in weights]
    demands = tuple(
        Demand(name=f"m{i:02}", spec=BY_NAME[SHAPES[i % len(SHAPES)]], rate_rps=rate, prompt_tokens=200, output_tokens=300)
        for i, rate in enumerate(rates)
    )
    return Problem(demands=demands, cluster=Cluster.uniform(chip=A100, nodes=nodes, devices_per_node=8))


@pytest.mark.parametrize(
    ("models", "nodes", "rps_per_device", "most"),
    [(8, 16, 600.0, 10_000), (8, 64, 60.0, 10_000), (24, 64, 60.0, 25_000), (8, 4096, 600.0, 10_000), (24, 128, 0.6, 5_000)],
)
def test_far_too_much_demand_and_many_nodes_take_few_estimates(models, nodes, rps_per_device, most):
    problem = real(models, nodes, rps_per_device)
    spent = []
    found = place_with_headroom(problem, lambda asked: search_space(asked, Roofline()), go_on=lambda units, _: spent.append(units) or True)

    assert found.complete and sum(spent) < most
    assert violations(problem, found.placement) == []


def test_more_demand_is_never_served_worse():
    """A crowd of replicas in every unit would be: each holds memory, and waits for the others."""
    served = [
        place(asked, *search_space(asked, Roofline())).worth
        for asked in (replace(real(8, 32, rps), objective="throughput") for rps in (6.0, 60.0, 600.0))
    ]

    assert served[0] <= served[1] * 1.01 and served[1] <= served[2] * 1.01


def test_a_small_cluster_with_many_models_ends_at_its_limit_with_what_was_found():
    """Every group of meshes is searched there: without a limit, some ten thousand units for eight models."""
    demands = tuple(demand(f"m{i}", 60 + 40 * i, 200.0 / (1 + i)) for i in range(9))
    problem = Problem(demands=demands, cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=8), memory_frac=1.0)
    least, most = (place(problem, *solver(problem), Effort(estimates=most)) for most in (100, 10_000))
    each = ESTIMATES_EACH * len(demands)

    assert not least.complete and least.units <= 100 + each + 50 < most.units <= 10_000 + each + 50  # an insertion ends
    assert 0 < least.worth <= most.worth


def test_weights_that_no_cluster_of_that_size_holds_are_refused_without_a_look():
    problem = replace(real(24, 1, 1.0), cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=4))
    objective, candidates = search_space(problem, Roofline())
    with pytest.raises(ConfigError, match=r"no way was found to place all models: their weights need \d+ bytes, 288000000000 bytes"):
        place(problem, objective, candidates)

    assert objective.estimates == 0


def test_a_search_that_may_not_go_on_has_the_best_until_then_or_fails_in_a_line():
    problem = real(8, 4, 10.0)
    best: list[float] = []

    def until_a_placement(units: int, worth: float) -> bool:
        best.append(worth)
        return not worth

    found = place(problem, *search_space(problem, Roofline()), go_on=until_a_placement)
    assert not found.complete and found.worth / 8 == pytest.approx(best[-1]) and best[-1] > 0  # of eight models
    assert violations(problem, found.placement) == []
    with pytest.raises(ConfigError, match=r"no way was found to place all models in \d+ units that were tried"):
        place(problem, *search_space(problem, Roofline()), go_on=lambda *_: False)


def test_a_cluster_of_more_devices_than_can_be_searched_is_refused_with_the_limit():
    Cluster.uniform(chip=CHIP, nodes=4096, devices_per_node=8)
    with pytest.raises(ConfigError, match=r"cluster\.nodes must be at most 3640, for 32768 devices in all: a node has 9, got 4096"):
        Cluster.uniform(chip=CHIP, nodes=4096, devices_per_node=9)


def test_reasons_of_many_units_look_at_few_others_and_equal_ones_are_told_once():
    asked: list[UnitPlan] = []

    def score(unit: UnitPlan) -> float:
        asked.append(unit)
        return 0.1 * len(unit.members)

    units = [UnitPlan(devices=1, members=(Placed(model=f"m{i % 100}", rate_rps=1.0, devices=(0,)),)) for i in range(400)]
    told = list(reasons(Placement(units=tuple(units)), score))

    assert [reason.unit for reason in told] == list(range(100))
    assert len(asked) <= 100 * (LOOKED_AT + 1)
