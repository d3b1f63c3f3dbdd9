"""Prefill attention over head blocks for Hopper GPUs, written in Mosaic GPU. Meaning: `reference.prefill`.

A query tile is 128 rows: some tokens of one sequence times some query heads of one kv head, so that a group shares what it loads.
One warpgroup fetches tiles of K and V, block by block, and widens FP8; two others take 64 query rows each and alternate: one multiplies
while the other is at its softmax. Tiles after the last query or before its window are not loaded; only tiles that some query sees in part
are masked.

Source: FlashAttention-3 (arXiv:2407.08608).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from muxjax.pallas import fp8
from muxjax.pallas.mosaic import COLUMNS, GROUP, MASKED, M, across, add_product, column, div, rem, tiled, zeros
from muxjax.pallas.reference import Places
from muxjax.pallas.ring import Ring, ring, widen

WARPGROUPS = 2
"""Warpgroups that multiply; one more copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTuning:
    """Sizes and variants of the kernel.

    Args:
      tile_tokens: context tokens of a tile of K or V, a multiple of 64 and of a block's tokens.
      stages: tiles of K and V in flight; wide: tiles that are widened, where they are FP8.
      weights_in_registers: multiply V by the softmax weights straight from registers, not through shared memory.
      sum_in_place: add to the output inside wgmma; the interpreter lacks it, and adds afterwards.
    """

    tile_tokens: int
    stages: int
    wide: int = 2
    weights_in_registers: bool = False
    sum_in_place: bool = True


TUNING = {
    64: PrefillTuning(tile_tokens=128, stages=4),
    128: PrefillTuning(tile_tokens=128, stages=2, weights_in_registers=True),
    256: PrefillTuning(tile_tokens=64, stages=2),
}
"""By head size."""

FP8_TUNING = {
    64: PrefillTuning(tile_tokens=128, stages=4),
    128: PrefillTuning(tile_tokens=64, stages=4, weights_in_registers=True),
    256: PrefillTuning(tile_tokens=64, stages=2, wide=1),
}
"""The same where keys and values are FP8: what there is room for. Nobody has measured them."""


def prefill(
    q_THD: jax.Array,
    pool_N2PD: jax.Array,
    places: Places,
    offset_B: jax.Array,
    count_B: jax.Array,
    length_B: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    tuning: PrefillTuning | None = None,
) -> jax.Array:
    """See `reference.prefill`; bf16, or FP8 packed in it. A pool of bf16 holds finite numbers in the blocks of every row.

    T is a multiple of GROUP, and so is where in T each row begins: a copy into tiled shared memory reads zeros past such a multiple.
    """
    tokens, heads, head_dim = q_THD.shape
    assert tokens % GROUP == 0, f"{tokens} tokens are no multiple of {GROUP}"
    kv_heads, packed = places.kv_heads, pool_N2PD.shape[3] < head_dim
    tuning = tuning or (FP8_TUNING if packed else TUNING)[head_dim]
    shared_heads = heads_of_tile(heads // kv_heads)
    tile = tokens_of_tile(shared_heads)
    work_W4 = plan(places.slot_B, offset_B, count_B, length_B, tokens=tokens, tile=tile)
    kernel = _Kernel(
        tokens_per_block=pool_N2PD.shape[2],
        fp8=packed,
        head_dim=head_dim,
        tiles_per_kv_head=heads // kv_heads // shared_heads,
        heads=shared_heads,
        tokens=tile,
        window=window,
        scale=head_dim**-0.5 if scale is None else scale,
        soft_cap=soft_cap,
        tuning=tuning,
    )
    return plgpu.kernel(
        kernel,
        out_type=jax.ShapeDtypeStruct(q_THD.shape, q_THD.dtype),
        scratch_types=(kernel.scratch(q_THD.dtype),),
        grid=(work_W4.shape[0], heads // shared_heads),
        grid_names=("work", "heads"),
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        compiler_params=plgpu.CompilerParams(approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Lane),
    )(q_THD, fp8.unpack(pool_N2PD) if packed else pool_N2PD, places.table_LSKC, places.layer.reshape(1), work_W4)


def heads_of_tile(group: int) -> int:
    """Query heads that share a tile: the most that divide the group and leave at most an eighth of the tile's rows idle."""
    rows = M * WARPGROUPS
    return max(heads for heads in range(1, group + 1) if group % heads == 0 and 8 * heads * tokens_of_tile(heads) >= 7 * rows)


def tokens_of_tile(heads: int) -> int:
    """Tokens of a tile that so many heads share."""
    return M * WARPGROUPS // heads // GROUP * GROUP


def plan(slot_B: jax.Array, offset_B: jax.Array, count_B: jax.Array, length_B: jax.Array, *, tokens: int, tile: int) -> jax.Array:
    """The tiles of all rows, longest context first: [W, 4] of slot, first token in T, tokens, position of the first token.

    W is what any split of `tokens` can need; the rest have no tokens. What lies after the last row in T is a row of its own without
    context, so that padding becomes zero.
    """
    used = (offset_B + -(-count_B // GROUP) * GROUP).max()
    slot_R, offset_R, count_R = jnp.append(slot_B, 0), jnp.append(offset_B, used), jnp.append(count_B, tokens - used)
    start_R = jnp.append(length_B, 0) - count_R
    last_R = jnp.cumsum(-(-count_R // tile))
    index_W = jnp.arange(tokens // tile + offset_R.size, dtype=jnp.int32)
    row_W = jnp.minimum(jnp.searchsorted(last_R, index_W, side="right", method="compare_all"), offset_R.size - 1)
    done_W = (index_W - jnp.where(row_W > 0, last_R[row_W - 1], 0)) * tile
    count_W = jnp.clip(count_R[row_W] - done_W, 0, tile)
    position_W = start_R[row_W] + done_W
    longest_W = jnp.argsort(jnp.where(count_W > 0, -position_W, jnp.iinfo(jnp.int32).max))
    work_W4 = jnp.stack([slot_R[row_W], offset_R[row_W] + done_W, count_W, position_W], axis=1)
    return work_W4.astype(jnp.int32)[longest_W]


class _Shared(NamedTuple):
    """Shared memory and barriers of a thread block; w counts warpgroups."""

    q_wMD: Any
    tiles: Ring
    """As they are multiplied."""
    narrow: Ring | None
    """As they are in the arena, where that is FP8."""
    weights_wMS: Any
    out_wMD: Any
    q_full_w: Any
    turn: Any

    @property
    def copied(self) -> Ring:
        """Tiles as they are in the arena."""
        return self.narrow or self.tiles


class _Tile(NamedTuple):
    """The work of a thread block, as scalars in the kernel."""

    slot: jax.Array
    token: jax.Array
    """Place of the first query in T."""
    count: jax.Array
    position: jax.Array
    """Position of the first query in its sequence."""
    first: jax.Array
    """Context tile that some query sees."""
    steps: jax.Array
    """Context tiles, from `first` on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """The program of a thread block: one query tile and the kv head that its query heads share."""

    tokens_per_block: int
    fp8: bool
    head_dim: int
    heads: int
    """Query heads of a tile."""
    tokens: int
    """Tokens of a tile."""
    tiles_per_kv_head: int
    window: int | None
    scale: float
    soft_cap: float | None
    tuning: PrefillTuning

    def scratch(self, dtype) -> _Shared:
        tuning, span = self.tuning, self.tuning.tile_tokens
        copied = partial(ring, tuning.stages, span, self.head_dim, fills=span // self.tokens_per_block)
        wide = partial(ring, tuning.wide, span, self.head_dim, fills=1)
        return _Shared(
            q_wMD=tiled((WARPGROUPS, M, self.head_dim), dtype),
            tiles=(wide if self.fp8 else copied)(dtype=dtype, readers=WARPGROUPS),
            narrow=copied(dtype=fp8.FP8, readers=1) if self.fp8 else None,
            weights_wMS=None if self.tuning.weights_in_registers else tiled((WARPGROUPS, M, span), dtype),
            out_wMD=plgpu.SMEM((WARPGROUPS, M, COLUMNS), dtype),
            q_full_w=plgpu.Barrier(num_barriers=WARPGROUPS, num_arrivals=M // GROUP),
            turn=plgpu.Barrier(num_arrivals=WARPGROUPS),
        )

    def __call__(self, q_THD, pool_N2PD, table_LSKC, layer_1, work_W4, out_THD, shared: _Shared):
        tile = self._tile(work_W4)
        warpgroup = lax.axis_index("warpgroup")

        @pl.when((tile.count > 0) & (warpgroup == WARPGROUPS))
        def _():
            plgpu.set_max_registers(72 if self.fp8 else 40, action="decrease")
            self._fetch(pool_N2PD, table_LSKC, layer_1[0], shared, tile)

        @pl.when((tile.count > 0) & (warpgroup < WARPGROUPS))
        def _():
            plgpu.set_max_registers(216 if self.fp8 else 232, action="increase")
            self._load_queries(q_THD, shared, tile)
            self._store(*self._attend(shared, tile), out_THD, shared, tile)

    def _tile(self, work_W4) -> _Tile:
        slot, token, count, position = (work_W4[lax.axis_index("work"), field] for field in range(4))
        span = self.tuning.tile_tokens
        first = jnp.int32(0) if self.window is None else div(jnp.maximum(position - self.window + 1, 0), span)
        end = div(jnp.maximum(position + count, 0) + span - 1, span)
        return _Tile(slot, token, count, position, first, end - first)

    def _fetch(self, pool_N2PD, table_LSKC, layer, shared: _Shared, tile: _Tile):
        """Copies K and V of each context tile, block by block, as stages come free; FP8 is widened behind those that are on their way."""
        tiles, narrow, size = shared.copied, shared.narrow, self.tokens_per_block
        behind = tiles.stages - 1
        blocks = self.tuning.tile_tokens // size
        kv_head = div(lax.axis_index("heads"), self.tiles_per_kv_head)
        first_column = 0 if self.window is None else div(jnp.maximum(tile.position - self.window + 1, 0), size)
        last_column = div(jnp.maximum(tile.position + tile.count - 1, 0), size)

        def fetch(step, _):
            stage = rem(step, tiles.stages)
            columns = [jnp.clip((tile.first + step) * blocks + block, first_column, last_column) for block in range(blocks)]
            ids = [table_LSKC[layer, tile.slot, kv_head, column] for column in columns]
            for kind, (buffer, full, free) in enumerate(tiles.kinds):
                pl.when(step >= tiles.stages)(lambda free=free: plgpu.barrier_wait(free.at[stage]))
                for block, block_id in enumerate(ids):
                    part = buffer.at[stage, pl.ds(block * size, size)]
                    plgpu.copy_gmem_to_smem(pool_N2PD.at[block_id, kind], part, full.at[stage])
            if narrow:
                pl.when(step >= behind)(lambda narrow=narrow: widen(step - behind, step - behind + 1, narrow, shared.tiles))

        lax.fori_loop(0, tile.steps, fetch, None)
        if narrow:
            widen(jnp.maximum(tile.steps - behind, 0), tile.steps, narrow, shared.tiles)
            narrow.drain(tile.steps)
        shared.tiles.drain(tile.steps)

    def _place(self, group: int):
        """Query head in the tile, and token in the tile, of the first row of a warpgroup's group of rows."""
        row = lax.axis_index("warpgroup") * M + group * GROUP
        return div(row, self.tokens), rem(row, self.tokens)

    def _load_queries(self, q_THD, shared: _Shared, tile: _Tile):
        """Rows are heads times tokens; those past the row's tokens, or the last head, are loaded as well, and not stored."""
        warpgroup = lax.axis_index("warpgroup")
        for group in range(M // GROUP):
            head, token = self._place(group)
            head = lax.axis_index("heads") * self.heads + jnp.minimum(head, self.heads - 1)
            source = q_THD.at[pl.ds(tile.token + token, GROUP), head]
            plgpu.copy_gmem_to_smem(source, shared.q_wMD.at[warpgroup, pl.ds(group * GROUP, GROUP)], shared.q_full_w.at[warpgroup])
        plgpu.barrier_wait(shared.q_full_w.at[warpgroup])

    def _attend(self, shared: _Shared, tile: _Tile):
        """Weighted sum of V [M, D], and sum of weights [M], of this warpgroup's queries."""
        span = self.tuning.tile_tokens
        whole_end = jnp.clip(div(jnp.maximum(tile.position + 1, 0), span) - tile.first, 0, tile.steps)
        carry = (zeros(self.head_dim), column(MASKED), column(0.0))

        def steps(begin, end, carry, *, masked: bool):
            return lax.fori_loop(begin, end, lambda step, carry: self._step(step, carry, shared, tile, masked=masked), carry)

        pl.when(lax.axis_index("warpgroup") == 1)(lambda: _take_turn(shared.turn))
        whole_begin = jnp.int32(0)
        if self.window is not None:
            unseen = jnp.maximum(tile.position + tile.count - self.window, 0)
            whole_begin = jnp.clip(div(unseen + span - 1, span) - tile.first, 0, tile.steps)
            whole_end = jnp.maximum(whole_begin, whole_end)
            carry = steps(0, whole_begin, carry, masked=True)
        carry = steps(whole_begin, whole_end, carry, masked=False)
        acc, _, total = steps(whole_end, tile.steps, carry, masked=True)
        pl.when(lax.axis_index("warpgroup") == 0)(lambda: _take_turn(shared.turn))
        return acc, total

    def _step(self, step, carry, shared: _Shared, tile: _Tile, *, masked: bool):
        """One tile of K and V. The tensor cores are this warpgroup's from the end of its softmax to its next product of Q and K."""
        acc, top, total = carry
        tiles, warpgroup, span = shared.tiles, lax.axis_index("warpgroup"), self.tuning.tile_tokens
        slot = rem(step, tiles.stages)
        plgpu.barrier_wait(tiles.k_full_s.at[slot])

        def multiply(scores):
            plgpu.wgmma(scores, shared.q_wMD.at[warpgroup], tiles.k_sSD.at[slot].transpose((1, 0)))
            _take_turn(shared.turn)
            return scores[...]

        scores, scale = self._capped(pl.run_scoped(multiply, plgpu.WGMMAAccumulatorRef((M, span), jnp.float32)))
        plgpu.barrier_arrive(tiles.k_free_s.at[slot])
        if masked:
            scores = jnp.where(self._seen(step, tile), scores, -jnp.inf)
        new_top = jnp.maximum(top, scores.max(axis=1) * scale)
        shrink = jnp.exp2(top - new_top)
        weights = jnp.exp2(scores * scale - across(new_top, span))
        total = total * shrink + weights.sum(axis=1)
        acc = acc * across(shrink, self.head_dim)
        weights = weights.astype(tiles.v_sSD.dtype)
        if not self.tuning.weights_in_registers:
            shared.weights_wMS.at[warpgroup][...] = weights
            plgpu.commit_smem()
            weights = shared.weights_wMS.at[warpgroup]
        plgpu.barrier_arrive(shared.turn)
        plgpu.barrier_wait(tiles.v_full_s.at[slot])
        plgpu.barrier_wait(shared.turn)
        acc = add_product(acc, weights, tiles.v_sSD.at[slot], in_place=self.tuning.sum_in_place)
        plgpu.barrier_arrive(tiles.v_free_s.at[slot])
        return acc, new_top, total

    def _capped(self, scores):
        """Scores up to a factor, and the factor, whose power of two is the weight."""
        if self.soft_cap is None:
            return scores, self.scale * math.log2(math.e)
        return jnp.tanh(scores * (self.scale / self.soft_cap)), self.soft_cap * math.log2(math.e)

    def _row(self) -> jax.Array:
        """[M] rows of this warpgroup among those of the tile."""
        return plgpu.broadcasted_iota(jnp.int32, (M,), 0, layout=plgpu.Layout.WGMMA.reduce(1)) + lax.axis_index("warpgroup") * M

    def _seen(self, step, tile: _Tile) -> jax.Array:
        """[M, S] whether a query sees a context position."""
        span = self.tuning.tile_tokens
        position_M = rem(self._row(), self.tokens) + (tile.position - (tile.first + step) * span)
        age_MS = across(position_M, span) - plgpu.broadcasted_iota(jnp.int32, (M, span), 1, layout=plgpu.Layout.WGMMA)
        return age_MS >= 0 if self.window is None else (age_MS >= 0) & (age_MS < self.window)

    def _store(self, acc, total, out_THD, shared: _Shared, tile: _Tile):
        """Writes the tile's own tokens, eight at a time; those of the last eight that are padding are zero."""
        staged = shared.out_wMD.at[lax.axis_index("warpgroup")]
        own = (total > 0) & (rem(self._row(), self.tokens) < tile.count)
        acc *= across(jnp.where(own, 1 / total, 0.0), self.head_dim)
        for begin_column in range(0, self.head_dim, COLUMNS):
            staged[...] = acc[:, begin_column : begin_column + COLUMNS].astype(out_THD.dtype)
            plgpu.commit_smem()
            for group in range(M // GROUP):
                head, token = self._place(group)

                @pl.when((head < self.heads) & (token < tile.count))
                def _(group=group, head=head, token=token, begin_column=begin_column):
                    tokens, columns = pl.ds(tile.token + token, GROUP), pl.ds(begin_column, COLUMNS)
                    target = out_THD.at[tokens, lax.axis_index("heads") * self.heads + head, columns]
                    plgpu.copy_smem_to_gmem(staged.at[pl.ds(group * GROUP, GROUP)], target)

            plgpu.wait_smem_to_gmem(0)


def _take_turn(turn):
    plgpu.barrier_arrive(turn)
    plgpu.barrier_wait(turn)
