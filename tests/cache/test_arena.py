"""Every head block is free or owned once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cache.arena import Arena


@given(st.lists(st.integers(0, 6), max_size=30))
def test_ids_in_hand_and_free_ids_are_always_all_ids(counts):
    arena, held = Arena(20), []
    for count in counts:
        if count <= arena.free:
            held.append(arena.take(count))
        elif held:
            arena.give(held.pop(0))
        owned = np.concatenate(held) if held else np.zeros(0, np.int32)
        assert len(set(owned.tolist())) == len(owned) == arena.total - arena.free


def test_more_than_is_free_cannot_be_taken():
    with pytest.raises(ValueError, match=r"4 head blocks wanted, 3 of 3 free"):
        Arena(3).take(4)


@pytest.mark.parametrize("ids", [[1, 1], [0]])
def test_a_block_cannot_be_given_back_twice(ids):
    arena = Arena(3)
    taken = arena.take(3)
    arena.give(taken[taken == 0])
    with pytest.raises(ValueError, match="given back"):
        arena.give(np.array(ids, np.int32))


def test_an_arena_of_another_size_has_all_its_blocks_free_and_none_may_be_owned_before():
    arena = Arena(3)
    taken = arena.take(2)
    with pytest.raises(ValueError, match="2 head blocks are owned"):
        arena.resize(5)
    arena.give(taken)
    arena.resize(5)
    assert sorted(arena.take(5).tolist()) == [0, 1, 2, 3, 4]
