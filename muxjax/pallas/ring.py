"""Rings of tiles of keys and values in shared memory, which some warpgroups fill and others read.

Keys and values of FP8 go through two of them, since wgmma takes operands of one dtype: they are copied into a first ring, and widened from
there into a second one.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from muxjax.pallas.mosaic import M, rem, tiled

_COLUMNS = 128
"""Of FP8 in a swizzled row."""

_MOST = 0x5F00
"""448 as float16 has it, the largest number of FP8."""


class Ring(NamedTuple):
    """Tiles, and the barriers of each; s counts stages. Who fills a stage waits until it is free, who reads it until it is full."""

    k_sSD: Any
    v_sSD: Any
    k_full_s: Any
    v_full_s: Any
    k_free_s: Any
    v_free_s: Any

    @property
    def stages(self) -> int:
        return self.k_sSD.shape[0]

    @property
    def kinds(self) -> tuple[tuple[Any, Any, Any], ...]:
        """Tiles, full and free, of keys and of values."""
        return (self.k_sSD, self.k_full_s, self.k_free_s), (self.v_sSD, self.v_full_s, self.v_free_s)

    def drain(self, tiles) -> None:
        """Waits until all of so many tiles have been read: a barrier must not go while somebody may arrive at it."""

        def wait(step, _):
            for _, _, free in self.kinds:
                plgpu.barrier_wait(free.at[rem(step, self.stages)])

        lax.fori_loop(jnp.maximum(tiles - self.stages, 0), tiles, wait, None)


def ring(stages: int, tile_tokens: int, head_dim: int, dtype, *, fills: int, readers: int) -> Ring:
    """Shared memory of one, whose tiles are filled by so many copies or arrivals, and read by so many warpgroups."""
    tiles = tiled((stages, tile_tokens, head_dim), dtype)
    full = plgpu.Barrier(num_barriers=stages, num_arrivals=fills)
    free = plgpu.Barrier(num_barriers=stages, num_arrivals=readers)
    return Ring(k_sSD=tiles, v_sSD=tiles, k_full_s=full, v_full_s=full, k_free_s=free, v_free_s=free)


def widen(begin, end, narrow: Ring, wide: Ring) -> None:
    """Fills a ring with the tiles of another one, which are FP8, from one number to another; by one warpgroup."""
    lax.fori_loop(begin, end, lambda tile, _: _widen_tile(tile, narrow, wide), None)


def _widen_tile(tile, narrow: Ring, wide: Ring) -> None:
    source, target = rem(tile, narrow.stages), rem(tile, wide.stages)
    for (narrow_sSD, narrow_full, narrow_free), (wide_sSD, wide_full, wide_free) in zip(narrow.kinds, wide.kinds, strict=True):
        plgpu.barrier_wait(narrow_full.at[source])
        pl.when(tile >= wide.stages)(lambda wide_free=wide_free: plgpu.barrier_wait(wide_free.at[target]))
        for part in _parts(*wide_sSD.shape[1:]):
            numbers = plgpu.load(narrow_sSD.at[source, *part], layout=plgpu.Layout.WGMMA_UPCAST_4X)  # pyright: ignore[reportCallIssue]
            wide_sSD.at[target, *part][...] = widened(numbers, wide_sSD.dtype)
        plgpu.commit_smem()
        plgpu.barrier_arrive(narrow_free.at[source])
        plgpu.barrier_arrive(wide_full.at[target])


def _parts(rows: int, columns: int) -> Iterator[tuple[Any, Any]]:
    """Slices of a tile, as much of it as there are registers for."""
    for row, column in product(range(0, rows, M), range(0, columns, _COLUMNS)):
        yield pl.ds(row, M), pl.ds(column, min(_COLUMNS, columns))


def widened(numbers: jax.Array, dtype) -> jax.Array:
    """FP8 in a wider dtype. What is NaN, as another model's bytes in a block may be, becomes a number, for it may be multiplied by zero.

    Hopper converts FP8 to float16 alone. The bits of that are in the order of its numbers' sizes, read as unsigned integers where they are
    negative, as signed ones where they are positive, and NaN comes last.
    """
    bits = lax.bitcast_convert_type(numbers.astype(jnp.float16), jnp.uint16)
    bits = jnp.minimum(bits, jnp.full_like(bits, 0x8000 | _MOST)).astype(jnp.int16)
    bits = jnp.minimum(bits, jnp.full_like(bits, _MOST))
    return lax.bitcast_convert_type(bits, jnp.float16).astype(jnp.float32).astype(dtype)
