"""Rows multiplied by the matrix that each belongs to, for Hopper GPUs, in Mosaic GPU. Meaning: `reference.grouped_product`.

The rows of each matrix are cut into bands, none of which has rows of two. A tile is a band by some columns; thread blocks, one on each
multiprocessor, take every so-manieth of them, and read a matrix once for each of its bands. One warpgroup copies; two multiply, side by
side, and store while the next tile arrives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from muxjax.pallas import reference
from muxjax.pallas.mosaic import COLUMNS, GROUP, M, div, drain, rem, summed_steps, tiled

assert reference.ROW_GRAIN == GROUP, "a group of rows that is copied at once is of one matrix"

WARPGROUPS = 2
"""Warpgroups that multiply; one more copies."""

COLUMN = 128
"""Columns of a tile that each of them has."""

DEPTH = COLUMNS
"""Summands of a step."""

STAGES = 4
"""Steps whose operands are in flight: all that shared memory holds beside what is stored."""

BLOCKS = 132
"""Thread blocks: the multiprocessors of an H200, and of most H100."""


def grouped_product(
    x_PI: jax.Array,
    w_LXIO: jax.Array,
    layer: jax.Array,
    count_X: jax.Array,
    scale_LXJO: jax.Array | None = None,
    zero_LXJO: jax.Array | None = None,
) -> jax.Array:
    """See `reference.grouped_product`; P is a multiple of 8, and places of no row's group have what was in the memory. Of other dtypes than
    bf16, of quantised matrices, and of those with I or O that is no multiple of 64, it is the reference's."""
    (places, depth), columns = x_PI.shape, w_LXIO.shape[3]
    if scale_LXJO is not None or x_PI.dtype != jnp.bfloat16 or depth % DEPTH or columns % COLUMNS:
        return reference.grouped_product(x_PI, w_LXIO, layer, count_X, scale_LXJO, zero_LXJO)
    kernel = _Kernel(columns=-(-columns // (WARPGROUPS * COLUMN)), steps=depth // DEPTH)
    return plgpu.kernel(
        kernel,
        out_type=jax.ShapeDtypeStruct((places, columns), x_PI.dtype),
        scratch_types=(kernel.scratch(x_PI.dtype),),
        grid=(BLOCKS,),
        grid_names=("block",),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        kernel_name="grouped_product",
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
    )(x_PI, w_LXIO, _bands(layer, count_X, places))


def _bands(layer: jax.Array, count_X: jax.Array, places: int) -> jax.Array:
    """[W + 1, 4] int32: of each band its layer, its matrix, its first row and how many groups of rows; at the end, how many there are."""
    most = min(len(count_X), places // GROUP) + places // M
    bands_X = (count_X + M - 1) // M
    end_X = jnp.cumsum(bands_X)
    band_W = jnp.arange(most, dtype=jnp.int32)
    matrix_W = jnp.minimum((band_W[:, None] >= end_X).sum(axis=1), len(count_X) - 1)
    done_W = M * (band_W - (end_X - bands_X)[matrix_W])
    groups_W = jnp.clip((count_X[matrix_W] - done_W + GROUP - 1) // GROUP, 0, M // GROUP)
    rows_W = reference.first_rows(count_X)[matrix_W] + done_W
    bands_W4 = jnp.stack([jnp.broadcast_to(layer, most), matrix_W, rows_W, groups_W], axis=1)
    return jnp.concatenate([bands_W4, jnp.broadcast_to(end_X[-1], (1, 4))]).astype(jnp.int32)


class _Shared(NamedTuple):
    """Shared memory and barriers of a thread block; s counts stages, w warpgroups, h halves of a warpgroup's columns."""

    x_sMI: Any
    w_swIO: Any
    out_whMO: Any
    full_s: Any
    free_s: Any


class _Tile(NamedTuple):
    """A tile of the result."""

    layer: jax.Array
    matrix: jax.Array
    row: jax.Array
    """Its first one."""
    groups: jax.Array
    """Of rows that are the matrix's."""
    column: jax.Array
    """Its place among those of a band."""
    step: jax.Array
    """Steps of the block before it."""

    def columns(self, warpgroup, begin: int = 0, count: int = COLUMN) -> Any:
        """Some of those that a warpgroup has."""
        return pl.ds((self.column * WARPGROUPS + warpgroup) * COLUMN + begin, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """The program of a thread block: its tiles, so many side by side in a band, of so many steps each."""

    columns: int
    steps: int

    def scratch(self, dtype) -> _Shared:
        return _Shared(
            x_sMI=tiled((STAGES, M, DEPTH), dtype),
            w_swIO=tiled((STAGES, WARPGROUPS, DEPTH, COLUMN), dtype),
            out_whMO=tiled((WARPGROUPS, COLUMN // COLUMNS, M, COLUMNS), dtype),
            full_s=plgpu.Barrier(num_barriers=STAGES, num_arrivals=1 + WARPGROUPS),
            free_s=plgpu.Barrier(num_barriers=STAGES, num_arrivals=WARPGROUPS),
        )

    def __call__(self, x_PI, w_LXIO, bands_W4, y_PO, shared: _Shared):
        warpgroup = lax.axis_index("warpgroup")

        @pl.when(warpgroup == WARPGROUPS)
        def _():
            plgpu.set_max_registers(40, action="decrease")
            drain(self._each_tile(bands_W4, lambda tile: self._fetch(tile, x_PI, w_LXIO, shared)), shared.free_s)

        @pl.when(warpgroup < WARPGROUPS)
        def _():
            plgpu.set_max_registers(232, action="increase")
            self._each_tile(bands_W4, lambda tile: self._store(tile, self._multiply(tile, shared), y_PO, shared))
            plgpu.wait_smem_to_gmem(0)

    def _each_tile(self, bands_W4, work: Callable[[_Tile], None]) -> jax.Array:
        """Steps of all tiles, which are worked on one after the other."""
        block, most = lax.axis_index("block"), bands_W4.shape[0] - 1
        count = div(bands_W4[most, 0] * self.columns - block + BLOCKS - 1, BLOCKS)

        def tile(i, _):
            index = block + i * BLOCKS
            band = div(index, self.columns)
            layer, matrix, row, groups = (bands_W4[band, field] for field in range(4))
            work(_Tile(layer, matrix, row, groups, rem(index, self.columns), i * self.steps))

        lax.fori_loop(0, count, tile, None)
        return count * self.steps

    def _fetch(self, tile: _Tile, x_PI, w_LXIO, shared: _Shared):
        """Copies the operands of each step as stages come free; what lies outside of an array is zero."""

        def fetch(i, _):
            stage, depth = rem(tile.step + i, STAGES), pl.ds(i * DEPTH, DEPTH)
            pl.when(tile.step + i >= STAGES)(lambda: plgpu.barrier_wait(shared.free_s.at[stage]))
            plgpu.copy_gmem_to_smem(x_PI.at[pl.ds(tile.row, M), depth], shared.x_sMI.at[stage], shared.full_s.at[stage])
            for warpgroup in range(WARPGROUPS):
                matrix = w_LXIO.at[tile.layer, tile.matrix, depth, tile.columns(warpgroup)]
                plgpu.copy_gmem_to_smem(matrix, shared.w_swIO.at[stage, warpgroup], shared.full_s.at[stage])

        lax.fori_loop(0, self.steps, fetch, None)

    def _multiply(self, tile: _Tile, shared: _Shared) -> jax.Array:
        """[M, COLUMN] float32, this warpgroup's columns of a tile."""
        warpgroup = lax.axis_index("warpgroup")

        def operands(stage):
            return shared.x_sMI.at[stage], shared.w_swIO.at[stage, warpgroup]

        return summed_steps((M, COLUMN), operands, tile.step, self.steps, shared.full_s, shared.free_s)

    def _store(self, tile: _Tile, values, y_PO, shared: _Shared):
        """Writes this warpgroup's columns, those groups of rows that are the matrix's; what lies outside of the array is dropped."""
        warpgroup = lax.axis_index("warpgroup")
        plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the tile before this has left
        for half, column in enumerate(range(0, COLUMN, COLUMNS)):
            shared.out_whMO.at[warpgroup, half][...] = values[:, column : column + COLUMNS].astype(y_PO.dtype)
        plgpu.commit_smem()
        for half, column in enumerate(range(0, COLUMN, COLUMNS)):
            target = tile.columns(warpgroup, column, COLUMNS)
            for group in range(M // GROUP):

                @pl.when(group < tile.groups)
                def _(group=group, half=half, target=target):
                    rows = shared.out_whMO.at[warpgroup, half, pl.ds(group * GROUP, GROUP)]
                    plgpu.copy_smem_to_gmem(rows, y_PO.at[pl.ds(tile.row + group * GROUP, GROUP), target])
