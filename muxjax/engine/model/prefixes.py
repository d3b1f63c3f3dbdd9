"""A model's part in the prefix cache: the columns that its sequences find there, and those that they leave."""

import numpy as np

from muxjax.cache.block_pool import ModelBlocks
from muxjax.cache.prefix import Column
from muxjax.cache.table import Tables
from muxjax.engine.model.sequence import Sequence
from muxjax.engine.model.slots import Slots
from muxjax.engine.stats import Tally
from muxjax.types import Ints, Output


class Prefixes:
    """Cached columns and tokens of each sequence."""

    def __init__(self, blocks: ModelBlocks, tables: Tables, slots: Slots, tally: Tally):
        self._blocks, self._tables, self._slots, self._tally = blocks, tables, slots, tally
        self._tokens_per_block = tables.layout.tokens_per_block
        self._landed = np.zeros_like(tables.lengths)  # by slot: tokens that are in the cache, whatever flies
        self._cached = np.zeros_like(tables.lengths)  # by slot: prompt tokens that were when it was admitted, until an output says so

    def name(self, sequence: Sequence) -> None:
        """Names the columns that a sequence may find, when it begins to wait."""
        if self._blocks.keeps:
            sequence.chain.extend(sequence.tokens, self._most_columns(sequence))

    def count_cached(self, sequence: Sequence) -> int:
        """First columns of a waiting sequence that are in the cache; none if something is wanted of all that is computed of its prompt."""
        if sequence.controls is not None and sequence.controls.wants_whole_prompt:
            return 0
        return self._blocks.count_cached(sequence.chain, self._most_columns(sequence))

    def count_shared(self, sequence: Sequence, cached: int) -> int:
        """Columns among the first `cached` that running sequences have too."""
        return self._blocks.count_shared(sequence.chain, cached)

    def use(self, sequence: Sequence) -> list[Column]:
        """The columns that a sequence finds as it is admitted, which it uses from now on."""
        return self._blocks.use(sequence.chain, self.count_cached(sequence))

    def begin(self, slot: int, sequence: Sequence, columns: int) -> None:
        """The sequence has the slot from now on, and so many columns of it come from the cache."""
        self._landed[slot] = tokens = columns * self._tokens_per_block
        is_new = len(sequence.tokens) == len(sequence.request.prompt)  # else it has been pre-empted
        self._cached[slot] = tokens if is_new else 0
        if is_new and self._blocks.keeps:
            self._tally.look_up(len(sequence.tokens), tokens)

    def land(self, slots: Ints, ends: Ints) -> None:
        """A step has computed those slots' tokens up to there."""
        self._landed[slots] = ends

    def keep(self, slot: int) -> None:
        """Others may find the full columns that are computed of a slot, by tokens that are known: not what a late stop left behind."""
        if self._blocks.keeps:
            text = self._slots.text
            columns = int(min(self._landed[slot], text.known[slot])) // self._tokens_per_block
            chain = self._slots.sequence(slot).chain
            chain.extend(text.tokens[slot], columns)
            self._tables.keep(slot, chain.names[:columns])

    def note_cached(self, outputs: list[Output], slots: Ints) -> None:
        """Says in the first output of each of the slots' sequences how many of its prompt's tokens were cached."""
        cached = self._cached[slots]
        for i in map(int, np.flatnonzero(cached)):
            outputs[i] = outputs[i]._replace(cached_tokens=int(cached[i]))
        self._cached[slots] = 0

    def _most_columns(self, sequence: Sequence) -> int:
        """Columns of a waiting sequence that may come from the cache: one token is computed, for what comes after it."""
        return (len(sequence.tokens) - 1) // self._tokens_per_block
