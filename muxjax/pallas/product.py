"""A matrix product for Hopper GPUs that keeps to so many multiprocessors, written in Mosaic GPU. Meaning: `reference.product`.

As many thread blocks as it may use, each on a multiprocessor of its own, go through the tiles that they are dealt (`product_plan`): what
runs beside it has the others for itself. One warpgroup copies; two multiply, one above the other, and store while the next tile arrives.
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
from muxjax.pallas.mosaic import COLUMNS, GROUP, M, drain, rem, summed_steps, tiled
from muxjax.pallas.product_plan import BAND, COLUMN, Deal

WARPGROUPS = 2
"""Warpgroups that multiply; one more copies."""

DEPTH = COLUMNS
"""Summands of a step."""

STAGES = 4
"""Steps whose operands are in flight: all that shared memory holds beside what is stored."""


def product(
    x_TI: jax.Array, w_IO: jax.Array, scale_JO: jax.Array | None = None, zero_JO: jax.Array | None = None, *, ctas: int
) -> jax.Array:
    """See `reference.product`; bf16, on at most so many multiprocessors, or on all of them where I or O is no multiple of 64. A quantised
    matrix is widened first, on all of them."""
    (tokens, depth), columns = x_TI.shape, w_IO.shape[1]
    w_IO = w_IO if scale_JO is None else reference.widened(w_IO, scale_JO, zero_JO, x_TI.dtype)
    if depth % DEPTH or columns % COLUMNS:
        return reference.product(x_TI, w_IO)
    padding = -tokens % GROUP
    x_TI = jnp.pad(x_TI, ((0, padding), (0, 0))) if padding else x_TI
    kernel = _Kernel(deal=Deal.of(tokens, columns, ctas=ctas), steps=depth // DEPTH)
    y_TO = plgpu.kernel(
        kernel,
        out_type=jax.ShapeDtypeStruct((tokens + padding, columns), x_TI.dtype),
        scratch_types=(kernel.scratch(x_TI.dtype),),
        grid=(kernel.deal.blocks,),
        grid_names=("block",),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        kernel_name="product",
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Lane),
    )(x_TI, w_IO)
    return y_TO[:tokens] if padding else y_TO


class _Shared(NamedTuple):
    """Shared memory and barriers of a thread block; s counts stages, w warpgroups, h halves of a warpgroup's columns."""

    x_sRI: Any
    w_sIO: Any
    out_whMO: Any
    full_s: Any
    free_s: Any


class _Tile(NamedTuple):
    """A tile of the result."""

    bands: int
    """Two of a whole tile, one of half a tile."""
    band: jax.Array
    column: jax.Array
    step: jax.Array
    """Steps of the block before it."""

    def rows(self) -> Any:
        return pl.ds(self.band * BAND, self.bands * BAND)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """The program of a thread block: its tiles, of so many steps each."""

    deal: Deal
    steps: int

    def scratch(self, dtype) -> _Shared:
        return _Shared(
            x_sRI=tiled((STAGES, WARPGROUPS * BAND, DEPTH), dtype),
            w_sIO=tiled((STAGES, DEPTH, COLUMN), dtype),
            out_whMO=tiled((WARPGROUPS, COLUMN // COLUMNS, M, COLUMNS), dtype),
            full_s=plgpu.Barrier(num_barriers=STAGES, num_arrivals=2),
            free_s=plgpu.Barrier(num_barriers=STAGES, num_arrivals=WARPGROUPS),
        )

    def __call__(self, x_TI, w_IO, y_TO, shared: _Shared):
        warpgroup = lax.axis_index("warpgroup")

        @pl.when(warpgroup == WARPGROUPS)
        def _():
            plgpu.set_max_registers(40, action="decrease")
            drain(self._each_tile(lambda tile: self._fetch(tile, x_TI, w_IO, shared)), shared.free_s)

        @pl.when(warpgroup < WARPGROUPS)
        def _():
            plgpu.set_max_registers(232, action="increase")
            self._each_tile(lambda tile: self._store(tile, self._multiply(tile, shared), y_TO, shared))
            plgpu.wait_smem_to_gmem(0)

    def _each_tile(self, work: Callable[[_Tile], None]) -> jax.Array:
        """Steps of all tiles, which are worked on one after the other."""
        deal, block = self.deal, lax.axis_index("block")
        wholes, first = deal.wholes_of(block), deal.first_half(block)
        halves = deal.first_half(block + 1) - first

        def whole(i, _):
            work(_Tile(2, *deal.whole(block + i * deal.blocks), i * self.steps))

        def half(i, _):
            work(_Tile(1, *deal.half(first + i), (wholes + i) * self.steps))

        if deal.wholes:
            lax.fori_loop(0, wholes, whole, None)
        if deal.halves:
            lax.fori_loop(0, halves, half, None)
        return (wholes + halves) * self.steps

    def _fetch(self, tile: _Tile, x_TI, w_IO, shared: _Shared):
        """Copies the operands of each step as stages come free; what lies outside of an array is zero."""
        columns, part = pl.ds(tile.column * COLUMN, COLUMN), pl.ds(0, tile.bands * BAND)

        def fetch(i, _):
            stage, depth = rem(tile.step + i, STAGES), pl.ds(i * DEPTH, DEPTH)
            pl.when(tile.step + i >= STAGES)(lambda: plgpu.barrier_wait(shared.free_s.at[stage]))
            plgpu.copy_gmem_to_smem(x_TI.at[tile.rows(), depth], shared.x_sRI.at[stage, part], shared.full_s.at[stage])
            plgpu.copy_gmem_to_smem(w_IO.at[depth, columns], shared.w_sIO.at[stage], shared.full_s.at[stage])

        lax.fori_loop(0, self.steps, fetch, None)

    def _multiply(self, tile: _Tile, shared: _Shared) -> jax.Array:
        """[R, COLUMN] float32, this warpgroup's rows of a tile."""
        rows = tile.bands * BAND // WARPGROUPS
        part = pl.ds(lax.axis_index("warpgroup") * rows, rows)

        def operands(stage):
            return shared.x_sRI.at[stage, part], shared.w_sIO.at[stage]

        return summed_steps((rows, COLUMN), operands, tile.step, self.steps, shared.full_s, shared.free_s)

    def _store(self, tile: _Tile, values, y_TO, shared: _Shared):
        """Writes this warpgroup's rows, a part after another through two places; what lies outside of the array is dropped."""
        warpgroup, rows = lax.axis_index("warpgroup"), tile.bands * BAND // WARPGROUPS
        first_row, first_column = tile.band * BAND + warpgroup * rows, tile.column * COLUMN
        for row in range(0, rows, M):
            for half, column in enumerate(range(0, COLUMN, COLUMNS)):
                staged = shared.out_whMO.at[warpgroup, half]
                plgpu.wait_smem_to_gmem(1, wait_read_only=True)  # what was here before has left
                staged[...] = values[row : row + M, column : column + COLUMNS].astype(y_TO.dtype)
                plgpu.commit_smem()
                plgpu.copy_smem_to_gmem(staged, y_TO.at[pl.ds(first_row + row, M), pl.ds(first_column + column, COLUMNS)])
