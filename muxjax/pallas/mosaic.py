"""Tools that our Mosaic GPU kernels share: the layouts of wgmma, and integer arithmetic that stays 32-bit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

M = 64
"""Rows of one wgmma, those of a warpgroup."""

GROUP = 8
"""Rows that are copied at once: a tile of shared memory is cut into such groups."""

COLUMNS = 64
"""bf16 numbers in the 128 bytes of a swizzled row."""

MASKED = -1e30
"""First value of a running maximum; finite, so that a row that sees nothing in a tile stays without NaN."""


def tiled(shape: tuple[int, ...], dtype):
    """Shared memory that TMA fills and wgmma reads."""
    row_bytes = min(128, shape[-1] * dtype.itemsize)
    tiles, swizzle = plgpu.TilingTransform((GROUP, row_bytes // dtype.itemsize)), plgpu.SwizzleTransform(row_bytes)  # pyright: ignore[reportAbstractUsage]
    return plgpu.SMEM(shape, dtype, transforms=(tiles, swizzle))


def column(value: float) -> jax.Array:
    """[M] float32, as row reductions of a wgmma result are laid out."""
    return plgpu.layout_cast(jnp.full((M,), value, jnp.float32), plgpu.Layout.WGMMA.reduce(1))


def zeros(columns: int) -> jax.Array:
    """[M, columns] float32, laid out as a wgmma result."""
    return plgpu.layout_cast(jnp.zeros((M, columns), jnp.float32), plgpu.Layout.WGMMA)


def across(column_M: jax.Array, width: int) -> jax.Array:
    """[M, width]: a column repeated."""
    return lax.broadcast_in_dim(column_M, (M, width), (0,))


def product(left, right, columns: int) -> jax.Array:
    """[M, columns] float32 of two operands in shared memory, or the left one in registers."""

    def multiply(ref):
        plgpu.wgmma(ref, left, right)
        return ref[...]

    return pl.run_scoped(multiply, plgpu.WGMMAAccumulatorRef((M, columns), jnp.float32))


def add_product(acc_MN, left, right, *, in_place: bool):
    """acc + left x right. In place is what the hardware does; the interpreter has to add afterwards."""
    if in_place:
        return pl.run_state(lambda ref: plgpu.wgmma(ref, left, right))(plgpu.WGMMAAccumulatorRef.init(acc_MN))
    return acc_MN + product(left, right, acc_MN.shape[1])


def summed_steps(shape: tuple[int, int], operands: Callable[[jax.Array], tuple[Any, Any]], first, steps: int, full_s, free_s) -> jax.Array:
    """float32 of that shape, the sum of what so many steps multiply. A stage is free once the product after it is under way.

    Args:
      operands: of a stage, in shared memory.
      first: steps before the first of these; full_s, free_s: barriers of the stages, which they take in turns.
    """
    stages = free_s.shape[0]

    def free(step):
        plgpu.barrier_arrive(free_s.at[rem(step, stages)])

    def multiply(acc):
        def add(i, _):
            stage = rem(first + i, stages)
            plgpu.barrier_wait(full_s.at[stage])
            plgpu.wgmma(acc, *operands(stage))
            plgpu.wgmma_wait(1)
            pl.when(i > 0)(lambda: free(first + i - 1))

        lax.fori_loop(0, steps, add, None)
        plgpu.wgmma_wait(0)
        free(first + steps - 1)
        return acc[...]

    return pl.run_scoped(multiply, plgpu.WGMMAAccumulatorRef(shape, jnp.float32))


def drain(steps, free_s) -> None:
    """Waits until all that was copied in so many steps has been used: a barrier must not go while somebody may arrive at it."""
    stages = free_s.shape[0]
    lax.fori_loop(jnp.maximum(steps - stages, 0), steps, lambda step, _: plgpu.barrier_wait(free_s.at[rem(step, stages)]), None)


def div(number, by: int):
    """Of numbers that are not negative: no rounding to mend."""
    return lax.div(number, jnp.full_like(number, by))


def rem(number, by: int):
    """Of numbers that are not negative."""
    return lax.rem(number, jnp.full_like(number, by))
