"""The placer's laws, over a formula in place of a cost model and over the estimator."""

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from muxjax.cost.chip import A100
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.experts import Experts
from muxjax.placement.candidates import SM_SHARES, Candidates, decode_speed
from muxjax.placement.check import violations
from muxjax.placement.cluster import Mesh
from muxjax.placement.greedy import Effort, PlacementResult, place, replicas
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents
from muxjax.placement.problem import Cluster, Demand, Problem
from muxjax.placement.search_space import search_space
from muxjax.specs.published import BY_NAME
from tests.placement.exhaustive import best_of_all
from tests.placement.toy import CHIP, alone, demand, problems, score, solver

QUICK = Effort(parts=2)
COARSE = replace(QUICK, groups=0)
ROUNDING = 1e-9


def placed(problem: Problem, effort: Effort = QUICK) -> PlacementResult | None:
    """None where the LLMs do not fit."""
    try:
        return place(problem, *solver(problem), effort)
    except ConfigError:
        return None


def faults(problem: Problem, found: PlacementResult) -> list[str]:
    """What a placement must hold, whatever places: every rate served in parts, no LLM twice in a unit, meshes that exist."""
    units = found.placement.units
    parts = {one.name: [m for unit in units for m in unit.members if m.model == one.name] for one in problem.demands}
    wrong = [name for name, members in parts.items() if sum(m.rate_rps for m in members) != pytest.approx(problem.demand(name).rate_rps)]
    wrong += [f"{unit} holds one twice" for unit in units if len({m.model for m in unit.members}) < len(unit.members)]
    wrong += [f"{m} is not on the mesh" for unit in units for m in unit.members if not {*m.devices} <= {*range(unit.devices)}]
    specs = {one.name: one.spec for one in problem.demands}
    members = [member for unit in units for member in unit.members]
    wrong += [f"{m} does not divide" for m in members if specs[m.model].kv_heads % m.tp or specs[m.model].ffn % m.tp]
    wrong += ["too many devices"] * (sum(unit.devices for unit in units) > problem.cluster.devices)
    return wrong


@settings(deadline=None)
@given(problems())
def test_every_placement_keeps_what_a_placement_must(problem):
    found = placed(problem)

    assert found is None or faults(problem, found) == []
    assert found is None or found.worth == pytest.approx(sum(map(score(problem), found.placement.units)))


def test_a_lost_replica_is_a_fault():
    problem = Problem(demands=(demand("a", 500, 30.0, kv_heads=1),), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=4))
    found = placed(problem)
    assert found and len(found.placement.units) > 1

    assert faults(problem, replace(found, placement=replace(found.placement, units=found.placement.units[1:]))) == ["a"]


@settings(deadline=None, max_examples=60)
@given(problems(devices=(1, 3)), st.booleans())
def test_a_further_device_or_node_never_lowers_what_is_served(problem, node):
    cluster = problem.cluster
    (pool,) = cluster.pools
    more = Cluster((replace(pool, nodes=pool.nodes + 1) if node else replace(pool, devices_per_node=pool.devices_per_node + 1),))
    assume(more.devices <= 8)
    before, after = placed(problem), placed(replace(problem, cluster=more))

    assert before is None or (after is not None and after.worth >= before.worth * (1 - ROUNDING))


@settings(deadline=None, max_examples=60)
@given(problems(), st.randoms(use_true_random=False), st.sampled_from((QUICK, COARSE)))
def test_a_permutation_of_the_models_changes_nothing(problem, rng: random.Random, effort):
    shuffled = list(problem.demands)
    rng.shuffle(shuffled)
    one, other = placed(problem, effort), placed(replace(problem, demands=tuple(shuffled)), effort)

    assert (one and one.placement) == (other and other.placement)


@settings(deadline=None, max_examples=30)
@given(problems(most_models=3, nodes=(1, 1)), st.sampled_from((QUICK, COARSE)))
def test_no_placement_is_better_than_the_best_of_all(problem, effort):
    objective, candidates = solver(problem)
    best = best_of_all(problem, objective, candidates, most_parts=2)
    found = placed(problem, effort)

    assert found is None or (best is not None and found.worth <= objective.total(best) * (1 + ROUNDING))


def test_a_popular_model_gets_as_many_units_as_its_rate_needs():
    problem = Problem(demands=(demand("a", 500, 30.0),), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=4))
    objective, candidates = solver(problem)

    assert replicas("a", {Mesh(1): 4}, objective, candidates) == 4
    assert replicas("a", {Mesh(4): 1}, objective, candidates) == 1
    assert replicas("a", {Mesh(1): 2}, objective, candidates) == 2
    assert place(problem, objective, candidates, QUICK).worth == pytest.approx(30.0)


def test_replicas_are_as_many_as_a_rate_needs_without_a_limit():
    problem = Problem(demands=(demand("a", 500, 120.0, kv_heads=1),), cluster=Cluster.uniform(chip=CHIP, nodes=2, devices_per_node=8))
    few, many = placed(problem, Effort(parts=8)), placed(problem, Effort())

    assert few and len(few.placement.units) == 8 and few.worth < 120
    assert many and len(many.placement.units) > 8 and many.worth == pytest.approx(120.0)


def test_a_fairness_bound_is_kept_and_costs_what_it_must():
    demands = (
        Demand(name="busy", spec=BY_NAME["llama-7b"], rate_rps=60.0, prompt_tokens=200, output_tokens=300),
        Demand(name="calm", spec=BY_NAME["llama-13b"], rate_rps=1.0, prompt_tokens=200, output_tokens=300),
    )
    free = Problem(demands=demands, cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=1))
    bound = replace(free, fairness=0.05)
    placement = place(free, *search_space(free, Roofline())).placement

    assert any("the bound is 0.05" in broken for broken in violations(bound, placement))
    with pytest.raises(ConfigError, match=r"fairness=0\.05"):
        place(bound, *search_space(bound, Roofline()))


def test_a_model_needs_no_more_devices_than_the_mesh_it_shares():
    heads = Problem(
        demands=(demand("wide", 900, 1.0, kv_heads=8), demand("narrow", 100, 1.0, kv_heads=1)),
        cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2),
    )
    objective, _ = solver(heads)
    unit = objective.plan(UnitContents(Mesh(2), (Member("narrow", 1, 1), Member("wide", 1, 2))))

    assert {member.model: member.tp for member in unit.members} == {"wide": 2, "narrow": 1}
    assert objective.of(UnitContents(Mesh(2), (Member("narrow", 1, 1), Member("wide", 1, 2)))) == pytest.approx(2.0)


def test_units_are_laid_out_on_the_devices_with_the_most_room():
    problem = Problem(
        demands=tuple(demand(name, size, 1.0) for name, size in (("a", 600), ("b", 300), ("c", 200))),
        cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2),
    )
    unit = solver(problem)[0].plan(UnitContents(Mesh(2), tuple(Member(name, 1, 1) for name in "abc")))

    assert {member.model: member.devices for member in unit.members} == {"a": (0,), "b": (1,), "c": (1,)}


def test_a_unit_that_cannot_be_is_never_chosen():
    problem = Problem(
        demands=(demand("a", 100, 5.0), demand("b", 100, 5.0)),
        cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2),
        fairness=0.1,
    )
    unfair = score(problem)
    _, candidates = solver(problem)
    objective = Objective(problem, lambda unit: NO_UNIT if len(unit.members) > 1 else unfair(unit), candidates.sm_share)

    assert all(len(unit.members) == 1 for unit in place(problem, objective, candidates).placement.units)


@pytest.mark.parametrize(("ffn", "degrees"), [(14336, [1, 2, 4, 8]), (14340, [1, 2, 4])])
def test_degrees_that_do_not_divide_the_ffn_are_never_proposed(ffn, degrees):
    """A rate that takes every device, so that the largest degree would be chosen if it could."""
    spec = replace(BY_NAME["llama-3.1-8b"], ffn=ffn)
    problem = Problem(
        demands=(Demand(name="a", spec=spec, rate_rps=1e4, prompt_tokens=200, output_tokens=300),),
        cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=8),
    )
    objective, candidates = search_space(problem, Roofline())
    placement = place(problem, objective, candidates).placement

    assert [candidate.tp for candidate in candidates.of("a")] == degrees
    assert {member.tp for unit in placement.units for member in unit.members} <= {*degrees}
    assert violations(problem, placement) == []


def test_what_does_not_fit_is_told_with_bytes():
    cluster = Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=1)
    with pytest.raises(
        ConfigError, match=r"models\.big fits no mesh: .* 8 kv heads, .* need over 24\d{5} bytes a device, and 2000000 bytes"
    ):
        solver(Problem(demands=(demand("big", 1200, 1.0),), cluster=cluster, memory_frac=1.0))
    problem = Problem(demands=(demand("a", 700, 1.0), demand("b", 700, 1.0)), cluster=cluster, memory_frac=1.0)
    with pytest.raises(ConfigError, match=r"their weights need 28\d{5} bytes, 2000000 bytes of device memory"):
        place(problem, *solver(problem))


def test_a_mixture_that_does_not_fit_is_told_with_each_size_once():
    large = replace(BY_NAME["mixtral-8x7b"], experts=Experts(count=8, per_token=2, ffn=512, layers=tuple(range(1, 32)), shared_ffn=512))
    with pytest.raises(ConfigError, match="its FFN of 14336, 512 and a node allow"):
        solver(
            Problem(demands=(replace(demand("big", 1, 1.0), spec=large),), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=1))
        )


@given(st.floats(0.1, 40), st.integers(50, 900))
def test_a_candidate_has_the_least_share_that_meets_the_rate(rate_rps, kiloparams):
    one = demand("a", kiloparams, rate_rps)
    problem = Problem(demands=(one,), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=4), memory_frac=1.0)

    found_alone = alone(problem)
    candidates = Candidates(problem, found_alone)
    for candidate in candidates.of("a"):
        served = {share: found_alone(one, rate_rps, Mesh(candidate.tp), share) for share in SM_SHARES}
        meets = [share for share, found in served.items() if found and found.in_time_rps >= rate_rps * (1 - ROUNDING)]
        assert candidate.meets_rate == bool(meets)
        assert candidates.sm_share("a", 1, Mesh(candidate.tp)) == (meets[0] if meets else 1.0)


def test_decodes_with_more_multiprocessors_are_never_slower():
    speeds = [decode_speed(share) for share in SM_SHARES]

    assert speeds == sorted(speeds) and speeds[0] == 0.25 and speeds[-1] == 1.0


def test_the_estimator_and_the_roofline_place_real_shapes():
    demands = tuple(
        Demand(name=f"{kind}-{i}", spec=BY_NAME[kind], rate_rps=rate, prompt_tokens=200, output_tokens=300)
        for i, (kind, rate) in enumerate((("llama-7b", 2.0), ("llama-13b", 1.0), ("llama-30b", 0.5)))
    )
    problem = Problem(demands=demands, cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=4))
    found = place(problem, *search_space(problem, Roofline()))

    assert faults(problem, found) == []
    assert found.worth == pytest.approx(3)  # all of it, of three
