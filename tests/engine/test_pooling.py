"""A prompt's pooled hidden state, chunk by chunk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.engine.model.pooling import PooledHidden
from muxjax.types import Pooling


def pooled(pooling: Pooling, hidden_TM: np.ndarray, *tries: list[int]) -> np.ndarray:
    """Of a prompt that is computed in chunks of those sizes, each try but the last one breaking off."""
    state = PooledHidden(pooling, len(hidden_TM))
    for sizes in tries:
        start = 0
        for size in sizes:
            wanted = state.wanted(start, size)
            state.add((hidden_TM[start : start + size] * wanted[:, None]).sum(0), start)
            start += size
    taken = state.take()
    assert taken is not None and state.take() is None
    return np.frombuffer(taken, "<f4")


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), broken=st.lists(st.lists(st.integers(1, 2), max_size=2), max_size=2))
def test_chunks_make_no_difference_nor_do_those_that_came_to_nothing(sizes, broken):
    hidden = np.random.default_rng(0).normal(size=(sum(sizes), 3)).astype(np.float32)
    tries = [[size for size in one if size < len(hidden)] for one in broken if sum(one) < len(hidden)]
    np.testing.assert_allclose(pooled(Pooling.MEAN, hidden, *tries, sizes), hidden.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled(Pooling.LAST, hidden, *tries, sizes), hidden[-1], rtol=1e-6)


def test_the_last_token_needs_the_last_chunk_alone():
    assert (PooledHidden(Pooling.MEAN, 9).wants_all, PooledHidden(Pooling.LAST, 9).wants_all) == (True, False)
    assert PooledHidden(Pooling.LAST, 9).wanted(4, 4).tolist() == [False] * 4
    assert PooledHidden(Pooling.LAST, 9).wanted(4, 5).tolist() == [False] * 4 + [True]
    assert PooledHidden(Pooling.LAST, 9).take() is None


@pytest.mark.parametrize("count", [1, 4])
def test_all_of_a_chunk_counts_for_the_mean(count):
    assert PooledHidden(Pooling.MEAN, 9).wanted(2, count).all()
