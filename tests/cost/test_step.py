"""Cost of steps of the engine, by the roofline and by what was measured."""

import pytest

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.roofline import Roofline, decode, kv_bytes_per_token, mixed, prefill
from muxjax.cost.step import step_cost
from muxjax.specs.published import BY_NAME

SPEC, MESH = BY_NAME["llama-3.1-8b"], MeshSpec(chip=H200)
READ_S = kv_bytes_per_token(SPEC, MESH) / (H200.memory_bytes_per_s * H200.memory_frac)
"""Of the KV of a token."""


class Doubled:
    """Twice what the roofline says."""

    def prefill_s(self, *step) -> float:
        return 2 * prefill(*step).total_s

    def decode_s(self, *step) -> float:
        return 2 * decode(*step).total_s


@pytest.mark.parametrize("measured", [None, Roofline()])
def test_without_measurements_a_step_costs_what_the_roofline_says(measured):
    assert step_cost(SPEC, MESH, measured, batch=8, context_tokens=900) == decode(SPEC, MESH, 8, 900)
    assert step_cost(SPEC, MESH, measured, tokens=64, context=40.0) == prefill(SPEC, MESH, 64, 40.0)
    both = step_cost(SPEC, MESH, measured, tokens=64, context=40.0, batch=8, context_tokens=900)
    assert both == mixed(SPEC, MESH, 64, 40.0, 8, 900)


def test_measured_seconds_take_the_place_of_the_rooflines_sums():
    assert step_cost(SPEC, MESH, Doubled(), batch=8, context_tokens=900).total_s == pytest.approx(2 * decode(SPEC, MESH, 8, 900).total_s)
    assert step_cost(SPEC, MESH, Doubled(), tokens=64, context=40.0).total_s == pytest.approx(2 * prefill(SPEC, MESH, 64, 40.0).total_s)


@pytest.mark.parametrize("measured", [None, Doubled()])
@pytest.mark.parametrize("tokens", [8, 2048])
def test_the_context_of_decodes_beside_chunks_is_read_on_top_of_all_products(measured, tokens):
    """Kernels of a step run one after another: its products and its attention add up to it in docs/results/step-profile."""
    chunks = {"tokens": tokens, "context": 2000.0, "batch": 256}
    near, far = (step_cost(SPEC, MESH, measured, **chunks, context_tokens=256 * each) for each in (1000, 2000))

    assert far.total_s - near.total_s == pytest.approx(256 * 1000 * READ_S, rel=1e-6)
    assert far.memory_s == near.memory_s


def test_chunks_are_measured_with_the_rows_that_decode_beside_them():
    asked = []

    class Noted(Doubled):
        def prefill_s(self, *step) -> float:
            asked.append(step[2:])
            return super().prefill_s(*step)

    step_cost(SPEC, MESH, Noted(), tokens=300, context=80.0, batch=100, context_tokens=100)

    assert asked == [(400, 60.0)]
