"""Decode attention over head blocks for Hopper GPUs, written in Mosaic GPU. Meaning: `reference.decode`.

The context of all rows and kv heads is one long line of tiles. It is cut into as many equal pieces as there are multiprocessors, so
that few long sequences fill the chip as well as many short ones do. A piece that begins or ends inside a (row, head) leaves a partial
result there, and a second, tiny kernel joins those.

Source: flash decoding with a work list in the manner of stream-K.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from muxjax.pallas import fp8
from muxjax.pallas.decode_join import join
from muxjax.pallas.decode_plan import FP8_TUNING, TUNING, DecodeTuning, Sizes, plan
from muxjax.pallas.mosaic import GROUP, MASKED, M, across, add_product, column, div, product, rem, tiled, zeros
from muxjax.pallas.reference import Places
from muxjax.pallas.ring import Ring, ring, widen


def decode(
    q_BHD: jax.Array,
    pool_N2PD: jax.Array,
    places: Places,
    length_B: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    tuning: DecodeTuning | None = None,
) -> jax.Array:
    """See `reference.decode`; bf16, or FP8 packed in it. A pool of bf16 holds finite numbers in the blocks of every row.

    Rows of length 0 follow all others.
    """
    batch, heads, head_dim = q_BHD.shape
    packed = pool_N2PD.shape[3] < head_dim
    kv_heads = places.kv_heads
    group = heads // kv_heads
    shared = GROUP // group if GROUP % group == 0 and heads % GROUP == 0 else 1
    rows = -(-shared * group // GROUP) * GROUP
    sizes = Sizes(
        kv_heads=kv_heads,
        group=group,
        shared=shared,
        rows=rows,
        head_dim=head_dim,
        tokens_per_block=pool_N2PD.shape[2],
        fp8=packed,
        window=window,
        scale=head_dim**-0.5 if scale is None else scale,
        soft_cap=soft_cap,
        tuning=tuning or (FP8_TUNING if packed else TUNING)[head_dim],
    )
    q_BJQD = q_BHD.reshape(batch, kv_heads // shared, shared * group, head_dim)
    q_BJRD = jnp.pad(q_BJQD, ((0, 0), (0, 0), (0, rows - shared * group), (0, 0)))
    plan_P = plan(length_B, sizes)
    pool_N2PD = fp8.unpack(pool_N2PD) if packed else pool_N2PD
    inputs = _In(q_BJRD, pool_N2PD, places.table_LSKC, places.layer.reshape(1), places.slot_B, length_B, plan_P)
    out_BKGD, part_P2RD, lse_P2M = _attend(sizes, inputs)(*inputs)
    out = jax.new_ref(out_BKGD)
    join(sizes, q_BHD.dtype)(part_P2RD, lse_P2M, plan_P, out)
    return jax.freeze(out).reshape(q_BHD.shape)


def _attend(sizes: Sizes, inputs: "_In") -> Callable:
    program, pieces = _Attend(sizes=sizes), sizes.tuning.pieces
    batch, dtype = inputs.length_B.size, inputs.q_BJRD.dtype
    return plgpu.kernel(
        program,
        out_type=(
            jax.ShapeDtypeStruct((batch, sizes.kv_heads, sizes.group, sizes.head_dim), dtype),
            jax.ShapeDtypeStruct((pieces, 2, sizes.rows, sizes.head_dim), dtype),
            jax.ShapeDtypeStruct((pieces, 2, M), jnp.float32),
        ),
        scratch_types=(program.scratch(dtype),),
        grid=(pieces,),
        grid_names=("piece",),
        num_threads=3 if sizes.fp8 else 2,
        thread_name="role",
        kernel_name="decode_attend",
        compiler_params=plgpu.CompilerParams(approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Lane),
    )


class _Shared(NamedTuple):
    """Shared memory and barriers of a thread block; g counts queries."""

    q_gMD: Any
    tiles: Ring
    """As they are multiplied."""
    narrow: Ring | None
    """As they are in the arena, where that is FP8."""
    weights_MS: Any
    out_MD: Any
    lse_M: Any
    q_full_g: Any
    q_free_g: Any

    @property
    def copied(self) -> Ring:
        """Tiles as they are in the arena."""
        return self.narrow or self.tiles


class _Segment(NamedTuple):
    """The part of a (row, head) in a piece, as scalars in the kernel."""

    index: jax.Array
    """Among the piece's segments."""
    row: jax.Array
    head: jax.Array
    at: jax.Array
    """The first tile, counted from the first that is seen."""
    count: jax.Array
    length: jax.Array
    """Length of the whole row, in tokens."""
    step: jax.Array
    """Tiles of the piece before it."""


class _In(NamedTuple):
    """The attending kernel's inputs."""

    q_BJRD: Any
    pool_N2PD: Any
    table_LSKC: Any
    layer_1: Any
    slot_B: Any
    length_B: Any
    plan_P: Any


class _Out(NamedTuple):
    """And its outputs: results of whole segments, and parts of those that more than one piece works on.

    part_P2RD, lse_P2M: 0 is the rest of what an earlier piece began, 1 what is begun here. The parts are normalised; `lse` is the
    base-2 logarithm of their sums of weights.
    """

    out_BKGD: Any
    part_P2RD: Any
    lse_P2M: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attend:
    """The program of a thread block: its piece of the context."""

    sizes: Sizes

    def scratch(self, dtype) -> _Shared:
        tuning, head_dim = self.sizes.tuning, self.sizes.head_dim
        copied = partial(ring, tuning.stages, tuning.tile_tokens, head_dim, fills=tuning.tile_tokens // self.sizes.tokens_per_block)
        wide = partial(ring, tuning.wide, tuning.tile_tokens, head_dim, fills=1)
        return _Shared(
            q_gMD=tiled((tuning.queries, M, head_dim), dtype),
            tiles=(wide if self.sizes.fp8 else copied)(dtype=dtype, readers=1),
            narrow=copied(dtype=fp8.FP8, readers=1) if self.sizes.fp8 else None,
            weights_MS=tiled((M, tuning.tile_tokens), dtype),
            out_MD=plgpu.SMEM((M, head_dim), dtype),
            lse_M=plgpu.SMEM((M,), jnp.float32),
            q_full_g=plgpu.Barrier(num_barriers=tuning.queries),
            q_free_g=plgpu.Barrier(num_barriers=tuning.queries),
        )

    def __call__(self, *refs):
        *in_refs, out, part, lse, shared = refs
        inputs, outputs = _In(*in_refs), _Out(out, part, lse)
        role = lax.axis_index("role")

        @pl.when(role == 1)
        def _():
            plgpu.set_max_registers(40, action="decrease")
            self._each_segment(inputs, lambda segment: self._fetch(segment, inputs, shared))
            self._drain(inputs.plan_P, shared)

        if shared.narrow:
            pl.when(role == 2)(lambda narrow=shared.narrow: self._widen(inputs.plan_P, narrow, shared.tiles))

        @pl.when(role == 0)
        def _():
            plgpu.set_max_registers(232, action="increase")
            self._each_segment(inputs, lambda segment: self._store(segment, *self._attend(segment, shared), outputs, shared))
            plgpu.wait_smem_to_gmem(0)
            self._clear(inputs, outputs, shared)

    def _each_segment(self, inputs: _In, work: Callable[[_Segment], None]):
        piece, plan = lax.axis_index("piece"), inputs.plan_P

        def segment(index, carry):
            row, head, at, left = carry
            length = inputs.length_B[row]
            count = jnp.minimum(self.sizes.tiles(length) - at, left)
            work(_Segment(index, row, head, at, count, length, plan[piece, 3] - left))
            last = head == self.sizes.kv_heads - 1
            return jnp.where(last, row + 1, row), jnp.where(last, 0, head + 1), jnp.int32(0), left - count

        lax.fori_loop(0, plan[piece, 4], segment, (plan[piece, 0], plan[piece, 1], plan[piece, 2], plan[piece, 3]))

    def _fetch(self, segment: _Segment, inputs: _In, shared: _Shared):
        """Copies the query, and K and V of each tile, block by block, as there is room."""
        tuning, size, tiles = self.sizes.tuning, self.sizes.tokens_per_block, shared.copied
        blocks, rows = tuning.tile_tokens // size, pl.ds(0, self.sizes.rows)
        turn = rem(segment.index, tuning.queries)
        pl.when(segment.index >= tuning.queries)(lambda: plgpu.barrier_wait(shared.q_free_g.at[turn]))
        query = inputs.q_BJRD.at[segment.row, div(segment.head, self.sizes.shared)]
        plgpu.copy_gmem_to_smem(query, shared.q_gMD.at[turn, rows], shared.q_full_g.at[turn])
        first = (self.sizes.first_tile(segment.length) + segment.at) * blocks
        last = div(jnp.maximum(segment.length - 1, 0), size)

        layer, slot = inputs.layer_1[0], inputs.slot_B[segment.row]

        def ids_of(tile):
            columns = [jnp.minimum(first + tile * blocks + block, last) for block in range(blocks)]
            return tuple(inputs.table_LSKC[layer, slot, segment.head, column] for column in columns)

        def fetch(tile, ids):
            stage = rem(segment.step + tile, tuning.stages)
            next_ids = ids_of(tile + 1)  # read while this tile waits for its place

            @pl.when(segment.step + tile >= tuning.stages)
            def _():
                plgpu.barrier_wait(tiles.k_free_s.at[stage])
                plgpu.barrier_wait(tiles.v_free_s.at[stage])

            for kind, (buffer, full, _) in enumerate(tiles.kinds):
                for block, block_id in enumerate(ids):
                    part = buffer.at[stage, pl.ds(block * size, size)]
                    plgpu.copy_gmem_to_smem(inputs.pool_N2PD.at[block_id, kind], part, full.at[stage])
            return next_ids

        lax.fori_loop(0, segment.count, fetch, ids_of(0))

    def _widen(self, plan, narrow: Ring, wide: Ring):
        """A warpgroup of its own does that, not the one that copies: that waits for queries to be used, whose tiles may still be narrow."""
        tiles = plan[lax.axis_index("piece"), 3]
        widen(0, tiles, narrow, wide)
        wide.drain(tiles)

    def _drain(self, plan, shared: _Shared):
        """Waits until all that was copied has been used: a barrier must not go while somebody may arrive at it."""
        tiles, segments, tuning = plan[lax.axis_index("piece"), 3], plan[lax.axis_index("piece"), 4], self.sizes.tuning
        shared.copied.drain(tiles)

        def query(index, _):
            plgpu.barrier_wait(shared.q_free_g.at[rem(index, tuning.queries)])

        lax.fori_loop(jnp.maximum(segments - tuning.queries, 0), segments, query, None)

    def _attend(self, segment: _Segment, shared: _Shared):
        """Normalised sum of V [M, D], and the base-2 logarithm of the sum of weights [M]."""
        turn = rem(segment.index, self.sizes.tuning.queries)
        plgpu.barrier_wait(shared.q_full_g.at[turn])
        begin = (zeros(self.sizes.head_dim), column(MASKED), column(0.0))
        acc, top, total = lax.fori_loop(0, segment.count, lambda tile, carry: self._step(tile, carry, segment, shared), begin)
        plgpu.barrier_arrive(shared.q_free_g.at[turn])
        return acc / across(total, self.sizes.head_dim), top + jnp.log2(total)

    def _step(self, tile, carry, segment: _Segment, shared: _Shared):
        """One tile of K and V."""
        acc, top, total = carry
        tuning, head_dim = self.sizes.tuning, self.sizes.head_dim
        tiles, span = shared.tiles, tuning.tile_tokens
        slot = rem(segment.step + tile, tiles.stages)
        query = shared.q_gMD.at[rem(segment.index, tuning.queries)]
        plgpu.barrier_wait(tiles.k_full_s.at[slot])
        scores = self._capped(product(query, tiles.k_sSD.at[slot].transpose((1, 0)), span))
        plgpu.barrier_arrive(tiles.k_free_s.at[slot])
        begin = (self.sizes.first_tile(segment.length) + segment.at + tile) * span
        scores = jnp.where(self._seen(begin, segment.length), scores, MASKED)
        new_top = jnp.maximum(top, scores.max(axis=1))
        shrink = jnp.exp2(top - new_top)
        weights = jnp.exp2(scores - across(new_top, span))
        total = total * shrink + weights.sum(axis=1)
        shared.weights_MS[...] = weights.astype(tiles.v_sSD.dtype)
        plgpu.commit_smem()
        plgpu.barrier_wait(tiles.v_full_s.at[slot])
        acc = add_product(acc * across(shrink, head_dim), shared.weights_MS, tiles.v_sSD.at[slot], in_place=tuning.sum_in_place)
        plgpu.barrier_arrive(tiles.v_free_s.at[slot])
        return acc, new_top, total

    def _capped(self, scores):
        """Scores whose power of two is the weight."""
        scale, cap = self.sizes.scale, self.sizes.soft_cap
        if cap is None:
            return scores * (scale * math.log2(math.e))
        return jnp.tanh(scores * (scale / cap)) * (cap * math.log2(math.e))

    def _seen(self, begin, length) -> jax.Array:
        """[M, S] whether the last token sees a position of the tile that begins there."""
        span = self.sizes.tuning.tile_tokens
        position_MS = plgpu.broadcasted_iota(jnp.int32, (M, span), 1, layout=plgpu.Layout.WGMMA) + begin
        seen_MS = position_MS < length
        return seen_MS if self.sizes.window is None else seen_MS & (position_MS >= length - self.sizes.window)

    def _store(self, segment: _Segment, values_MD, lse_M, outputs: _Out, shared: _Shared):
        plgpu.wait_smem_to_gmem(0)  # the segment before this has left
        shared.out_MD[...] = values_MD.astype(outputs.out_BKGD.dtype)
        shared.lse_M[...] = lse_M
        plgpu.commit_smem()
        piece, rows = lax.axis_index("piece"), shared.out_MD.at[pl.ds(0, self.sizes.rows)]
        own = shared.out_MD.at[self.sizes.own_rows(segment.head)]
        whole = (segment.at == 0) & (segment.count == self.sizes.tiles(segment.length))

        @pl.when(whole)
        def _():
            plgpu.copy_smem_to_gmem(own, outputs.out_BKGD.at[segment.row, segment.head])

        @pl.when(~whole)
        def _():
            which = jnp.where(segment.at == 0, 1, 0)
            plgpu.copy_smem_to_gmem(rows, outputs.part_P2RD.at[piece, which])
            plgpu.copy_smem_to_gmem(shared.lse_M, outputs.lse_P2M.at[piece, which])

    def _clear(self, inputs: _In, outputs: _Out, shared: _Shared):
        """Zeroes the rows without context. A piece of nothing leaves a part that adds nothing where it is joined."""
        piece, pieces = lax.axis_index("piece"), self.sizes.tuning.pieces
        batch = inputs.length_B.shape[0]
        shared.out_MD[...] = zeros(self.sizes.head_dim).astype(outputs.out_BKGD.dtype)
        shared.lse_M[...] = column(MASKED)
        plgpu.commit_smem()
        nothing = shared.out_MD.at[pl.ds(0, self.sizes.rows)]

        @pl.when(inputs.plan_P[piece, 3] == 0)
        def _():
            plgpu.copy_smem_to_gmem(nothing, outputs.part_P2RD.at[piece, 0])
            plgpu.copy_smem_to_gmem(shared.lse_M, outputs.lse_P2M.at[piece, 0])

        def clear(turn, _):
            row = piece + turn * pieces

            @pl.when(inputs.length_B[row] == 0)
            def _():
                for head in range(self.sizes.kv_heads):
                    plgpu.copy_smem_to_gmem(shared.out_MD.at[pl.ds(0, self.sizes.group)], outputs.out_BKGD.at[row, head])

        lax.fori_loop(0, div(batch - piece + pieces - 1, pieces), clear, None)
        plgpu.wait_smem_to_gmem(0)
