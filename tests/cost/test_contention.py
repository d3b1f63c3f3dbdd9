"""Steps beside each other: what was measured on an H200, and laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.contention import rates
from muxjax.cost.roofline import StepCost, decode, prefill
from muxjax.specs.published import BY_NAME

MESH = MeshSpec(chip=H200)
TRIO = [(BY_NAME[name], rows) for name, rows in (("llama-3.1-8b", 44), ("llama-3.2-3b", 40), ("llama-3.2-1b", 50))]
DECODES = [decode(spec, MESH, rows, 330 * rows) for spec, rows in TRIO]

seconds = st.floats(0.001, 10)
any_costs = st.builds(StepCost, compute_s=seconds, memory_s=seconds, attention_s=seconds, overhead_s=seconds, layers=st.integers(1, 100))


def test_a_step_alone_has_the_device():
    assert rates(DECODES[:1]) == [1.0]
    assert rates([]) == []


def test_decodes_of_three_models_gain_over_turns_what_was_measured():
    """docs/results/colocation, "decodes": 1.16 over all, with beginning and end, where not all three decode."""
    assert sum(rates(DECODES)) == pytest.approx(1.19, abs=0.05)


def test_a_decode_beside_a_prefill_is_left_the_tenth_that_was_measured():
    """docs/results/products: 0.89 and 0.11 of what each has alone."""
    spec = BY_NAME["llama-3.1-8b"]
    chunks, answers = rates([prefill(spec, MESH, 2048, 0), decode(spec, MESH, 32, 0)])

    assert chunks == pytest.approx(0.89, abs=0.05)
    assert answers == pytest.approx(0.11, abs=0.04)
    assert answers != pytest.approx(0.5, abs=0.04), "equal shares"


def test_the_small_models_decode_is_slowed_the_most():
    large, middle, small = rates(DECODES)

    assert large > middle > small


@given(costs=st.lists(any_costs, min_size=2, max_size=6))
def test_together_no_step_is_faster_than_alone_and_all_are_no_slower_than_in_turns(costs):
    found = rates(costs)

    assert all(0 < rate <= 1 for rate in found)
    assert sum(found) >= 1 - 1e-9 or 1.0 in found


@given(costs=st.lists(any_costs, min_size=2, max_size=6))
def test_the_order_of_lanes_changes_nothing(costs):
    assert rates(costs[::-1]) == pytest.approx(rates(costs)[::-1])
