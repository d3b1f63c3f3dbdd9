"""Buckets and packing."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muxjax.buckets import Buckets, smallest
from muxjax.cache.layout import CacheLayout
from muxjax.device.batch import ROW_FIELDS, delta_entries, pack, unpack
from muxjax.engine.speculation.drafts import Drafts
from muxjax.scheduler.view import TOKEN_GRAIN, grains
from tests.device.test_step import make_step

LAYOUT = CacheLayout(windows=(None,), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512)
BEYOND = 2**31 - 1


@given(slots=st.integers(1, 300), max_tokens=st.integers(2, 5000), budget=st.integers(16, 5000), ragged=st.booleans(), data=st.data())
def test_the_bucket_of_a_step_holds_it_and_is_one_of_those_warmed_up(slots, max_tokens, budget, ragged, data):
    buckets = Buckets.of(LAYOUT, slots=slots, max_tokens=max_tokens, token_budget=budget, prefill_rows=4, ragged=ragged)
    decodes = data.draw(st.integers(0, slots - 1))
    count = data.draw(st.integers(0 if decodes else 1, min(budget, max_tokens)))
    start = data.draw(st.integers(0, max_tokens - count))
    step = make_step(decodes=[(0, 0, [1])] * decodes, chunks=[(0, start, [1] * count)] if count else [])
    shape = smallest(buckets.shapes(), buckets.size(step.starts, step.counts, step.decodes, LAYOUT))
    assert shape in buckets.shapes()
    assert shape.decode_rows >= decodes and shape.tokens >= decodes + count
    assert bool(shape.prefill_rows) == bool(count)
    assert shape.columns * LAYOUT.tokens_per_block >= (start + count if count else 1)


@given(st.integers(1, 300))
def test_the_largest_decode_buckets_hold_every_slot(slots):
    buckets = Buckets.of(LAYOUT, slots=slots, max_tokens=64, token_budget=64, prefill_rows=4, ragged=True)
    assert buckets.mixed_rows[-1] == slots and buckets.decode_rows[-1] == grains(slots)
    for rows in (buckets.decode_rows, buckets.mixed_rows):
        assert list(rows) == sorted(set(rows))


def test_rows_that_only_decode_are_whole_grains_where_products_are_padded_to_them():
    for slots in (1, 6, 100):
        buckets = Buckets.of(LAYOUT, slots=slots, max_tokens=64, token_budget=64, prefill_rows=4, ragged=True)
        assert {rows % TOKEN_GRAIN for rows in buckets.decode_rows} == {0}


def test_tables_that_are_read_by_length_need_one_width():
    widths = [
        Buckets.of(LAYOUT, slots=4, max_tokens=4096, token_budget=64, prefill_rows=4, ragged=ragged).columns for ragged in (True, False)
    ]
    assert widths[0] == (LAYOUT.columns(4096),) and len(widths[1]) > 1 and widths[1][-1] == LAYOUT.columns(4096)


def test_a_packed_step_has_decodes_first_then_chunks_from_multiples_of_eight_and_pads_with_a_slot_beyond_all():
    buckets = Buckets.of(LAYOUT, slots=6, max_tokens=64, token_budget=64, prefill_rows=4, ragged=True)
    step = make_step(decodes=[(5, 9, [-1])], chunks=[(3, 2, [7, 8]), (1, 0, [9])], seed=-5)
    shape = smallest(buckets.shapes(), buckets.size(step.starts, step.counts, step.decodes, LAYOUT))
    packed = pack(step, shape)
    fields = packed[shape.tokens :].reshape(len(ROW_FIELDS), 10)
    assert packed[: shape.tokens].nonzero()[0].tolist() == [0, 8, 9, 16]
    assert packed[[0, 8, 9, 16]].tolist() == [-1, 7, 8, 9]
    assert fields[0].tolist() == [5, *[BEYOND] * 5, 3, 1, BEYOND, BEYOND]
    assert fields[1, [0, 6, 7]].tolist() == [9, 2, 0] and fields[2].tolist() == [1, 0, 0, 0, 0, 0, 2, 1, 0, 0]
    assert fields[-2:, [0, 6, 7]].T.copy().view(np.int64).ravel().tolist() == [-10, -8, -6]
    assert unpack(fields[0], step, shape).tolist() == step.slots.tolist()


def test_drafts_are_rows_behind_those_that_decode_each_of_the_row_it_follows_further_on():
    buckets = Buckets.of(LAYOUT, slots=6, max_tokens=64, token_budget=64, prefill_rows=4, ragged=True)
    step = make_step(decodes=[(5, 9, [4]), (2, 3, [6])], chunks=[(3, 2, [7, 8])], seed=-5)
    drafts = Drafts.of([np.array(own, np.int32) for own in ([11, 12], [13])])
    assert drafts is not None
    step = replace(step, drafts=drafts)
    shape = smallest(buckets.shapes(), buckets.size(step.starts, step.counts, step.decodes, LAYOUT, drafts=len(drafts)))
    packed = pack(step, shape)
    fields = packed[shape.tokens :].reshape(len(ROW_FIELDS), shape.rows)
    assert packed[[0, 1, 2, 3, 4, 8, 9]].tolist() == [4, 6, 11, 12, 13, 7, 8]
    assert fields[0].tolist() == [5, 2, 5, 5, 2, BEYOND, 3, BEYOND, BEYOND, BEYOND]
    assert fields[1, :5].tolist() == [9, 3, 10, 11, 4] and fields[2].tolist() == [1, 1, 1, 1, 1, 0, 2, 0, 0, 0]
    assert (fields[3:, 2:4] == fields[3:, [0]]).all() and (fields[3:, 4] == fields[3:, 1]).all()
    assert unpack(fields[0], step, shape).tolist() == [*step.slots, 5, 5, 2]


@given(st.integers(1, 100_000))
def test_a_delta_is_padded_to_at_most_four_times_its_size(count):
    assert count <= delta_entries(count) < 4 * count or count == delta_entries(count) == 1
