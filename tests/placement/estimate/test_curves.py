"""Curves of one LLM: one value at a time as all at once, and none that goes up and down."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import A100, MeshSpec
from muxjax.cost.roofline import Roofline
from muxjax.placement.estimate.curves import Curves, curves
from muxjax.placement.problem import Demand
from muxjax.specs.published import BY_NAME


def of(rate_rps: float, *, max_batch: int = 256, on_lane: bool = True) -> Curves:
    demand = Demand(name="a", spec=BY_NAME["llama-7b"], rate_rps=rate_rps, prompt_tokens=200, output_tokens=300)
    return curves(demand, rate_rps, MeshSpec(chip=A100), Roofline(), max_batch, on_lane=on_lane)


@given(st.floats(0.01, 300), st.floats(1e-3, 10), st.floats(1e-3, 10), st.sampled_from((1, 7, 256)), st.booleans())
def test_one_turn_is_one_of_many(batch, token_s, turn_s, max_batch, on_lane):
    steps = of(1.0, max_batch=max_batch, on_lane=on_lane).steps
    one = steps.turn(batch, token_s, turn_s)
    many = steps.turns(*(np.array([value]) for value in (batch, token_s, turn_s)))

    assert (one.decode_s, one.hidden_s, one.prefill_s) == pytest.approx(tuple(values[0] for values in many), rel=1e-12)


@given(st.floats(0.01, 300), st.booleans())
def test_a_longer_turn_needs_no_more_of_the_device_and_no_smaller_batch(rate_rps, on_lane):
    found = of(rate_rps, on_lane=on_lane)

    assert list(found.batch) == sorted(found.batch)
    assert list(found.busy) == sorted(found.busy, reverse=True) and list(found.taken) == sorted(found.taken, reverse=True)
    assert all(taken <= busy for taken, busy in zip(found.taken, found.busy, strict=True))
