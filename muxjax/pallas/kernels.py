"""Which implementation of the three operations a device gets."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from muxjax.pallas import reference


class Kernels(NamedTuple):
    """Implementations of `reference.write`, `reference.decode` and `reference.prefill`.

    Args:
      ragged: attention costs what each row's own length does, however wide the tables are; else it computes on all their columns.
    """

    write: Callable
    decode: Callable
    prefill: Callable
    ragged: bool


REFERENCE = Kernels(reference.write, reference.decode, reference.prefill, ragged=False)


def best(*, device_kind: str, dtype: np.dtype, head_dim: int) -> Kernels:
    """The fastest there is for a device, by JAX's name of it, an arena of that dtype and heads of that size.

    Mosaic kernels read bf16 on Hopper, in heads of 64, 128 or 256; all else runs the reference.
    """
    if any(chip in device_kind for chip in ("H100", "H200")) and dtype.name == "bfloat16" and head_dim in (64, 128, 256):
        return _hopper()
    return REFERENCE


@functools.cache
def _hopper() -> Kernels:
    """Each is traced and assembled once for all layers of a program, which a jit of its own brings about."""
    from muxjax.pallas import decode, prefill, write  # Mosaic GPU, which older versions of JAX lack

    return Kernels(
        write.write,
        jax.jit(decode.decode, static_argnames=("window", "soft_cap", "tuning")),
        jax.jit(prefill.prefill, static_argnames=("window", "soft_cap", "tuning")),
        ragged=True,
    )
