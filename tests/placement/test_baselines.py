"""What the placer is held against does what its name says."""

import pytest
from hypothesis import given, settings

from muxjax.errors import ConfigError
from muxjax.placement.problem import Cluster, Placement, Problem
from muxjax.placement.references.baselines import memory_greedy, spatial_aware, spatial_blind
from tests.placement.toy import CHIP, demand, problems, score, solver

CLUSTER = Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=8)


def meshes(placement: Placement) -> dict[str, int]:
    assert all(len(unit.members) == 1 for unit in placement.units)
    return {unit.members[0].model: unit.devices for unit in placement.units}


def test_blind_partitioning_gives_equal_models_equal_meshes_whatever_their_rates():
    problem = Problem(demands=(demand("busy", 500, 60.0), demand("idle", 500, 0.1)), cluster=CLUSTER)

    assert meshes(spatial_blind(problem, *solver(problem))) == {"busy": 4, "idle": 4}


def test_aware_partitioning_gives_the_popular_model_more():
    problem = Problem(demands=(demand("busy", 500, 60.0), demand("idle", 500, 0.1), demand("quiet", 500, 0.1)), cluster=CLUSTER)

    assert meshes(spatial_aware(problem, *solver(problem))) == {"busy": 4, "idle": 1, "quiet": 1}


@settings(deadline=None, max_examples=50)
@given(problems())
def test_awareness_never_serves_less_than_what_weights_need(problem):
    objective, candidates = solver(problem)
    try:
        aware = spatial_aware(problem, objective, candidates)
    except ConfigError:
        return
    least = sum(min(one.rate_rps, found.throughput_rps) for one in problem.demands for found in candidates.of(one.name)[:1])

    assert sum(map(score(problem), aware.units)) >= least * (1 - 1e-9)


def test_the_memory_greedy_one_spreads_weights_and_ignores_rates():
    demands = (demand("a", 900, 1.0, kv_heads=1), demand("b", 500, 1.0, kv_heads=1), demand("c", 300, 1.0, kv_heads=1))
    problem = Problem(demands=demands, cluster=Cluster.uniform(chip=CHIP, nodes=2, devices_per_node=1))
    units = memory_greedy(problem, *solver(problem)).units

    assert sorted(sorted(member.model for member in unit.members) for unit in units) == [["a"], ["b", "c"]]


def test_too_many_models_for_a_mesh_each_are_told():
    problem = Problem(
        demands=tuple(demand(name, 100, 1.0) for name in "abc"), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2)
    )

    for spatial in (spatial_blind, spatial_aware):
        with pytest.raises(ConfigError, match="needs 3 devices in nodes of 2, and there are 2"):
            spatial(problem, *solver(problem))


def test_what_fits_nowhere_is_told():
    problem = Problem(
        demands=tuple(demand(name, 700, 1.0) for name in "ab"), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=1)
    )

    with pytest.raises(ConfigError, match="do not fit"):
        memory_greedy(problem, *solver(problem))
