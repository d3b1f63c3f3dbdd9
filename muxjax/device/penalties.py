"""Logits processors on the device: penalties, biases, bans and masks of grammars, before a token is chosen."""

import jax
import jax.numpy as jnp

from muxjax.engine.executor import NOTHING_LEFT

PROMPT, MADE = 1, 2
"""Weights of a token in a slot's count of it: in the prompt or not x PROMPT + times made x MADE."""

MOST = 2**15 - 4
"""A count goes no further: int16 would, to its end."""


def process_logits(
    logits_BV: jax.Array, counts_BV: jax.Array, penalties_B3: jax.Array, edits_U3: jax.Array, bits_BW: jax.Array
) -> jax.Array:
    """[B, V] logits to draw from: penalized, then edited, then masked.

    Args:
      counts_BV: what each row's slot has of each token; of no account where penalties are neutral.
      penalties_B3: presence, frequency and repetition penalty.
      edits_U3: int32: row, token and what is added, as the bits of a float; a padding entry has a row beyond all.
      bits_BW: uint32: bit v % 32 of word v // 32 allows token v.
    """
    row_U, token_U, add_U = edits_U3[:, 0], edits_U3[:, 1], jax.lax.bitcast_convert_type(edits_U3[:, 2], jnp.float32)
    edited_BV = _penalized(logits_BV, counts_BV, penalties_B3).at[row_U, token_U].add(add_U, mode="drop")
    allowed_BV = (bits_BW[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    allowed_BV = allowed_BV.reshape(len(bits_BW), -1)[:, : logits_BV.shape[1]] > 0
    return jnp.where(allowed_BV, edited_BV, -jnp.inf)


def likeliest(logits_BV: jax.Array, tokens_B: jax.Array) -> jax.Array:
    """[B] int32: the likeliest token left of each row, NOTHING_LEFT where none is; as before where there was no token before."""
    token_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    best_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=-1)[:, 0]
    return jnp.where(tokens_B < 0, tokens_B, jnp.where(jnp.isneginf(best_B), NOTHING_LEFT, token_B))


def count_tokens(counts_SV: jax.Array, slot_B: jax.Array, tokens_B: jax.Array) -> jax.Array:
    """The counts with a token more in each of different slots; a slot beyond all has none, nor a row without a token."""
    slot_B = jnp.where(tokens_B < 0, len(counts_SV), slot_B)
    old_B = counts_SV.at[slot_B, tokens_B].get(mode="clip")
    return counts_SV.at[slot_B, tokens_B].set(jnp.where(old_B < MOST, old_B + MADE, old_B), mode="drop")


def _penalized(logits_BV: jax.Array, counts_BV: jax.Array, penalties_B3: jax.Array) -> jax.Array:
    presence_B1, frequency_B1, repetition_B1 = (penalties_B3[:, i : i + 1] for i in range(3))
    repeated_BV = jnp.where(logits_BV > 0, logits_BV / repetition_B1, logits_BV * repetition_B1)
    made_BV = counts_BV // MADE
    logits_BV = jnp.where(counts_BV > 0, repeated_BV, logits_BV)
    return logits_BV - presence_B1 * (made_BV > 0) - frequency_B1 * made_BV
