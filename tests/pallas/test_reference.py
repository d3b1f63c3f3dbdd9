"""Cache write and attention against a loop over tokens in float64 that knows nothing of blocks."""

import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import mosaic, reference
from muxjax.pallas.kernels import REFERENCE, best
from muxjax.scheduler.view import TOKEN_GRAIN
from tests.pallas.hopper import needs_mosaic
from tests.pallas.places import placed, placed_tokens

B, K, G, D, P, C, N = 3, 2, 3, 16, 4, 6, 64
LENGTHS = np.array([1, 9, 24], np.int32)
LIMIT = 5e-6
"""Measured worst row: 4e-7, float32."""


class Case:
    """Sequences with random K and V, scattered over a pool that is NaN everywhere else."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.k = [rng.standard_normal((n, K, D)) for n in LENGTHS]
        self.v = [rng.standard_normal((n, K, D)) for n in LENGTHS]
        self.table = rng.permutation(N)[: B * K * C].reshape(B, K, C).astype(np.int32)
        row = np.repeat(np.arange(B), LENGTHS).astype(np.int32)
        position = np.concatenate([np.arange(n) for n in LENGTHS]).astype(np.int32)
        self.pool = reference.write(
            jnp.full((N, 2, P, D), jnp.nan, jnp.float32),
            jnp.asarray(np.concatenate(self.k), jnp.float32),
            jnp.asarray(np.concatenate(self.v), jnp.float32),
            placed_tokens(jnp.asarray(self.table), row),
            jnp.asarray(position),
        )

    def expected(
        self,
        q_HD: np.ndarray,
        row: int,
        position: int,
        window: int | None = None,
        scale: float = D**-0.5,
        soft_cap: float | None = None,
        sink_H: np.ndarray | None = None,
    ) -> np.ndarray:
        """[H, D] of one query."""
        first = 0 if window is None else max(0, position - window + 1)
        heads = []
        for head in range(K * G):
            k, v = (kv[row][first : position + 1, head // G] for kv in (self.k, self.v))
            scores = k @ q_HD[head] * scale
            weights = np.exp(scores if soft_cap is None else soft_cap * np.tanh(scores / soft_cap))
            heads.append(weights @ v / (weights.sum() + (0 if sink_H is None else np.exp(sink_H[head]))))
        return np.stack(heads)


def worst(actual, expected) -> float:
    """Largest relative error of a row; NaN is infinitely wrong."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    errors = np.linalg.norm(actual - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    return float(np.nan_to_num(errors, nan=np.inf).max())


def queries(count: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, K * G, D))


def decode_error(case: Case, *, table=None, lengths=LENGTHS, window=None, told_window=None, pool=None) -> float:
    q = queries(B)
    out = reference.decode(
        jnp.asarray(q, jnp.float32),
        case.pool if pool is None else pool,
        placed(jnp.asarray(case.table if table is None else table)),
        jnp.asarray(lengths),
        window=told_window or window,
    )
    return worst(out, [case.expected(q[b], b, LENGTHS[b] - 1, window) for b in range(B)])


@pytest.mark.parametrize("window", [None, 1, 3, 4, 5, 100])
def test_decode_is_attention_over_the_rows_own_tokens(window):
    assert decode_error(Case(), window=window) < LIMIT


@pytest.mark.parametrize(
    "near_miss",
    [
        lambda case: {"pool": case.pool[:, ::-1]},  # V read for K
        lambda case: {"table": np.roll(case.table, 1, axis=2)},  # one block off
        lambda case: {"table": case.table[:, ::-1]},  # the other kv head
        lambda case: {"table": np.roll(case.table, 1, axis=0)},  # the neighbour's row
        lambda case: {"lengths": np.maximum(LENGTHS - 1, 1)},  # the last token unseen
        lambda case: {"lengths": LENGTHS + 1},  # the tail of the last block seen
        lambda case: {"window": 5, "told_window": 6},
        lambda case: {"window": 5, "told_window": 4},
        lambda case: {"pool": jnp.roll(case.pool, 1, axis=2)},  # a token off within the block
    ],
)
def test_decode_near_misses_are_noticed(near_miss):
    case = Case()
    assert decode_error(case, **near_miss(case)) > 100 * LIMIT


CHUNKS = np.array([1, 4, 17], np.int32)
"""The rows' new tokens, the last ones of each."""
STARTS = np.array([0, 8, 16], np.int32)
PACKED = 40


def prefill_error(case: Case, *, lengths=LENGTHS, offsets=STARTS, window=None, told_window=None) -> float:
    q = queries(PACKED)
    out = reference.prefill(
        jnp.asarray(q, jnp.float32),
        case.pool,
        placed(jnp.asarray(case.table)),
        jnp.asarray(offsets, jnp.int32),
        jnp.asarray(CHUNKS),
        jnp.asarray(lengths),
        window=told_window or window,
    )
    tokens = [(b, i) for b in range(B) for i in range(CHUNKS[b])]
    own = np.array([STARTS[b] + i for b, i in tokens])
    if offsets is STARTS:
        assert not np.delete(np.asarray(out), own, axis=0).any(), "padding must be zero"
    return worst(out[own], [case.expected(q[STARTS[b] + i], b, LENGTHS[b] - CHUNKS[b] + i, window) for b, i in tokens])


@pytest.mark.parametrize("window", [None, 1, 4, 7])
def test_prefill_is_causal_attention_over_cached_and_new_tokens(window):
    assert prefill_error(Case(), window=window) < LIMIT


@pytest.mark.parametrize(
    "near_miss",
    [
        {"lengths": np.maximum(LENGTHS - 1, CHUNKS)},  # positions one too low
        {"offsets": [8, 0, 16]},  # a row's tokens are another's
        {"window": 5, "told_window": 6},
    ],
)
def test_prefill_near_misses_are_noticed(near_miss):
    assert prefill_error(Case(), **near_miss) > 100 * LIMIT


SINKS = np.linspace(-3.0, 3.0, K * G, dtype=np.float32)


@pytest.mark.parametrize(
    "near_miss",
    [None, {"soft_cap": None}, {"soft_cap": 1.01}, {"scale": None}, {"scale": 0.303}, {"sink_H": None}, {"sink_H": SINKS[::-1]}],
)
def test_a_scale_a_soft_cap_and_sinks_change_the_scores_of_decode_and_prefill(near_miss):
    """A row of one new token is a row to decode."""
    case, q, cap = Case(), queries(B), {"scale": 0.3, "soft_cap": 1.0, "sink_H": SINKS}
    told = {**cap, **(near_miss or {})}
    told["sink_H"] = None if told["sink_H"] is None else jnp.asarray(told["sink_H"])
    cache = (case.pool, placed(jnp.asarray(case.table)))
    starts, ones, lengths = (jnp.asarray(x, jnp.int32) for x in (STARTS, [1] * B, LENGTHS))
    expected = [case.expected(q[b], b, LENGTHS[b] - 1, **cap) for b in range(B)]
    q_BHD = jnp.asarray(q, jnp.float32)
    q_THD = jnp.zeros((PACKED, *q_BHD.shape[1:])).at[STARTS].set(q_BHD)
    prefilled = reference.prefill(q_THD, *cache, starts, ones, lengths, **told)[STARTS]
    for out in (reference.decode(q_BHD, *cache, lengths, **told), prefilled):
        assert worst(out, expected) > 100 * LIMIT if near_miss else worst(out, expected) < LIMIT


@needs_mosaic
def test_heads_with_sinks_and_of_other_sizes_are_the_references():
    """But by experts' matrices Hopper multiplies whatever attends."""
    hopper = {"device_kind": "NVIDIA H200", "dtype": np.dtype(jnp.bfloat16)}
    other = best(**hopper, head_dim=64, sinks=True)
    assert other is best(**hopper, head_dim=80) is best(**hopper, head_dim=128, latent=True)
    assert other == REFERENCE._replace(grouped_product=best(**hopper, head_dim=128).grouped_product) != REFERENCE
    assert best(device_kind="NVIDIA H200", dtype=np.dtype("float32"), head_dim=128) is REFERENCE


def test_what_cuts_a_batch_into_groups_cuts_alike():
    """A scheduler's rows begin where kernels look for them."""
    assert reference.ROW_GRAIN == mosaic.GROUP == TOKEN_GRAIN


def test_a_padding_row_and_a_padding_token_change_and_read_nothing():
    case = Case()
    table, position = jnp.asarray(case.table), jnp.array([2], jnp.int32)
    k = jnp.ones((1, K, D), jnp.float32)

    def write(row: int):
        return reference.write(case.pool, k, k, placed_tokens(table, jnp.array([row], jnp.int32)), position)

    np.testing.assert_array_equal(write(B), case.pool)
    assert not np.array_equal(write(1), case.pool, equal_nan=True)
    out = reference.decode(jnp.ones((1, K * G, D)), case.pool, placed(table[:1]), jnp.array([0]))
    assert not np.asarray(out).any()


def test_models_with_other_head_sizes_share_the_arena():
    """What one model writes into its blocks, through its own shape, leaves the other's untouched."""
    case = Case()
    wide = case.pool.reshape(N, 2, P // 2, 2 * D)
    free = jnp.asarray(sorted(set(range(N)) - set(case.table.ravel().tolist()))[:2], jnp.int32).reshape(1, 1, 2)
    k = jnp.ones((4, 1, 2 * D), jnp.float32)
    wide = reference.write(wide, k, 2 * k, placed_tokens(free, jnp.zeros(4, jnp.int32)), jnp.arange(4, dtype=jnp.int32))
    assert np.asarray(wide[free[0, 0, 0], 1]).tolist() == np.full((P // 2, 2 * D), 2.0).tolist()
    assert decode_error(case, pool=wide.reshape(case.pool.shape)) < LIMIT


@pytest.mark.parametrize("counts", [(5, 0, 70, 64, 1), (0, 0, 0, 0, 0), (0, 0, 140, 0, 0), (1, 1, 1, 1, 1), (0, 0, 0, 0, 140)])
def test_rows_are_multiplied_by_the_matrix_they_belong_to(counts):
    """Also where they are more than are multiplied at once; matrices without a row are NaN here, and other places are zero."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((160, 6)), rng.standard_normal((5, 6, 4))
    expected = np.zeros((160, 4))
    for matrix, first in enumerate(reference.first_rows(jnp.asarray(counts)).tolist()):
        assert first % 8 == 0
        rows = slice(first, first + counts[matrix])
        expected[rows] = x[rows] @ w[matrix]
    w[np.array(counts) == 0] = np.nan
    w_LXIO = jnp.asarray(np.stack([np.full_like(w, np.nan), w]), jnp.float32)
    actual = reference.grouped_product(jnp.asarray(x, jnp.float32), w_LXIO, jnp.int32(1), jnp.asarray(counts))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


SIZES = np.array([[1], [300], [1e-3], [0], [1], [1]])
"""Of tokens: one of zeros too, and some so large and so small that they need scales of their own."""


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("bfloat16", 2**-7), ("float16", 2**-9)])
def test_a_product_in_fp8_is_exact_for_tokens_that_fp8_holds(dtype, rounding):
    rng = np.random.default_rng(2)
    numbers = rng.standard_normal((6, 96)).astype(jnp.float8_e4m3fn).astype(np.float64)
    numbers[:, 5] = 448 / 128
    x = jnp.asarray(numbers * 2.0 ** np.round(np.log2(np.maximum(SIZES, 2**-20))) * (SIZES > 0), dtype)
    w, scale = jnp.asarray(rng.standard_normal((96, 40)) * 100, jnp.float8_e4m3fn), rng.uniform(1e-3, 2e-3, (1, 40)).astype(np.float32)
    exact = np.asarray(x, np.float64) @ np.asarray(w, np.float64) * scale
    found = np.asarray(reference.product_in_fp8(x, w, jnp.asarray(scale)), np.float64)
    assert found.shape == exact.shape and not found[3].any()
    assert (np.abs(found - exact) <= rounding * np.abs(exact).max(axis=1, keepdims=True)).all()


def test_a_product_in_fp8_rounds_each_number_of_a_token_to_the_nearest():
    """By half a step of three bits, or of the smallest step there is, as the token's largest number is 448 of them."""
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal((6, 96)) * SIZES).astype(np.float32), rng.standard_normal((96, 40)).astype(jnp.float8_e4m3fn)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    found = np.asarray(reference.product_in_fp8(jnp.asarray(x), jnp.asarray(w), jnp.ones((1, 40))), np.float64)
    step = np.maximum(np.abs(x) / 16, np.abs(x).max(axis=1, keepdims=True) / 448 * 2**-10)
    limit = step @ np.abs(w.astype(np.float64)) * 1.0001
    assert (np.abs(found - exact) <= limit).all()
    assert (np.abs(found - exact).max(axis=1) > limit.max(axis=1) / 100)[SIZES[:, 0] > 0].all()  # it did round


def test_what_has_no_scale_of_each_output_in_fp8_is_multiplied_as_ever():
    rng = np.random.default_rng(3)
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((4, 8), (8, 6)))
    for matrix in ((w,), (w.astype(jnp.float8_e4m3fn), jnp.ones((2, 6))), (w.astype(jnp.int8), jnp.ones((1, 6)))):
        np.testing.assert_array_equal(reference.product_in_fp8(x, *matrix), reference.product(x, *matrix))


def test_latents_are_k_and_v_of_one_head_and_what_lies_behind_them_in_a_block_is_never_read():
    """Blocks of 64 numbers have 4 latents of 14, and 8 numbers that stay NaN."""
    rng = np.random.default_rng(1)
    count, size, heads = 11, 14, 3
    latents = rng.standard_normal((count, 1, size)).astype(np.float32)
    table = rng.permutation(N)[:3].reshape(1, 1, 3).astype(np.int32)
    places, position = placed_tokens(jnp.asarray(table), np.zeros(count, np.int32)), jnp.arange(count)
    pool = reference.write(jnp.full((N, 64), jnp.nan), jnp.asarray(latents), jnp.asarray(latents), places, position)
    assert np.isnan(np.asarray(pool)[table.ravel(), 56:]).all()
    q = rng.standard_normal((1, heads, size)).astype(np.float32)
    actual = reference.decode(jnp.asarray(q), pool, placed(jnp.asarray(table)), jnp.array([count]), scale=0.3)
    scores = np.exp(0.3 * q[0] @ latents[:, 0].T)
    np.testing.assert_allclose(actual[0], (scores / scores.sum(-1, keepdims=True)) @ latents[:, 0], rtol=1e-5)
