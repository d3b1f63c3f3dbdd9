"""Choosing tokens on the device, behind a step's logits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from muxjax.engine.executor import NO_TOKEN


class Rows(NamedTuple):
    """Sampling of each row, [B] each; see `types.Sampling`. key_B2: the seed as two uint32."""

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    min_p: jax.Array
    key_B2: jax.Array


def greedy(logits_BV: jax.Array) -> jax.Array:
    """[B] int32: the likeliest token of each row, the first of equals; NO_TOKEN where that has no finite logit.

    It has none in a row with a NaN or a positive infinity anywhere: argmax takes the first of them.
    """
    token_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    best_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=-1)[:, 0]
    return jnp.where(jnp.isfinite(best_B), token_B, NO_TOKEN)


def sample(logits_BV: jax.Array, greedy_B: jax.Array, rows: Rows, position_B: jax.Array) -> jax.Array:
    """[B] int32: a token for each row. Randomness depends on the row's seed and position alone, never on its neighbours in the batch.

    Args:
      greedy_B: what rows of temperature 0 get, and those that it says have no token.
    """
    return jnp.where((rows.temperature > 0) & (greedy_B >= 0), _draw(logits_BV, rows, position_B), greedy_B)


def _draw(logits_BV: jax.Array, rows: Rows, position_B: jax.Array) -> jax.Array:
    """Gumbel-max over what the filters leave."""
    scaled_BV = logits_BV / jnp.maximum(rows.temperature, 1e-5)[:, None]
    filters_B = (rows.top_k > 0) | (rows.top_p < 1) | (rows.min_p > 0)
    kept_BV = jax.lax.cond((filters_B & (rows.temperature > 0)).any(), _filter, lambda scaled, _: scaled, scaled_BV, rows)

    def noise(key_2, position):
        key = jax.random.fold_in(jax.random.wrap_key_data(key_2, impl="threefry2x32"), position)
        return jax.random.gumbel(key, logits_BV.shape[-1:])

    return jnp.argmax(kept_BV + jax.vmap(noise)(rows.key_B2, position_B), axis=-1).astype(jnp.int32)


def _filter(scaled_BV: jax.Array, rows: Rows) -> jax.Array:
    """Minus infinity for tokens outside top-k, then outside top-p of those, or under min-p; ties stay together."""
    vocab = scaled_BV.shape[-1]
    sorted_BV = -jnp.sort(-scaled_BV, axis=-1)
    top_k_B = jnp.where(rows.top_k > 0, jnp.minimum(rows.top_k, vocab), vocab)
    in_top_k_BV = jnp.arange(vocab) < top_k_B[:, None]
    sorted_BV = jnp.where(in_top_k_BV, sorted_BV, -jnp.inf)
    probability_BV = jax.nn.softmax(sorted_BV, axis=-1)
    before_BV = jnp.cumsum(probability_BV, axis=-1) - probability_BV
    kept_BV = in_top_k_BV & (before_BV < rows.top_p[:, None])  # what is before others may round to less than 1
    kept_BV &= probability_BV >= rows.min_p[:, None] * probability_BV[:, :1]
    least_B1 = jnp.where(kept_BV, sorted_BV, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(scaled_BV >= least_B1, scaled_BV, -jnp.inf)
