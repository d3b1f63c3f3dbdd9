"""The simulated executor: times one can add up by hand, and the laws of sharing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.buckets import Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta
from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.roofline import StepCost, decode, mixed, prefill
from muxjax.engine.executor import SAMPLING, Step
from muxjax.model_spec import ModelSpec
from muxjax.simulate.executor import PaddedModel, SimulatedClock, SimulatedExecutor, step_costs
from muxjax.simulate.sharing import LANES, SERIAL, SPATIAL, Sharing, Spatial

BUSY = StepCost(compute_s=1.0, memory_s=0.0, overhead_s=0.0)
PERFECT = Spatial(efficiency=1.0)
SPEC = ModelSpec(
    vocab=128256,
    width=4096,
    layers=16,
    heads=32,
    kv_heads=8,
    head_dim=128,
    ffn=14336,
    max_len=8192,
    windows=(None,) * 16,
)


def step(step_id: int, model: str, rows: tuple[tuple[int, int], ...] = ((1, 1),), decodes: int = 1) -> Step:
    """Rows of (start, count)."""
    starts, counts = np.array(rows, np.int32).T
    none = np.zeros(0, np.int32)
    return Step(
        id=step_id,
        model=model,
        decodes=decodes,
        slots=np.arange(len(rows), dtype=np.int32),
        starts=starts,
        counts=counts,
        tokens=np.zeros(counts.sum(), np.int32),
        sampling=np.zeros(len(rows), SAMPLING),
        delta=TableDelta(none, none, np.zeros((0, 1, 1), np.int32)),
    )


def run(costs: dict[int, StepCost], models: dict[int, str], sharing: Sharing) -> list[tuple[int, float]]:
    """Launches all steps at 0; their ids and ends, in order."""
    clock = SimulatedClock()
    executor = SimulatedExecutor(lambda launched: costs[launched.id], clock, sharing)
    for step_id in costs:
        executor.launch(step(step_id, models[step_id]))
    ends = []
    while done := executor.collect(wait=True):
        ends += [(one.step_id, round(one.at_s, 9)) for one in done]
        assert done[-1].at_s == pytest.approx(clock.now_s())
    return ends


def test_serial_steps_follow_each_other():
    costs = {1: BUSY, 2: StepCost(compute_s=0.0, memory_s=2.0, overhead_s=0.5)}

    assert run(costs, {1: "a", 2: "b"}, SERIAL) == [(1, 1.0), (2, 3.5)]


def test_steps_that_use_different_resources_progress_together():
    costs = {1: BUSY, 2: StepCost(compute_s=0.0, memory_s=2.0, overhead_s=0.0)}

    assert run(costs, {1: "a", 2: "b"}, PERFECT) == [(1, 1.0), (2, 2.0)]


def test_steps_that_use_the_same_resource_share_its_time():
    costs = {1: BUSY, 2: StepCost(compute_s=3.0, memory_s=0.0, overhead_s=0.0)}

    assert run(costs, {1: "a", 2: "b"}, PERFECT) == [(1, 2.0), (2, 4.0)]


def test_steps_of_one_model_stay_in_order():
    costs = {1: StepCost(compute_s=0.0, memory_s=5.0, overhead_s=0.0), 2: BUSY}

    assert run(costs, {1: "a", 2: "a"}, PERFECT) == [(1, 5.0), (2, 6.0)]


def test_nothing_ends_before_its_time_without_waiting():
    clock = SimulatedClock()
    executor = SimulatedExecutor(lambda _: BUSY, clock, SERIAL)
    executor.launch(step(1, "a"))

    clock.advance_to(0.999)
    assert executor.collect(wait=False) == []
    clock.advance_to(1.5)
    assert [(done.step_id, done.at_s) for done in executor.collect(wait=False)] == [(1, 1.0)]


def test_a_step_launched_late_slows_the_rest_of_another():
    clock = SimulatedClock()
    executor = SimulatedExecutor(lambda _: BUSY, clock, PERFECT)
    executor.launch(step(1, "a"))
    clock.advance_to(0.5)
    executor.launch(step(2, "b"))

    assert [done.at_s for _ in range(2) for done in executor.collect(wait=True)] == [1.5, 2.0]


def test_waiting_for_nothing_returns():
    assert SimulatedExecutor(lambda _: BUSY, SimulatedClock(), SERIAL).collect(wait=True) == []


seconds = st.floats(0.01, 10)
any_costs = st.builds(StepCost, compute_s=seconds, memory_s=seconds, overhead_s=seconds)


@given(costs=st.lists(any_costs, min_size=1, max_size=6), efficiency=st.floats(0.1, 1))
def test_together_is_never_slower_than_in_turns_nor_faster_than_alone(costs, efficiency):
    numbered = dict(enumerate(costs))
    ends = run(numbered, {i: f"m{i}" for i in numbered}, Spatial(efficiency=efficiency))

    assert sorted(i for i, _ in ends) == sorted(numbered)
    assert max(cost.total_s for cost in costs) - 1e-6 <= ends[-1][1] <= sum(cost.total_s for cost in costs) + 1e-6


@given(costs=st.lists(any_costs, min_size=2, max_size=6))
def test_used_resources_never_exceed_the_device(costs):
    rate, in_turns = PERFECT.rates(costs)[0], 1 / len(costs)

    for kind in ("compute_s", "memory_s"):
        assert rate * sum(getattr(cost, kind) / cost.total_s for cost in costs) <= 1 + 1e-9 or rate == in_turns


def test_the_roofline_tells_decodes_from_chunks():
    mesh = MeshSpec(chip=H200)
    cost = step_costs({"m": (SPEC, mesh)})

    assert cost(step(1, "m", ((9, 1), (19, 1)), decodes=2)) == decode(SPEC, mesh, 2, 10 + 20)
    assert cost(step(1, "m", ((0, 3),), decodes=0)) == prefill(SPEC, mesh, 3, 2.0)
    assert cost(step(1, "m", ((9, 1), (0, 3)), decodes=1)) == mixed(SPEC, mesh, 3, 2.0, 1, 10)
    assert cost(step(1, "m", ((9, 1), (0, 1)), decodes=1)) != cost(step(1, "m", ((9, 1), (0, 1)), decodes=2))


def test_a_prefill_beside_a_decode_gains_what_was_measured():
    """On an H200: 1.2 in the sum of their shares of full speed (2,048 tokens, batch 32)."""
    pair = [prefill(SPEC, MeshSpec(chip=H200), 2048, 0), decode(SPEC, MeshSpec(chip=H200), 32, 0)]

    assert sum(SPATIAL.rates(pair)) == pytest.approx(1.2, abs=0.05)
    assert sum(PERFECT.rates(pair)) != pytest.approx(1.2, abs=0.05)


def test_a_step_costs_what_its_padded_shape_does():
    mesh, layout = MeshSpec(chip=H200), CacheLayout.of(SPEC, element_bytes=2)
    buckets = Buckets.of(layout, slots=64, max_tokens=2048, token_budget=2048, prefill_rows=8, ragged=True)
    cost = step_costs({"m": (SPEC, mesh)}, padded={"m": PaddedModel(buckets, layout)})

    assert cost(step(1, "m", ((9, 1), (19, 1)), decodes=2)) == decode(SPEC, mesh, 8, 10 + 20)
    assert cost(step(1, "m", ((0, 130),), decodes=0)) == prefill(SPEC, mesh, 192, 65.5 * 130 / 192)
    assert cost(step(1, "m", ((0, 130),), decodes=0)) != prefill(SPEC, mesh, 130, 65.5)


def test_steps_of_one_lane_follow_each_other_and_those_of_two_contend():
    def ends(*lanes: int) -> list[float]:
        clock = SimulatedClock()
        executor = SimulatedExecutor(lambda _: BUSY, clock, LANES)
        for i, lane in enumerate(lanes):
            executor.launch(replace(step(i, "m"), lane=lane))
        return [round(done.at_s, 9) for _ in lanes for done in executor.collect(wait=True)]

    assert ends(0, 0) == [1.0, 2.0]
    assert ends(0, 1) == [2.0, 2.0]


def test_the_host_works_while_the_device_does_and_no_step_begins_before_it_is_launched():
    clock = SimulatedClock()
    executor = SimulatedExecutor(lambda _: BUSY, clock, SERIAL, host_s=0.1)
    executor.launch(step(1, "a"))
    executor.launch(step(2, "a"))

    ends = [done.at_s for _ in range(2) for done in executor.collect(wait=True)]
    assert ends == pytest.approx([1.04, 2.04])
    assert clock.now_s() == pytest.approx(2.04 + 0.06)
