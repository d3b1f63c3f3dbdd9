"""Tiles of a product, dealt to thread blocks: all of the work once, and to each as much."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pallas import hopper

if hopper.has_mosaic:
    from muxjax.pallas.product_plan import BAND, COLUMN, Deal

pytestmark = hopper.needs_mosaic

MOST_BLOCKS = 140
sizes = st.tuples(st.integers(1, 4200), st.integers(1, 8000), st.integers(1, MOST_BLOCKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """All tiles of a deal, (band, column) each: upper bands of whole tiles, and halves; by block, how many of them."""

    wholes: list[tuple[int, int]]
    halves: list[tuple[int, int]]
    wholes_of: list[int]
    halves_of: list[int]

    @property
    def work(self) -> Counter:
        """How often each half of the result is computed."""
        return Counter([*self.wholes, *((band + 1, column) for band, column in self.wholes), *self.halves])

    @property
    def shares(self) -> list[int]:
        """Halves of each block."""
        return [2 * wholes + halves for wholes, halves in zip(self.wholes_of, self.halves_of, strict=True)]


def dealt(deal: "Deal") -> Dealt:
    """As the blocks of the kernel go through it."""
    block = jnp.arange(MOST_BLOCKS + 1)  # of one shape for all, which spares compiling
    wholes_of, first = deal.wholes_of(block).tolist()[: deal.blocks], deal.first_half(block).tolist()[: deal.blocks + 1]
    wholes = [b + i * deal.blocks for b in range(deal.blocks) for i in range(wholes_of[b])]
    halves = [i for b in range(deal.blocks) for i in range(first[b], first[b + 1])]
    return Dealt(
        wholes=places(deal.whole, wholes),
        halves=places(deal.half, halves),
        wholes_of=wholes_of,
        halves_of=[end - begin for begin, end in pairwise(first)],
    )


def places(of, indices: list[int]) -> list[tuple[int, int]]:
    padded = [*indices, *[0] * (2**12 - len(indices))]
    band, column = of(jnp.asarray(padded, jnp.int32))
    return list(zip(band.tolist(), column.tolist(), strict=True))[: len(indices)]


def everything(deal: "Deal") -> Counter:
    return Counter((band, column) for band in range(deal.bands) for column in range(deal.columns))


@settings(deadline=None)
@given(sizes)
def test_every_half_tile_is_computed_once(size):
    rows, columns, ctas = size
    deal = Deal.of(rows, columns, ctas=ctas)
    assert dealt(deal).work == everything(deal)
    assert (deal.bands - 1) * BAND < rows <= deal.bands * BAND and (deal.columns - 1) * COLUMN < columns <= deal.columns * COLUMN


@settings(deadline=None)
@given(sizes)
def test_each_block_has_as_much_work_as_any_other_or_half_a_tile_more(size):
    rows, columns, ctas = size
    shares = dealt(Deal.of(rows, columns, ctas=ctas)).shares
    assert len(shares) <= ctas and min(shares) >= 1 and max(shares) - min(shares) <= 1


@settings(deadline=None)
@given(sizes)
def test_a_block_computes_two_halves_one_after_the_other_only_where_no_whole_tile_is_left(size):
    rows, columns, ctas = size
    deal = Deal.of(rows, columns, ctas=ctas)
    all_pairs_are_whole = deal.wholes == deal.bands // 2 * deal.columns
    assert max(dealt(deal).halves_of) <= 1 or all_pairs_are_whole


@pytest.mark.parametrize(
    ("ctas", "rounds"),
    [(132, 3.0), (116, 3.5), (112, 3.5), (104, 4.0), (96, 4.0), (80, 5.0)],  # of 384 tiles
)
def test_rounds_are_lost_in_halves(ctas, rounds):
    assert max(dealt(Deal.of(2048, 6144, ctas=ctas)).shares) / 2 == rounds


def test_a_narrow_product_is_work_for_twice_as_many_blocks():
    deal = Deal.of(512, 4096, ctas=132)
    assert deal.blocks == 128 and set(dealt(deal).shares) == {1}


def test_blocks_at_work_at_once_share_rows_and_columns():
    deal = Deal.of(4096, 14336, ctas=132)
    first = places(deal.whole, list(range(128)))
    assert len({band for band, _ in first}) == 8 and len({column for _, column in first}) == 16


@pytest.mark.parametrize(
    "careless",
    [
        lambda deal: {"halves": deal.halves[:-1]},
        lambda deal: {"halves": [*deal.halves[:-1], deal.halves[0]]},
        lambda deal: {"wholes": [(band + 1, column) for band, column in deal.wholes]},
    ],
)
def test_work_that_is_left_out_or_done_twice_would_be_noticed(careless):
    deal = Deal.of(700, 900, ctas=5)
    right = dealt(deal)
    fields = {name: getattr(right, name) for name in ("wholes", "halves", "wholes_of", "halves_of")}
    assert right.work == everything(deal) != Dealt(**(fields | careless(right))).work
