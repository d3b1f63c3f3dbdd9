"""Plan of decode attention: pieces that it is cut into, one for each multiprocessor."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from muxjax.pallas.mosaic import div, rem


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTuning:
    """Sizes of the kernel.

    Args:
      tile_tokens: context tokens of one tile, a multiple of 64 and of a block's tokens.
      stages: tiles of K and V in flight; wide: tiles that are widened, where they are FP8.
      queries: segments whose query is in flight.
      sum_in_place: add to the output inside wgmma; the interpreter lacks it, and adds afterwards.
      segment_cost: what a (row, head) costs beside its tiles, in tiles.
      pieces: how many ways the context is cut at most: one for each multiprocessor.
      piece_cost: least cost of a piece: joining many small ones takes longer than they save.
    """

    tile_tokens: int
    stages: int
    wide: int = 1
    queries: int = 2
    sum_in_place: bool = True
    segment_cost: int = 1
    pieces: int = 132
    piece_cost: int = 2


TUNING = {
    64: DecodeTuning(tile_tokens=256, stages=2),
    128: DecodeTuning(tile_tokens=128, stages=2),
    256: DecodeTuning(tile_tokens=64, stages=2, queries=1),
}
"""By head size."""

FP8_TUNING = {
    64: DecodeTuning(tile_tokens=256, stages=3),
    128: DecodeTuning(tile_tokens=128, stages=2),
    256: DecodeTuning(tile_tokens=64, stages=2, queries=1),
}
"""The same where keys and values are FP8: what there is room for. Nobody has measured them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes that both kernels are made for.

    Args:
      group: query heads of a kv head.
      shared: kv heads whose query groups are copied at once, and all multiplied with the keys of each of them: as many as fill the
        least that can be copied. Only a head's own results are used.
      rows: of those query groups, padded to a multiple of GROUP.
      fp8: keys and values are.
    """

    kv_heads: int
    group: int
    shared: int
    rows: int
    head_dim: int
    tokens_per_block: int
    fp8: bool
    window: int | None
    scale: float
    soft_cap: float | None
    tuning: DecodeTuning

    def first_tile(self, length):
        """The first tile of a row that its window sees."""
        return length * 0 if self.window is None else div(jnp.maximum(length - self.window, 0), self.tuning.tile_tokens)

    def own_rows(self, head):
        """Slice of a kv head's results among the rows."""
        return pl.ds(rem(head, self.shared) * self.group, self.group)

    def tiles(self, length):
        """Tiles of a row's context that are seen."""
        return div(length + self.tuning.tile_tokens - 1, self.tuning.tile_tokens) - self.first_tile(length)


PLAN_FIELDS = ("row", "head", "tile", "tiles", "segments", "join_row", "join_head", "joins")
"""Of a piece: where it begins; how many tiles and (row, head) segments it has; whose parts it joins, and with how many pieces after it."""


def plan(length_B: jax.Array, sizes: Sizes) -> jax.Array:
    """[pieces, len(PLAN_FIELDS)] int32. It depends on no layer: XLA computes it once a step."""
    tiles_B, kv_heads, tuning = sizes.tiles(length_B), sizes.kv_heads, sizes.tuning
    end_B = jnp.cumsum(tiles_B * kv_heads)
    edge_P = _edges(tiles_B, kv_heads, tuning)
    begin_P, end_P = edge_P[:-1], edge_P[1:]
    row_P, head_P, tile_P, _ = _locate(begin_P, tiles_B, end_B, kv_heads)
    last_row_P, last_head_P, last_tile_P, of_last_P = _locate(jnp.maximum(end_P - 1, 0), tiles_B, end_B, kv_heads)
    works_P = end_P > begin_P
    segments_P = jnp.where(works_P, (last_row_P - row_P) * kv_heads + last_head_P - head_P + 1, 0)
    segment_begin_P = end_P - 1 - last_tile_P
    segment_end_P = segment_begin_P + of_last_P
    opens_P = works_P & (segment_begin_P >= begin_P) & (segment_end_P > end_P)
    after_P = jnp.searchsorted(begin_P, segment_end_P, side="left", method="compare_all") - 1 - jnp.arange(tuning.pieces)
    joins_P = jnp.where(opens_P, after_P, 0)
    fields = (row_P, head_P, tile_P, end_P - begin_P, segments_P, last_row_P, last_head_P, joins_P)
    return jnp.stack([field.astype(jnp.int32) for field in fields], axis=1)


def _edges(tiles_B: jax.Array, kv_heads: int, tuning: DecodeTuning) -> jax.Array:
    """[pieces + 1] tiles where pieces begin and end: equal in tiles and, since every segment takes its time, in those."""
    cost_B = jnp.where(tiles_B > 0, tiles_B + tuning.segment_cost, 0)
    total = (cost_B * kv_heads).sum()
    used = jnp.clip(total // tuning.piece_cost, 1, tuning.pieces)
    cost_P = jnp.minimum(jnp.arange(tuning.pieces + 1) * total // used, total)
    row_P, head_P, inside_P, _ = _locate(cost_P, cost_B, jnp.cumsum(cost_B * kv_heads), kv_heads)
    before_B = jnp.cumsum(tiles_B * kv_heads) - tiles_B * kv_heads
    tile_P = before_B[row_P] + head_P * tiles_B[row_P] + jnp.maximum(inside_P - tuning.segment_cost, 0)
    return jnp.where(cost_P == total, (tiles_B * kv_heads).sum(), tile_P)


def _locate(place_P, size_B, end_B, kv_heads: int):
    """Row, head, place inside the (row, head) segment and size of it, where a segment of row b has size_B[b] places."""
    row_P = jnp.minimum(jnp.searchsorted(end_B, place_P, side="right", method="compare_all"), len(size_B) - 1)
    size_P = jnp.maximum(size_B[row_P], 1)
    inside_P = place_P - (end_B - size_B * kv_heads)[row_P]
    return row_P, inside_P // size_P, inside_P % size_P, size_P
