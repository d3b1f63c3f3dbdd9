"""Sizes of steps: few, and close enough together."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muxjax.buckets import Buckets, smallest
from muxjax.cache.layout import CacheLayout
from muxjax.scheduler.view import grains

LAYOUT = CacheLayout(windows=(None,), kv_heads=8, head_dim=128, element_bytes=2)
BUCKETS = Buckets.of(LAYOUT, slots=256, max_tokens=8192, token_budget=2048, prefill_rows=8, ragged=True)


@given(st.integers(256, 2048))
def test_chunks_of_more_than_a_short_prompt_are_padded_by_a_third_at_most(tokens):
    size = BUCKETS.size(np.zeros(1, np.int32), np.array([tokens], np.int32), 0, LAYOUT)
    assert tokens <= smallest(BUCKETS.shapes(), size).tokens < 4 / 3 * tokens


def test_a_prompt_of_210_tokens_costs_256_and_so_it_does_with_40_decodes():
    size = BUCKETS.size(np.zeros(1, np.int32), np.array([210], np.int32), 0, LAYOUT)
    beside = BUCKETS.size(np.zeros(41, np.int32), np.array([1] * 40 + [210], np.int32), 40, LAYOUT)
    assert smallest(BUCKETS.shapes(), size).tokens == smallest(BUCKETS.shapes(), beside).tokens == 256


@given(decodes=st.integers(0, 256), tokens=st.integers(1, 2048))
def test_any_number_of_decodes_and_prompt_tokens_within_their_limits_fits(decodes, tokens):
    counts = np.array([1] * decodes + [tokens], np.int32)
    shape = smallest(BUCKETS.shapes(), BUCKETS.size(np.zeros(decodes + 1, np.int32), counts, decodes, LAYOUT))
    assert shape.decode_rows >= decodes and shape.tokens >= grains(decodes) + grains(tokens)


SHARING = replace(BUCKETS, sm_shares=(96,))


def test_the_sizes_of_a_gpu_are_few():
    assert len(BUCKETS.shapes()) == 44
    assert len(SHARING.shapes()) == 55


def test_a_step_keeps_to_a_share_where_there_is_such_a_size_and_to_none_unasked():
    size = SHARING.size(np.zeros(1, np.int32), np.array([1200], np.int32), 0, LAYOUT)
    short = SHARING.size(np.zeros(1, np.int32), np.array([100], np.int32), 200, LAYOUT)

    assert smallest(SHARING.shapes(), size, 96) == replace(smallest(SHARING.shapes(), size), sm_share=96)
    assert smallest(SHARING.shapes(), size, 80) == smallest(SHARING.shapes(), size) == smallest(BUCKETS.shapes(), size)
    assert smallest(BUCKETS.shapes(), size, 96).sm_share is None
    assert smallest(SHARING.shapes(), short).sm_share is None
