"""Plan of a matrix product: its tiles, dealt to as many thread blocks as it may use."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax

from muxjax.pallas.mosaic import div, rem

BAND, COLUMN = 128, 128
"""Rows and columns of a half tile, the unit in which work is dealt; a whole tile is two of them, one above the other."""

_TALL = 8
"""Whole tiles above each other that are dealt before the next column: blocks at work at once share what they read, in the L2 cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """Tiles of a result of so many bands and columns, for each of so many thread blocks, the same number of halves or one more.

    Whole tiles read a quarter less from memory for a sum than halves do, and come first. The halves at the end are what keeps all
    blocks at work until it: a last round of whole tiles would take as long for a few of them as for all.

    Args:
      bands: BAND rows each, the last one's perhaps fewer; columns: of COLUMN.
      blocks: at most as many as there are halves.
    """

    bands: int
    columns: int
    blocks: int

    @classmethod
    def of(cls, rows: int, columns: int, *, ctas: int) -> "Deal":
        """For a result of that shape, by at most so many thread blocks."""
        bands, wide = -(-rows // BAND), -(-columns // COLUMN)
        return cls(bands=bands, columns=wide, blocks=min(ctas, bands * wide))

    @property
    def wholes(self) -> int:
        """Whole tiles: one for every two halves of a block's share, as far as there are bands above each other."""
        share, more = divmod(self.bands * self.columns, self.blocks)
        return min(self._pairs, self.blocks * (share // 2) + more * (share % 2))

    @property
    def halves(self) -> int:
        """Half tiles beside them."""
        return self.bands * self.columns - 2 * self.wholes

    def wholes_of(self, block):
        """Whole tiles of a block, which are `block`, `block + blocks`, and so on."""
        return _cut(self.wholes, self.blocks, block + 1) - _cut(self.wholes, self.blocks, block)

    def first_half(self, block):
        """The first of a block's half tiles, which end where those of the next block begin."""
        return _cut(self.bands * self.columns, self.blocks, block) - 2 * _cut(self.wholes, self.blocks, block)

    def whole(self, index):
        """Upper band and column of a whole tile."""
        tall = _TALL * self.columns
        first = div(index, tall) * _TALL
        height, inside = jnp.minimum(_TALL, self.bands // 2 - first), rem(index, tall)
        return 2 * (first + lax.rem(inside, height)), lax.div(inside, height)

    def half(self, index):
        """Band and column of a half tile: of the tiles that are not dealt whole, then of a last band that has none above it."""
        if not self._pairs:
            return jnp.zeros_like(index), index
        paired = 2 * (self._pairs - self.wholes)
        upper, column = self.whole(jnp.minimum(self.wholes + div(index, 2), self._pairs - 1))
        alone = index >= paired
        return jnp.where(alone, self.bands - 1, upper + rem(index, 2)), jnp.where(alone, index - paired, column)

    @property
    def _pairs(self) -> int:
        return self.bands // 2 * self.columns


def _cut(count: int, blocks: int, block):
    """How many of `count` things the blocks before this one have, where the first ones have one more than the others."""
    share, more = divmod(count, blocks)
    return block * share + jnp.minimum(block, more)
