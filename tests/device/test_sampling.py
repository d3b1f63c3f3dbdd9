"""Drawing tokens: filters, seeds and independence of neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.device.sampling import Rows, greedy
from muxjax.device.sampling import sample as draw_rows
from muxjax.engine.executor import NO_TOKEN

V = 12


@jax.jit
def draw(logits_BV, rows, position_B):
    return draw_rows(logits_BV, greedy(logits_BV), rows, position_B)


def rows(count: int, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0) -> Rows:
    """Equal settings for all, with seeds counting up."""
    full = np.full(count, 1.0, np.float32)
    seeds = np.arange(seed, seed + count, dtype=np.uint32)
    return Rows(
        temperature=jnp.asarray(full * temperature),
        top_k=jnp.full(count, top_k, jnp.int32),
        top_p=jnp.asarray(full * top_p),
        min_p=jnp.asarray(full * min_p),
        key_B2=jnp.stack([jnp.asarray(seeds), jnp.zeros(count, jnp.uint32)], axis=1),
    )


LOGITS = np.log(np.array([0.4, 0.2, 0.15, 0.1, 0.05, 0.04, 0.03, 0.02, 0.005, 0.003, 0.0015, 0.0005], np.float32))
MANY = 8192


def frequencies(**settings) -> np.ndarray:
    """Share of each token in many draws from LOGITS."""
    tokens = draw(jnp.tile(LOGITS, (MANY, 1)), rows(MANY, **settings), jnp.zeros(MANY, jnp.int32))
    return np.bincount(np.asarray(tokens), minlength=V) / MANY


def test_plain_draws_follow_the_distribution():
    np.testing.assert_allclose(frequencies(), np.exp(LOGITS), atol=4 * np.sqrt(0.25 / MANY))


def test_temperature_sharpens():
    sharp = np.exp(LOGITS / 0.5) / np.exp(LOGITS / 0.5).sum()
    np.testing.assert_allclose(frequencies(temperature=0.5), sharp, atol=4 * np.sqrt(0.25 / MANY))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 1}, 1),
        ({"top_k": 3}, 3),
        ({"top_k": 99}, V),
        ({"top_p": 0.4}, 1),
        ({"top_p": 0.41}, 2),
        ({"top_p": 0.75}, 3),
        ({"top_p": 1e-6}, 1),
        ({"min_p": 0.3}, 3),
        ({"min_p": 1.0}, 1),
        ({"top_k": 4, "top_p": 0.6}, 2),  # of the four that top-k leaves, 0.4 / 0.85 and 0.2 / 0.85 hold 0.7
        ({"top_k": 2, "top_p": 0.99, "min_p": 0.6}, 1),
    ],
)
def test_filters_keep_exactly_the_likeliest(settings, kept):
    share = frequencies(**settings)
    expected = np.where(np.arange(V) < kept, np.exp(LOGITS), 0)
    np.testing.assert_allclose(share, expected / expected.sum(), atol=4 * np.sqrt(0.25 / MANY))
    assert not share[kept:].any()


@pytest.mark.parametrize("top_k", [1, 2, 3, 50])
def test_top_k_holds_however_its_probabilities_round(top_k):
    """In float32 those of k tokens do not always add up to 1."""
    logits = jax.random.normal(jax.random.key(2), (512, 640))
    tokens = np.asarray(draw(logits, rows(512, top_k=top_k, temperature=1.5), jnp.zeros(512, jnp.int32)))
    likelier = (np.asarray(logits) > np.take_along_axis(np.asarray(logits), tokens[:, None], axis=1)).sum(axis=1)
    assert likelier.max() < top_k


def test_temperature_zero_is_the_argmax_whatever_the_filters_say():
    settings = rows(3, temperature=0.0, top_k=5, top_p=0.1, min_p=0.5)
    logits = jax.random.normal(jax.random.key(0), (3, V))
    assert draw(logits, settings, jnp.zeros(3, jnp.int32)).tolist() == jnp.argmax(logits, -1).tolist()


@settings(max_examples=25)
@given(row=st.integers(0, 7), neighbours=st.integers(0, 2**31), position=st.integers(0, 2**20))
def test_a_rows_token_depends_on_nothing_but_its_logits_seed_and_position(row, neighbours, position):
    logits = jax.random.normal(jax.random.key(1), (1, V))
    alone = draw(logits, rows(1, top_k=5, seed=42), jnp.array([position]))
    others = jax.random.normal(jax.random.key(neighbours), (8, V)).at[row].set(logits[0])
    mixed = rows(8, temperature=0.7, top_p=0.5, seed=neighbours % 1000)
    mine = rows(1, top_k=5, seed=42)
    mixed = Rows(*(theirs.at[row].set(own[0]) for theirs, own in zip(mixed, mine, strict=True)))
    assert draw(others, mixed, jnp.arange(8).at[row].set(position))[row] == alone[0]


def test_another_seed_or_position_draws_anew():
    logits = jnp.zeros((64, V))
    same = draw(logits, rows(64), jnp.arange(64))
    assert (same != draw(logits, rows(64, seed=64), jnp.arange(64))).mean() > 0.5
    assert (same != draw(logits, rows(64), jnp.arange(64) + 1)).mean() > 0.5
    assert same.tolist() == draw(logits, rows(64), jnp.arange(64)).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_with_a_logit_that_is_not_finite_has_no_token_and_its_neighbours_have_theirs(bad, temperature):
    logits_BV = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    logits_BV[1, 2] = bad
    greedy_B = np.asarray(greedy(jnp.asarray(logits_BV)))
    assert greedy_B.tolist() == [3, NO_TOKEN, 3]
    drawn_B = np.asarray(draw(jnp.asarray(logits_BV), rows(3, temperature=temperature), jnp.arange(3)))
    assert drawn_B[1] == NO_TOKEN and (drawn_B[[0, 2]] >= 0).all()


def test_a_token_that_is_merely_impossible_is_no_fault():
    logits_BV = jnp.array([[-jnp.inf, 1.0], [-jnp.inf, -jnp.inf]])
    assert greedy(logits_BV).tolist() == [1, NO_TOKEN]
