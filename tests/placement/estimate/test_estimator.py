"""The estimate's laws: memory helps, demand bounds it, the order of LLMs does not matter, devices of one's own are one's own."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cost import contention
from muxjax.cost.chip import A100, H200, MeshSpec
from muxjax.cost.roofline import Roofline, decode
from muxjax.errors import ConfigError
from muxjax.placement.estimate.estimator import UnitEstimate, estimate
from muxjax.placement.problem import Cluster, Demand, Placed, Problem, UnitPlan
from muxjax.placement.search_space import score
from muxjax.specs.published import BY_NAME

SHAPES = {"a": "llama-7b", "b": "llama-13b", "c": "llama-7b"}
rates = st.lists(st.floats(0.01, 100), min_size=1, max_size=3)


def problem(rates_rps: list[float], *, memory_bytes: float = 80e9, max_batch: int = 256, fairness: float = math.inf) -> Problem:
    demands = [
        Demand(name=name, spec=BY_NAME[SHAPES[name]], rate_rps=rate, prompt_tokens=200, output_tokens=300)
        for name, rate in zip(SHAPES, rates_rps, strict=False)
    ]
    chip = replace(A100, memory_bytes=int(memory_bytes))
    cluster = Cluster.uniform(chip=chip, nodes=1, devices_per_node=2)
    return Problem(demands=tuple(demands), cluster=cluster, max_batch=max_batch, fairness=fairness)


def together(asked: Problem, devices: tuple[int, ...] = (0,)) -> UnitPlan:
    members = tuple(Placed(model=demand.name, rate_rps=demand.rate_rps, devices=devices) for demand in asked.demands)
    return UnitPlan(devices=2, members=members)


def of(asked: Problem, unit: UnitPlan | None = None) -> UnitEstimate:
    return estimate(asked, Roofline(), unit or together(asked))


@settings(max_examples=50, deadline=None)
@given(rates, st.floats(62e9, 200e9), st.floats(1.0, 2.0))
def test_more_memory_never_lowers_the_estimate(rates_rps, memory_bytes, times):
    less, more = (of(problem(rates_rps, memory_bytes=memory)) for memory in (memory_bytes, memory_bytes * times))

    lost = 1e-9 if len(rates_rps) == 1 else 0.05  # where not all can be served, room moves the devices' time to larger LLMs
    assert more.throughput_rps >= less.throughput_rps * (1 - lost)
    assert more.total_blocks >= less.total_blocks


@settings(max_examples=50, deadline=None)
@given(rates)
def test_nobody_serves_more_than_its_demand(rates_rps):
    found = of(problem(rates_rps))

    assert all(0 < model.throughput_rps <= rate for model, rate in zip(found.models.values(), rates_rps, strict=True))
    assert sum(model.blocks for model in found.models.values()) <= found.total_blocks
    assert sum(model.sm_share for model in found.models.values()) <= len(rates_rps)


@settings(max_examples=50, deadline=None)
@given(rates)
def test_the_order_of_llms_changes_nothing(rates_rps):
    asked = problem(rates_rps)
    unit = together(asked)
    found, turned = of(asked, unit), of(asked, replace(unit, members=unit.members[::-1]))

    assert found == turned


def test_an_llm_on_other_devices_changes_nothing():
    asked = problem([100.0, 3.0])
    first, second = (Placed(model=name, rate_rps=rate, devices=(i,)) for i, (name, rate) in enumerate([("a", 100.0), ("b", 3.0)]))
    alone, beside = (of(asked, UnitPlan(devices=2, members=members)).models["b"] for members in ((second,), (second, first)))
    crowded = of(asked, together(asked)).models["b"]

    assert beside == alone
    assert crowded.throughput_rps < alone.throughput_rps


def test_a_light_load_is_served_in_full_at_the_speed_of_a_step_alone():
    found = of(problem([0.001])).models["a"]

    assert found.throughput_rps == 0.001
    assert found.tpot_s == pytest.approx(Roofline().decode_s(BY_NAME["llama-7b"], _mesh(), 1, 350), rel=0.02)
    assert math.isfinite(found.ttft_s)


def test_who_cannot_keep_up_has_no_finite_time_to_the_first_token():
    assert of(problem([100.0])).models["a"].ttft_s == math.inf


def test_who_needs_little_gets_it_beside_who_cannot_get_enough():
    """The two that are short hold as many head blocks as each other; the light one is served in full."""
    asked = problem([50.0, 20.0, 0.05])
    whole = of(asked, replace(together(asked), devices=1))
    found = whole.models

    assert found["c"].throughput_rps == 0.05 and math.isfinite(found["c"].ttft_s)
    assert found["a"].throughput_rps < 25 and found["b"].throughput_rps < 10
    assert found["a"].blocks == pytest.approx(found["b"].blocks) and found["c"].blocks < 0.5 * found["a"].blocks
    assert sum(one.blocks for one in found.values()) == pytest.approx(whole.total_blocks)


def test_a_busier_unit_lets_a_request_wait_longer():
    """A first token takes a prefill, and the turns that were launched before it came."""
    idle, busy = (of(problem([rate])).models["a"] for rate in (0.001, 3.0))

    assert idle.ttft_s < busy.ttft_s
    assert busy.ttft_s - 2 * busy.tpot_s == pytest.approx(Roofline().prefill_s(BY_NAME["llama-7b"], _mesh(), 200, 100.5), rel=0.1)


def test_batches_that_are_capped_alike_are_unfair_to_the_busier_one():
    crowd = problem([100.0, 1.0], max_batch=8)

    assert of(crowd).unfairness > 0.1
    assert score(crowd, Roofline())(together(crowd)) > 0
    assert score(replace(crowd, fairness=0.1), Roofline())(together(crowd)) == -math.inf


def test_decodes_on_lanes_are_faster_than_in_turns_and_no_faster_than_beside_each_other():
    """Batches are at their cap, so that steps are known."""
    asked = replace(problem([100.0, 100.0, 100.0], max_batch=8), cluster=Cluster.uniform(chip=H200, nodes=1, devices_per_node=1))
    unit = replace(together(asked), devices=1)
    lanes, turns = of(asked, unit), of(replace(asked, lanes=False), unit)
    steps = {demand.name: decode(demand.spec, MeshSpec(chip=H200), 8, 8 * 350) for demand in asked.demands}
    beside = dict(zip(steps, contention.rates(list(steps.values())), strict=True))

    assert lanes.throughput_rps > turns.throughput_rps
    for name in ("a", "c"):
        assert lanes.models[name].batch == turns.models[name].batch == 8
        assert steps[name].total_s / beside[name] < lanes.models[name].tpot_s < turns.models[name].tpot_s


def test_on_lanes_fewer_layers_make_tokens_sooner():
    """40 of the 13B beside 32 of the 7B."""
    found = of(problem([100.0, 100.0], max_batch=8)).models

    assert found["b"].tpot_s / found["a"].tpot_s == pytest.approx(40 / 32, rel=0.02)


@pytest.mark.parametrize("rate", [0.001, 3.0, 100.0])
def test_an_llm_alone_or_on_several_devices_has_no_lanes(rate):
    """To the last bit."""
    alone, wide = problem([rate]), problem([rate, 3.0])

    assert of(alone) == of(replace(alone, lanes=False))
    assert of(wide, together(wide, (0, 1))) == of(replace(wide, lanes=False), together(wide, (0, 1)))


def test_weights_that_do_not_fit_are_an_error_with_both_sizes():
    asked = problem([1.0, 1.0], memory_bytes=20e9)

    with pytest.raises(ConfigError, match=r"a sequence of a, b need 37\.19 GiB on a device of 16\.76 GiB"):
        of(asked)
    assert score(asked, Roofline())(together(asked)) == -math.inf


def _mesh():
    return MeshSpec(chip=A100)
