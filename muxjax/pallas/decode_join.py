"""The second kernel of decode attention: parts of a segment that several pieces worked on become one."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from muxjax.pallas.decode_plan import Sizes
from muxjax.pallas.mosaic import MASKED, M, across, column, rem, tiled, zeros

STAGE_BYTES = 176 * 1024
"""Bytes of shared memory for parts in flight while they are joined: those of one long sequence all at once."""


def join(sizes: Sizes, dtype) -> Callable:
    """A kernel of (part_P2RD, lse_P2M, plan_P, out_BKGD), which writes into the last."""
    program = _Join(sizes=sizes)
    return plgpu.kernel(
        program,
        out_type=(),
        scratch_types=program.scratch(dtype),
        grid=(sizes.tuning.pieces,),
        grid_names=("piece",),
        num_threads=1,
        thread_name="role",
        kernel_name="decode_join",
        compiler_params=plgpu.CompilerParams(approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Lane),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Join:
    """The program that joins the parts of segments on several pieces, in the piece that began them."""

    sizes: Sizes

    def scratch(self, dtype):
        stages = STAGE_BYTES // (M * self.sizes.head_dim * dtype.itemsize)
        values, sums = tiled((stages, M, self.sizes.head_dim), dtype), plgpu.SMEM((stages, M), jnp.float32)
        return values, sums, plgpu.Barrier(num_arrivals=2, num_barriers=stages), plgpu.SMEM((M, self.sizes.head_dim), dtype)

    def __call__(self, part_P2RD, lse_P2M, plan_P, out_BKGD, values_jMD, lse_jM, full_j, joined_MD):
        piece, rows = lax.axis_index("piece"), pl.ds(0, self.sizes.rows)
        joins, head_dim, stages = plan_P[piece, 7], self.sizes.head_dim, values_jMD.shape[0]

        def load(i):
            slot, which = rem(i, stages), jnp.where(i == 0, 1, 0)
            plgpu.copy_gmem_to_smem(part_P2RD.at[piece + i, which], values_jMD.at[slot, rows], full_j.at[slot])
            plgpu.copy_gmem_to_smem(lse_P2M.at[piece + i, which], lse_jM.at[slot], full_j.at[slot])

        def add(i, carry):
            acc, top, total = carry
            slot = rem(i, stages)
            plgpu.barrier_wait(full_j.at[slot])
            lse = plgpu.load(lse_jM.at[slot], layout=plgpu.Layout.WGMMA.reduce(1), optimized=False)  # pyright: ignore[reportCallIssue]
            values = plgpu.load(values_jMD.at[slot], layout=plgpu.Layout.WGMMA).astype(jnp.float32)  # pyright: ignore[reportCallIssue]

            @pl.when(i + stages <= joins)
            def _():
                plgpu.commit_smem()  # all have read before another part is copied over it
                load(i + stages)

            new_top = jnp.maximum(top, lse)
            shrink, weight = jnp.exp2(top - new_top), jnp.exp2(lse - new_top)
            return acc * across(shrink, head_dim) + values * across(weight, head_dim), new_top, total * shrink + weight

        @pl.when(joins > 0)
        def _():
            lax.fori_loop(0, jnp.minimum(joins + 1, stages), lambda i, _: load(i), None)
            acc, _, total = lax.fori_loop(0, joins + 1, add, (zeros(head_dim), column(MASKED), column(0.0)))
            joined_MD[...] = (acc / across(total, head_dim)).astype(out_BKGD.dtype)
            plgpu.commit_smem()
            row, head = plan_P[piece, 5], plan_P[piece, 6]
            plgpu.copy_smem_to_gmem(joined_MD.at[self.sizes.own_rows(head)], out_BKGD.at[row, head])
            plgpu.wait_smem_to_gmem(0)
