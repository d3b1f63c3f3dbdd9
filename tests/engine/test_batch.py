"""Buckets and packing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cache.layout import CacheLayout
from muxjax.engine.batch import Buckets, delta_entries, pack
from muxjax.types import Phase
from tests.engine.test_step import make_step

LAYOUT = CacheLayout(windows=(None,), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512)


@given(slots=st.integers(1, 300), max_tokens=st.integers(2, 5000), budget=st.integers(16, 5000), data=st.data())
def test_the_bucket_of_a_step_holds_it_and_is_one_of_those_warmed_up(slots, max_tokens, budget, data):
    buckets = Buckets.of(LAYOUT, slots=slots, max_tokens=max_tokens, token_budget=budget, prefill_rows=4)
    count = data.draw(st.integers(1, min(budget, max_tokens)))
    start = data.draw(st.integers(0, max_tokens - count))
    step = make_step(Phase.PREFILL, [(0, start, [1] * count)])
    shape = buckets.shape(step, LAYOUT)
    assert shape in buckets.shapes()
    assert shape.tokens >= count and shape.columns * LAYOUT.tokens_per_block >= start + count


@given(st.integers(1, 300))
def test_the_largest_decode_bucket_holds_every_slot(slots):
    buckets = Buckets.of(LAYOUT, slots=slots, max_tokens=64, token_budget=64, prefill_rows=4)
    assert buckets.decode_rows[-1] == slots and list(buckets.decode_rows) == sorted(set(buckets.decode_rows))


def test_a_packed_step_keeps_tokens_first_and_pads_rows_with_a_slot_beyond_all():
    buckets = Buckets.of(LAYOUT, slots=6, max_tokens=64, token_budget=64, prefill_rows=4)
    step = make_step(Phase.PREFILL, [(3, 2, [7, 8]), (1, 0, [9])], seed=-5)
    shape = buckets.shape(step, LAYOUT)
    packed = pack(step, shape)
    fields = packed[shape.tokens :].reshape(-1, 4)
    assert packed[:4].tolist() == [7, 8, 9, 0]
    assert fields[0].tolist() == [3, 1, 2**31 - 1, 2**31 - 1]
    assert fields[1].tolist() == [2, 0, 0, 0] and fields[2].tolist() == [2, 1, 0, 0]
    assert fields[-2:, :2].T.copy().view(np.int64).ravel().tolist() == [-8, -6]


@given(st.integers(1, 100_000))
def test_a_delta_is_padded_to_at_most_four_times_its_size(count):
    assert count <= delta_entries(count) < 4 * count or count == delta_entries(count) == 1
