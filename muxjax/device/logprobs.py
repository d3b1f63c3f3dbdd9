"""Log-probabilities of tokens, and of the most likely ones in their places, on the device."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from muxjax.types import MOST_LOGPROBS

SCORED_AT_A_TIME = 128
"""Positions of a prompt whose logits exist at once."""


class TopTokens(NamedTuple):
    """Device's side of `step_controls.TopLogprobs`; N rows, K = MOST_LOGPROBS or the vocabulary, if that is smaller."""

    logprob_N: jax.Array
    top_token_NK: jax.Array
    top_logprob_NK: jax.Array


def token_logprobs(logits_NV: jax.Array, tokens_N: jax.Array) -> TopTokens:
    """Log-probabilities of one token a row; that of the likeliest one is the same number wherever it stands."""
    total_N1 = jax.nn.logsumexp(logits_NV, axis=-1, keepdims=True)
    top_NK, top_token_NK = _top(logits_NV, min(MOST_LOGPROBS, logits_NV.shape[-1]))
    own_N1 = jnp.take_along_axis(logits_NV, jnp.maximum(tokens_N, 0)[:, None], axis=-1)
    return TopTokens((own_N1 - total_N1)[:, 0], top_token_NK, top_NK - total_N1)


def prompt_logprobs(logits_of: Callable[[jax.Array], jax.Array], hidden_TM: jax.Array, follow_T: jax.Array) -> TopTokens:
    """Log-probabilities of the token that follows each position, a few positions at a time.

    Args:
      logits_of: [n, V] of [n, M].
    """

    def one(position: tuple[jax.Array, jax.Array]) -> TopTokens:
        hidden_M, token = position
        return TopTokens(*(array[0] for array in token_logprobs(logits_of(hidden_M[None]), token[None])))

    return jax.lax.map(one, (hidden_TM, follow_T), batch_size=SCORED_AT_A_TIME)


def _top(logits_NV: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """[N, most] the largest of each row and where they are, the first of equals first.

    So many passes over what is there: for more than 16, XLA has nothing but a sort of all, with two copies of the logits and most of
    the time to compile.
    """
    index_V = jnp.arange(logits_NV.shape[-1], dtype=jnp.int32)

    def next_token(last: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        value_N1, token_N1 = last
        left_NV = (logits_NV < value_N1) | (logits_NV == value_N1) & (index_V > token_N1)
        token_N1 = jnp.argmax(jnp.where(left_NV, logits_NV, -jnp.inf), axis=-1, keepdims=True).astype(jnp.int32)
        pair = jnp.take_along_axis(logits_NV, token_N1, axis=-1), token_N1
        return pair, pair

    rows = logits_NV.shape[0]
    none = jnp.full((rows, 1), jnp.inf), jnp.full((rows, 1), -1, jnp.int32)
    _, (values_KN1, tokens_KN1) = jax.lax.scan(next_token, none, length=most)
    return values_KN1[..., 0].T, tokens_KN1[..., 0].T
