"""The host's truth about where each sequence's KV lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from muxjax.cache.block_pool import ModelBlocks
from muxjax.cache.layout import CacheLayout
from muxjax.cache.prefix import Column
from muxjax.types import Bools, Ints


class TableDelta(NamedTuple):
    """Columns that a device's copy of the tables has to take over.

    slots, columns: [U] int32; ids: [U, L, K] int32.
    """

    slots: Ints
    columns: Ints
    ids: Ints


@dataclass(slots=True)
class _WindowGroup:
    """Layers that see the same window, and how many columns of each slot it has passed."""

    window: int
    layers: np.ndarray
    passed: Ints


class Tables:
    """Block tables of one model's sequences: which head block holds column c of kv head k of layer l of slot s.

    A slot is a sequence's place; it holds columns 0 .. columns[slot]-1, less those its windows have passed.
    """

    def __init__(self, layout: CacheLayout, blocks: ModelBlocks, *, slots: int, max_tokens: int):
        self.layout, self.model_blocks = layout, blocks
        self.column_blocks = layout.column_blocks
        self.lengths = np.zeros(slots, np.int32)  # tokens that have been given a place
        self.columns = np.zeros(slots, np.int32)
        self._tokens_per_block = layout.tokens_per_block
        self._kept: list[list[Column]] = [[] for _ in range(slots)]  # the first columns of each, that others may find
        self._ids = np.zeros((slots, layout.columns(max_tokens), layout.layers, layout.kv_heads), np.int32)
        none = np.zeros(0, np.int32)
        self._nothing = TableDelta(none, none, np.zeros((0, layout.layers, layout.kv_heads), np.int32))
        self._groups = [
            _WindowGroup(window, np.flatnonzero([w == window for w in layout.windows]), np.zeros(slots, np.int32))
            for window in sorted({w for w in layout.windows if w is not None})
        ]

    def full(self, slots: Ints) -> Bools:
        """[B] bool: the slot's next token needs a column more."""
        return self.lengths[slots] == self.columns[slots] * self._tokens_per_block

    def room(self, slots: Ints) -> Ints:
        """[B] how many more tokens fit into the columns that the slots hold."""
        return self.columns[slots] * self._tokens_per_block - self.lengths[slots]

    def reserve(self, slot: int, tokens: int, cached: Sequence[Column] = ()) -> TableDelta:
        """Takes the columns for a slot's first `tokens` tokens, the first of which are cached; the slot was empty."""
        begin, columns = len(cached), self.layout.columns(tokens)
        assert self.columns[slot] == 0
        self.columns[slot] = columns
        new = self._add(np.full(columns - begin, slot, np.int32), np.arange(begin, columns, dtype=np.int32))
        if not begin:
            return new
        self.lengths[slot] = begin * self._tokens_per_block
        self._kept[slot] = list(cached)
        self._ids[slot, :begin] = np.reshape([column.ids for column in cached], self._ids[slot, :begin].shape)
        return TableDelta(np.full(columns, slot, np.int32), np.arange(columns, dtype=np.int32), self._ids[slot, :columns].copy())

    def keep(self, slot: int, names: Sequence[bytes]) -> None:
        """Others may find the slot's first columns, computed by now, by these names."""
        kept = self._kept[slot]
        new = range(len(kept), len(names))
        if new:
            ids_CN = self._ids[slot, new.start : new.stop].reshape(len(new), self.column_blocks).copy()
            kept += [self.model_blocks.keep(names[column], ids_N) for column, ids_N in zip(new, ids_CN, strict=True)]

    def grow(self, slots: Ints) -> TableDelta:
        """Takes one column more for each of those different slots."""
        if not len(slots):
            return self._nothing
        columns = self.columns[slots]
        self.columns[slots] += 1
        return self._add(slots, columns)

    def blocks(self, slot: int) -> int:
        """Head blocks in the slot's tables, those that others have too among them."""
        passed = sum([len(group.layers) * int(group.passed[slot]) for group in self._groups])
        return int(self.columns[slot]) * self.column_blocks - passed * self.layout.kv_heads

    def retire(self, slots: Ints, positions: Ints) -> None:
        """Gives back what no query at `positions` [B] or later sees any more: columns that windows have passed."""
        for group in self._groups:
            unseen = np.maximum(positions - group.window + 1, 0) // self.layout.tokens_per_block
            for i in np.flatnonzero(unseen > group.passed[slots]):
                self._pass(group, int(slots[i]), int(unseen[i]))

    def release(self, slot: int) -> None:
        """Gives all of a slot's blocks back, those that are kept to the cache; the slot is empty after it."""
        self.model_blocks.give(self.owned(slot))
        kept = self._kept[slot]
        if kept:
            self.model_blocks.drop(kept, self._ids[slot, : len(kept), 0, 0].tolist())
            self._kept[slot] = []
        for group in self._groups:
            group.passed[slot] = 0
        self.lengths[slot] = self.columns[slot] = 0

    def owned(self, slot: int) -> Ints:
        """Ids of the head blocks that the slot alone knows of."""
        ids_CLK = self._ids[slot, len(self._kept[slot]) : self.columns[slot]]
        if not self._groups:
            return ids_CLK.ravel()
        live = np.ones(ids_CLK.shape, bool)
        for group in self._groups:
            live[: group.passed[slot], group.layers] = False
        return ids_CLK[live]

    def _add(self, slots: Ints, columns: Ints) -> TableDelta:
        taken = self.model_blocks.take(len(slots) * self.column_blocks)
        ids_ULK = taken.reshape(len(slots), self.layout.layers, self.layout.kv_heads)
        self._ids[slots, columns] = ids_ULK
        return TableDelta(slots, columns, ids_ULK)

    def _pass(self, group: _WindowGroup, slot: int, unseen: int) -> None:
        self.model_blocks.give(self._ids[slot, group.passed[slot] : unseen, group.layers].ravel())
        group.passed[slot] = unseen
