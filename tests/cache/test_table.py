"""Block tables of several models in one arena, driven in any order."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from muxjax.cache.arena import Arena
from muxjax.cache.block_pool import BlockPool
from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import Tables

SLOTS, MAX_TOKENS = 4, 40
LAYOUTS = (
    CacheLayout(windows=(None, None), kv_heads=2, head_dim=16, element_bytes=4, block_bytes=512),
    CacheLayout(windows=(6, None, 6, 3), kv_heads=1, head_dim=32, element_bytes=4, block_bytes=512),
    CacheLayout(windows=(None, 6), kv_heads=1, head_dim=32, element_bytes=1, block_bytes=512),
)
"""The last one's cache is FP8, so that a block holds more of its tokens."""


def make_tables(layout: CacheLayout, pool: BlockPool, slots: int) -> Tables:
    return Tables(layout, pool.model_blocks(layout.column_blocks), slots=slots, max_tokens=MAX_TOKENS)


def needed_columns(layout: CacheLayout, window: int | None, length: int, columns: int) -> set[int]:
    """Columns that the query at position `length` or a later one may read, by looking at every position."""
    first = 0 if window is None else max(0, length - window + 1)
    return {position // layout.tokens_per_block for position in range(first, columns * layout.tokens_per_block)}


class AnyOrder(RuleBasedStateMachine):
    @initialize(total=st.integers(20, 120))
    def start(self, total):
        self.arena = Arena(total)
        pool = BlockPool(self.arena)
        self.tables = [make_tables(layout, pool, SLOTS) for layout in LAYOUTS]
        self.device = [np.full((SLOTS, t.layout.layers, t.layout.kv_heads, t.layout.columns(MAX_TOKENS)), -1) for t in self.tables]

    @rule(model=st.integers(0, len(LAYOUTS) - 1), slot=st.integers(0, SLOTS - 1), tokens=st.integers(1, MAX_TOKENS))
    def admit(self, model, slot, tokens):
        tables = self.tables[model]
        if tables.columns[slot] == 0 and tables.layout.blocks(tokens) <= self.arena.free:
            self._take_over(model, tables.reserve(slot, tokens))
            tables.lengths[slot] = tokens

    @rule(model=st.integers(0, len(LAYOUTS) - 1), slots=st.sets(st.integers(0, SLOTS - 1), min_size=1))
    def decode(self, model, slots):
        tables = self.tables[model]
        live = np.array([slot for slot in sorted(slots) if 0 < tables.lengths[slot] < MAX_TOKENS], np.int32)
        full = live[tables.full(live)][: self.arena.free // tables.layout.column_blocks]
        self._take_over(model, tables.grow(full))
        able = live[~tables.full(live)]
        tables.lengths[able] += 1
        tables.retire(able, tables.lengths[able])

    @precondition(lambda self: any(tables.model_blocks.held for tables in self.tables))
    @rule(model=st.integers(0, len(LAYOUTS) - 1), slot=st.integers(0, SLOTS - 1))
    def finish(self, model, slot):
        self.tables[model].release(slot)
        assert self.tables[model].blocks(slot) == 0

    @invariant()
    def every_block_is_free_or_owned_once(self):
        if not hasattr(self, "tables"):
            return
        owned = [tables.owned(slot) for tables in self.tables for slot in range(SLOTS)]
        ids = np.concatenate(owned)
        assert len(np.unique(ids)) == len(ids) == self.arena.total - self.arena.free == sum(t.model_blocks.held for t in self.tables)
        counts = [tables.blocks(slot) for tables in self.tables for slot in range(SLOTS)]
        assert counts == [len(each) for each in owned]

    @invariant()
    def the_device_knows_every_block_that_may_be_read_and_holds_no_other(self):
        for tables, device in zip(getattr(self, "tables", ()), getattr(self, "device", ()), strict=True):
            for slot in range(SLOTS):
                readable = [
                    device[slot, layer, :, column].tolist()
                    for layer, window in enumerate(tables.layout.windows)
                    for column in needed_columns(tables.layout, window, int(tables.lengths[slot]), int(tables.columns[slot]))
                ]
                wanted = {block for heads in readable for block in heads}
                assert wanted <= set(tables.owned(slot).tolist())
                if all(window is None for window in tables.layout.windows):
                    assert len(wanted) == tables.blocks(slot)

    def _take_over(self, model, delta):
        for slot, column, ids in zip(*delta, strict=True):
            self.device[model][slot, :, :, column] = ids


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_window_gives_back_exactly_the_columns_it_has_passed():
    layout = CacheLayout(windows=(5, None), kv_heads=2, head_dim=16, element_bytes=4, block_bytes=512)
    arena = Arena(100)
    tables = make_tables(layout, BlockPool(arena), 1)
    tables.reserve(0, 16)  # four columns of 4 tokens
    slot = np.array([0], np.int32)
    tables.retire(slot, np.array([7]))  # the query at 7 sees 3 .. 7: column 0 still
    assert tables.blocks(0) == 4 * 4
    tables.retire(slot, np.array([8]))  # at 8 it sees 4 .. 8: column 0 has passed in the windowed layer, for both heads
    assert tables.blocks(0) == 4 * 4 - 2
    tables.release(0)
    assert arena.free == arena.total
