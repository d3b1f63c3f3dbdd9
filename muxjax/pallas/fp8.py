"""FP8 numbers in an arena of wider words, so that models with an FP8 cache and others share one array.

A head's numbers lie in their order, as many in a word as it has bytes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

FP8 = np.dtype(jnp.float8_e4m3fn)
MOST = float(jnp.finfo(FP8).max)
"""The largest number of FP8. It has no infinity: what is larger would become NaN."""


def pack(x: jax.Array, word: np.dtype) -> jax.Array:
    """Finite numbers [..., D], rounded to FP8 and no larger than it has, in words [..., D / bytes of a word].

    Shifted together byte by byte, which XLA does in the kernel that writes them; a bitcast to wider words would be two kernels of its own.
    """
    bits = jax.lax.bitcast_convert_type(jnp.clip(x, -MOST, MOST).astype(FP8), jnp.uint8)
    bits = bits.reshape(*x.shape[:-1], -1, word.itemsize).astype(f"uint{8 * word.itemsize}")
    words = functools.reduce(jnp.bitwise_or, (bits[..., place] << 8 * place for place in range(word.itemsize)))
    return jax.lax.bitcast_convert_type(words, word)


def unpack(words: jax.Array) -> jax.Array:
    """FP8 numbers [..., D] of words [..., D / bytes of a word]; NaN where the bytes are no numbers, as another model's may be."""
    return jax.lax.bitcast_convert_type(words, FP8).reshape(*words.shape[:-1], -1)
