"""Which implementation of the five operations a device gets."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from muxjax.pallas import reference


class Kernels(NamedTuple):
    """Implementations of `reference.write`, `decode`, `prefill`, `product`, `grouped_product` and `lora`.

    Args:
      ragged: attention costs what each row's own length does, however wide the tables are; else it computes on all their columns.
    """

    write: Callable
    decode: Callable
    prefill: Callable
    product: Callable
    grouped_product: Callable
    lora: Callable
    ragged: bool


REFERENCE = Kernels(
    reference.write, reference.decode, reference.prefill, reference.product, reference.grouped_product, reference.lora, ragged=False
)

_SHARES = (80, 96, 112)
_MULTIPROCESSORS = 132
"""Of an H200, and of most H100."""


def best(*, device_kind: str, dtype: np.dtype, head_dim: int, sinks: bool = False, latent: bool = False) -> Kernels:
    """The fastest there is for a device, by JAX's name of it, an arena of that dtype and heads of that size, with sinks or without, or
    latents.

    Mosaic kernels read bf16 on Hopper, and FP8 packed in it, in heads of 64, 128 or 256 without sinks; all else runs the reference, and
    latents of whatever size. Products are XLA's, but those by matrices of experts.
    """
    if not _reads_bf16(device_kind, dtype):
        return REFERENCE
    if head_dim in (64, 128, 256) and not sinks and not latent:
        return _hopper()
    return _hoppers_products()


def best_product(*, device_kind: str, dtype: np.dtype, ctas: int | None) -> Callable:
    """The product of a device for weights of that dtype: within so many multiprocessors on Hopper in bf16, XLA's where that is None or
    anywhere else.

    Raises:
      ValueError: no multiprocessor at all.
    """
    if ctas is not None and ctas < 1:
        raise ValueError(f"ctas must be at least 1, got {ctas}")
    if ctas is None or not _reads_bf16(device_kind, dtype):
        return reference.product
    return _within(ctas)


def shares(*, device_kind: str, dtype: np.dtype, multiprocessors: int | None = None) -> tuple[int, ...]:
    """How many of a device's multiprocessors `best_product` is worth having for, ascending, all of them last; none where it keeps to no
    share."""
    if not _reads_bf16(device_kind, dtype):
        return ()
    most = multiprocessors or _MULTIPROCESSORS
    return (*(share for share in _SHARES if share < most), most)


def _reads_bf16(device_kind: str, dtype: np.dtype) -> bool:
    """Whether there are Mosaic kernels for a device and that dtype."""
    return any(chip in device_kind for chip in ("H100", "H200")) and dtype.name == "bfloat16"


@functools.cache
def _hopper() -> Kernels:
    """Each is traced and assembled once for all layers of a program, which a jit of its own brings about."""
    from muxjax.pallas import decode, grouped, prefill, write  # Mosaic GPU, which older versions of JAX lack

    return Kernels(
        write.write,
        jax.jit(decode.decode, static_argnames=("window", "scale", "soft_cap", "tuning")),
        jax.jit(prefill.prefill, static_argnames=("window", "scale", "soft_cap", "tuning")),
        reference.product,
        jax.jit(grouped.grouped_product),
        reference.lora,
        ragged=True,
    )


@functools.cache
def _hoppers_products() -> Kernels:
    """For attention that no kernel of Hopper computes."""
    return REFERENCE._replace(grouped_product=_hopper().grouped_product)


@functools.cache
def _within(ctas: int) -> Callable:
    """One object for each share, so that each matrix's kernel is traced and assembled once for all layers."""
    from muxjax.pallas import product

    return jax.jit(functools.partial(product.product, ctas=ctas))
