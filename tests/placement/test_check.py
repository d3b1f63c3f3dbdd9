"""Every limit of a placement has a placement that breaks it alone, and is reported."""

from dataclasses import replace

import pytest

from muxjax.cost.chip import A100
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.check import violations
from muxjax.placement.estimate.estimator import estimate
from muxjax.placement.problem import Cluster, Demand, Placed, Placement, Problem, UnitPlan
from muxjax.specs.published import BY_NAME

PROBLEM = Problem(
    demands=(
        Demand(name="small", spec=BY_NAME["llama-7b"], rate_rps=4.0, prompt_tokens=200, output_tokens=300),
        Demand(name="large", spec=BY_NAME["llama-30b"], rate_rps=1.0, prompt_tokens=200, output_tokens=300),
    ),
    cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=4),
)
SMALL = Placed(model="small", rate_rps=2.0, devices=(0,))
LARGE = Placed(model="large", rate_rps=1.0, devices=(0, 1))
GOOD = (UnitPlan(devices=2, members=(SMALL, LARGE)), UnitPlan(devices=1, members=(SMALL,)))


def broken(*units: UnitPlan, problem: Problem = PROBLEM) -> list[str]:
    return violations(problem, Placement(units=units))


def shared(*members: Placed) -> tuple[UnitPlan, ...]:
    """The good placement with those in its first unit."""
    return replace(GOOD[0], members=members), GOOD[1]


def test_a_placement_that_keeps_all_limits_has_no_violations():
    assert broken(*GOOD) == []


@pytest.mark.parametrize(
    "units, message",
    [
        (shared(SMALL), "large is in no unit"),
        (shared(replace(SMALL, rate_rps=1.9), LARGE), "serve 3.9 requests/s, its demand is 4"),
        ((replace(GOOD[0], devices=5), GOOD[1]), "a mesh of 5 devices does not lie in a node of 4, whose meshes have [4, 2, 1] devices"),
        ((replace(GOOD[0], devices=4), GOOD[1]), "meshes of [4, 1] devices do not lie side by side in 1 nodes of 4"),
        (shared(SMALL, replace(SMALL, model="other"), LARGE), "other is none of the problem's models"),
        (shared(SMALL, replace(LARGE, devices=(1, 2))), "on devices [1, 2], which must be different ones of 0 to 1"),
        (shared(SMALL, replace(LARGE, devices=(1, 1))), "on devices [1, 1]"),
        (shared(replace(SMALL, sm_share=0.0), LARGE), "an SM share of 0"),
        ((replace(GOOD[0], first_device=0), replace(GOOD[1], first_device=1)), "device 1 is in two meshes"),
        ((replace(GOOD[0], first_device=3), GOOD[1]), "a mesh of devices 3 to 4 lies in none of 1 nodes of 4 devices"),
        ((replace(GOOD[0], first_device=-1), GOOD[1]), "a mesh of devices -1 to 0 lies in none of 1 nodes of 4 devices"),
        (shared(replace(SMALL, rate_rps=1.0), replace(SMALL, rate_rps=1.0, devices=(1,)), LARGE), "small is there 2 times"),
    ],
)
def test_a_broken_limit_is_reported_alone(units, message):
    found = broken(*units)

    assert len(found) == 1 and message in found[0]


def test_a_degree_that_does_not_divide_kv_heads_is_reported():
    wide = Cluster.uniform(chip=A100, nodes=1, devices_per_node=8)

    found = broken(
        UnitPlan(devices=8, members=(replace(LARGE, devices=tuple(range(8))), replace(SMALL, rate_rps=4.0))),
        problem=replace(PROBLEM, cluster=wide),
    )

    assert found == ["unit 0: large: tensor_parallel_size must be a divisor of num_key_value_heads=52, got 8"]


def test_a_degree_that_does_not_divide_the_ffn_is_reported_in_the_words_of_serve():
    odd = replace(PROBLEM.demands[0], spec=replace(PROBLEM.demands[0].spec, ffn=11010))
    problem = replace(PROBLEM, demands=(odd,))
    unit = UnitPlan(devices=4, members=(replace(SMALL, rate_rps=4.0, devices=(0, 1, 2, 3)),))
    words = "tensor_parallel_size must be a divisor of intermediate_size=11010, got 4"

    assert broken(unit, problem=problem) == [f"unit 0: small: {words}"]
    with pytest.raises(ConfigError, match=words):
        estimate(problem, Roofline(), unit)


def test_a_degree_that_is_no_power_of_two_is_reported():
    spec = replace(BY_NAME["llama-7b"], heads=33, kv_heads=33, ffn=33 * 256)
    problem = replace(PROBLEM, demands=(replace(PROBLEM.demands[0], spec=spec),))

    found = broken(UnitPlan(devices=4, members=(replace(SMALL, rate_rps=4.0, devices=(0, 1, 2)),)), problem=problem)

    assert found == ["unit 0: tensor parallelism 3 of small is no power of two"]


def test_memory_is_reported_to_the_byte():
    need_bytes = 65_000_000_000 + 2**20
    alone = UnitPlan(devices=1, members=(replace(LARGE, devices=(0,)),)), UnitPlan(devices=1, members=(replace(SMALL, rate_rps=4.0),))
    chip = replace(A100, memory_bytes=need_bytes)
    problem = replace(PROBLEM, cluster=Cluster.uniform(chip=chip, nodes=1, devices_per_node=4), memory_frac=1.0)
    over = broken(*alone, problem=problem)
    excess = int(over[0].split(", ")[1].split(" more")[0])
    fits = replace(chip, memory_bytes=need_bytes + excess)

    assert len(over) == 1 and "of device 0" in over[0]
    assert broken(*alone, problem=replace(problem, cluster=Cluster.uniform(chip=fits, nodes=1, devices_per_node=4))) == []
    near = replace(fits, memory_bytes=fits.memory_bytes - 1)
    assert ", 1 more than" in broken(*alone, problem=replace(problem, cluster=Cluster.uniform(chip=near, nodes=1, devices_per_node=4)))[0]


def test_unfairness_over_the_bound_is_reported():
    crowd = replace(PROBLEM, demands=(replace(PROBLEM.demands[0], rate_rps=400.0), PROBLEM.demands[1]), max_batch=8)
    unit = UnitPlan(devices=2, members=(replace(SMALL, rate_rps=400.0), LARGE))

    assert broken(unit, problem=crowd) == []
    assert "the bound is 0.01" in broken(unit, problem=replace(crowd, fairness=0.01))[0]
