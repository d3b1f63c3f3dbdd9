"""FP8 numbers packed into words of other dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import fp8, reference
from tests.pallas.places import placed, placed_tokens

WORDS = [jnp.bfloat16, jnp.float16, jnp.float32]
ALL = np.arange(256, dtype=np.uint8)
FINITE = ALL[ALL & 0x7F != 0x7F].view(fp8.FP8).astype(np.float32)


def pairs() -> np.ndarray:
    """[heads, 8], every pair of FP8 numbers side by side."""
    return np.stack(np.meshgrid(FINITE, FINITE), axis=-1).reshape(-1, 8)


@pytest.mark.parametrize("word", WORDS)
def test_every_pair_of_numbers_comes_back_from_the_blocks_bit_for_bit(word):
    """Written and gathered as numbers of another dtype, some of which are NaN there."""
    x_TD = jnp.asarray(pairs())
    tokens, dtype = len(x_TD), np.dtype(word)
    columns = -(-tokens // 16)
    table_BKC, pool = jnp.arange(columns, dtype=jnp.int32)[None, None, ::-1], jnp.zeros((columns, 2, 16, 8 // dtype.itemsize), dtype)

    @jax.jit
    def through(pool, x_TD):
        words = fp8.pack(x_TD, dtype)[:, None]
        at = placed_tokens(table_BKC, jnp.zeros(tokens, jnp.int32)), jnp.arange(tokens)
        pool = reference.write(pool, words, fp8.pack(-x_TD, dtype)[:, None], *at)
        return reference._context(pool, placed(table_BKC).rows(), 8)

    for back, sign in zip(through(pool, x_TD), (1, -1), strict=True):
        back_TD, wanted_TD = np.asarray(back[0, 0, :tokens].astype(jnp.float32)), sign * np.asarray(x_TD)
        np.testing.assert_array_equal(back_TD, wanted_TD)
        np.testing.assert_array_equal(np.signbit(back_TD), np.signbit(wanted_TD))


@pytest.mark.parametrize("word", [jnp.bfloat16, jnp.float32])
def test_packed_numbers_are_finite_words(word):
    """So that a model which multiplies by zero what it does not see may find them in its blocks."""
    assert np.isfinite(np.asarray(fp8.pack(jnp.asarray(pairs()), np.dtype(word)), np.float32)).all()


@pytest.mark.parametrize("word", WORDS)
def test_numbers_are_rounded_to_the_nearest_and_none_becomes_more_than_there_is(word):
    x_TD = jnp.asarray([[0.3, -0.3, 447.0, 449.0], [1e30, -1e30, 2.0**-10, -(2.0**-9)]])
    back_TD = np.asarray(fp8.unpack(fp8.pack(x_TD, np.dtype(word))), np.float32)
    np.testing.assert_array_equal(back_TD, [[0.3125, -0.3125, 448, 448], [448, -448, 0, -(2.0**-9)]])


def test_a_heads_numbers_lie_in_their_order():
    words = np.asarray(fp8.pack(jnp.asarray([1.0, 2.0, 3.0, 4.0]), np.dtype(jnp.bfloat16)))
    np.testing.assert_array_equal(words.view(fp8.FP8).astype(np.float32), [1, 2, 3, 4])
