"""Which columns are found, shared and let go: examples one can check by eye. The laws are in tests/engine/test_prefix_caching.py."""

import numpy as np
import pytest

from muxjax.cache.arena import Arena
from muxjax.cache.block_pool import BlockPool, ModelBlocks
from muxjax.cache.layout import CacheLayout
from muxjax.cache.prefix import Chain

P = 4


def chain(columns: int, *, first: int = 0, owner: bytes = b"m") -> Chain:
    named = Chain(owner, P)
    named.extend(np.arange(first, first + P * columns, dtype=np.int32), columns)
    return named


def store(blocks: ModelBlocks, named: Chain) -> None:
    """A sequence computes all columns of a chain, and goes."""
    ids = [blocks.take(blocks.column_blocks) for _ in named.names]
    kept = [blocks.keep(name, each) for name, each in zip(named.names, ids, strict=True)]
    blocks.drop(kept, [int(each[0]) for each in ids])


def found(blocks: ModelBlocks, named: Chain) -> int:
    return blocks.count_cached(named, len(named.names))


def test_a_name_depends_on_every_token_before_it_and_on_the_owner():
    names = chain(3).names
    assert len({*names, *chain(3, first=1).names, *chain(3, owner=b"n").names}) == 9
    other = Chain(b"m", P)
    other.extend(np.array([0, 1, 2, 3, 9, 5, 6, 7, 8, 9, 10, 11], np.int32), 3)
    assert [mine == its for mine, its in zip(names, other.names, strict=True)] == [True, False, False]


def test_names_of_tokens_that_come_later_are_what_they_would_have_been_at_once():
    tokens, grown = np.arange(3 * P, dtype=np.int32), Chain(b"m", P)
    for columns in (1, 1, 3):
        grown.extend(tokens, columns)
    assert grown.names == chain(3).names


def test_idle_columns_are_free_until_somebody_needs_the_room_and_go_from_the_ends_of_chains():
    pool = BlockPool(Arena(12))
    blocks = pool.model_blocks(2)
    store(blocks, chain(3))
    store(blocks, chain(2, first=50))
    assert (pool.free, blocks.held, blocks.idle_blocks) == (12, 0, 10)
    taken = blocks.take(5)  # 2 are free, and two columns go
    assert (found(blocks, chain(3)), found(blocks, chain(2, first=50))) == (1, 2)
    assert (pool.free, len(set(taken.tolist()))) == (7, 5)


def test_what_is_used_again_is_the_last_to_go():
    pool = BlockPool(Arena(8))
    blocks = pool.model_blocks(2)
    store(blocks, chain(2))
    store(blocks, chain(2, first=50))
    used = blocks.use(chain(2), 2)
    assert (blocks.held, pool.free) == (4, 4)
    blocks.drop(used, [column.first for column in used])
    blocks.take(4)
    assert (found(blocks, chain(2)), found(blocks, chain(2, first=50))) == (2, 0)


def test_a_used_column_is_never_let_go():
    pool = BlockPool(Arena(6))
    blocks = pool.model_blocks(2)
    store(blocks, chain(3))
    blocks.use(chain(3), 2)
    assert pool.free == 2
    with pytest.raises(ValueError, match="3 head blocks wanted"):
        blocks.take(3)
    blocks.take(2)
    assert found(blocks, chain(3)) == 2


@pytest.mark.parametrize(("worth", "stays"), [(1.0, False), (3.0, True)])
def test_a_column_that_is_dearer_to_compute_outlives_cheaper_ones_that_came_later(worth, stays):
    pool = BlockPool(Arena(8))
    dear, cheap = pool.model_blocks(2, worth=worth), pool.model_blocks(2, worth=1.0)
    store(dear, chain(1, owner=b"dear"))
    for i in range(4):  # the last one needs room
        store(cheap, chain(1, first=10 * i))
    assert bool(found(dear, chain(1, owner=b"dear"))) is stays


def test_a_dear_column_does_not_stay_for_ever():
    pool = BlockPool(Arena(8))
    dear, cheap = pool.model_blocks(2, worth=3.0), pool.model_blocks(2, worth=1.0)
    store(dear, chain(1, owner=b"dear"))
    for i in range(20):
        store(cheap, chain(1, first=10 * i))
    assert not found(dear, chain(1, owner=b"dear"))


@pytest.mark.parametrize(("share", "left"), [(0.25, 2), (1.0, 0)])
def test_a_model_beyond_its_share_gives_its_own_and_no_more_than_that(share, left):
    pool = BlockPool(Arena(16), share_frac=share)
    quiet, loud = pool.model_blocks(2), pool.model_blocks(2)
    store(quiet, chain(2, owner=b"quiet"))
    for i in range(12):
        store(loud, chain(1, first=10 * i))
    assert found(quiet, chain(2, owner=b"quiet")) == left
    loud.take(8)
    assert (loud.idle_blocks, quiet.idle_blocks) == ((4, 4) if left else (8, 0))


def test_copies_of_a_column_are_kept_once_and_the_last_one_used_is_what_is_found():
    pool = BlockPool(Arena(10))
    blocks = pool.model_blocks(2)
    (name,) = chain(1).names
    ids = [blocks.take(2) for _ in range(3)]
    columns = [blocks.keep(name, each) for each in ids]
    assert columns[0] is columns[1] is columns[2] and blocks.held == 6
    for i, held in ((1, 4), (0, 2), (2, 0)):
        blocks.drop([columns[i]], [int(ids[i][0])])
        assert blocks.held == held
    (column,) = blocks.use(chain(1), 1)
    assert column.ids.tolist() == ids[2].tolist() and pool.free == 8


def test_a_copy_takes_the_place_of_an_idle_column():
    pool = BlockPool(Arena(10))
    blocks = pool.model_blocks(2)
    store(blocks, chain(1))
    ids = blocks.take(2)
    column = blocks.keep(chain(1).names[0], ids)
    assert (column.ids.tolist(), blocks.held, blocks.idle_blocks, pool.free) == (ids.tolist(), 2, 0, 8)


def test_closed_blocks_keep_nothing_that_its_sequences_give_up():
    pool = BlockPool(Arena(10))
    blocks = pool.model_blocks(2)
    store(blocks, chain(2))
    used = blocks.use(chain(2), 2)
    store(blocks, chain(1, first=50))
    blocks.close()
    assert (blocks.held, blocks.idle_blocks) == (4, 0)
    blocks.drop(used, [column.first for column in used])
    assert (blocks.held, blocks.idle_blocks, pool.free, pool.columns) == (0, 0, 10, {})


def test_a_model_that_holds_blocks_cannot_go():
    pool = BlockPool(Arena(10))
    blocks = pool.model_blocks(2)
    ids = blocks.take(2)
    with pytest.raises(AssertionError, match="holds head blocks"):
        pool.remove(blocks)
    blocks.give(ids)
    pool.remove(blocks)


@pytest.mark.parametrize(("window", "forgets"), [(None, False), (8, False), (7, True)])
def test_a_layout_forgets_what_a_shorter_window_passes(window, forgets):
    layout = CacheLayout(windows=(None, window), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512)
    assert layout.forgets(8) is forgets
