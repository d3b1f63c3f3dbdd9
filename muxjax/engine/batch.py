"""Steps as arrays of few shapes: padding to buckets, and one packed vector of integers a step."""

from dataclasses import dataclass

import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta
from muxjax.engine.executor import Step
from muxjax.types import Phase

ROW_FIELDS = ("slot", "start", "count", "temperature", "top_k", "top_p", "min_p", "seed_low", "seed_high")
"""int32 each; floats as their bits."""

BEYOND = 2**31 - 1
"""No slot: what is written there is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Static sizes of a compiled step: B rows, T tokens, C columns of the tables that are read."""

    phase: Phase
    rows: int
    tokens: int
    columns: int

    @property
    def words(self) -> int:
        """Length of the packed vector."""
        return self.tokens + len(ROW_FIELDS) * self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """The sizes that steps of one model are padded to, ascending; the last of each is the most there can be."""

    decode_rows: tuple[int, ...]
    prefill_tokens: tuple[int, ...]
    prefill_rows: int
    columns: tuple[int, ...]

    @classmethod
    def of(cls, layout: CacheLayout, *, slots: int, max_tokens: int, token_budget: int, prefill_rows: int) -> "Buckets":
        return cls(
            decode_rows=_ladder(slots, least=8),
            prefill_tokens=_ladder(min(token_budget, prefill_rows * max_tokens), least=64),
            prefill_rows=prefill_rows,
            columns=_ladder(layout.columns(max_tokens), least=16),
        )

    def shape(self, step: Step, layout: CacheLayout) -> BatchShape:
        """The smallest that holds the step."""
        columns = _fitting(self.columns, layout.columns(int((step.starts + step.counts).max())))
        if step.phase is Phase.DECODE:
            rows = _fitting(self.decode_rows, len(step.slots))
            return BatchShape(phase=step.phase, rows=rows, tokens=rows, columns=columns)
        tokens = _fitting(self.prefill_tokens, len(step.tokens))
        return BatchShape(phase=step.phase, rows=self.prefill_rows, tokens=tokens, columns=columns)

    def shapes(self) -> list[BatchShape]:
        """All there are."""
        decodes = [
            BatchShape(phase=Phase.DECODE, rows=rows, tokens=rows, columns=columns) for rows in self.decode_rows for columns in self.columns
        ]
        prefills = [
            BatchShape(phase=Phase.PREFILL, rows=self.prefill_rows, tokens=tokens, columns=columns)
            for tokens in self.prefill_tokens
            for columns in self.columns
        ]
        return decodes + prefills


def pack(step: Step, shape: BatchShape) -> np.ndarray:
    """[shape.words] int32: the tokens, then each row field. A padding row has no tokens and a slot beyond all."""
    packed = np.zeros(shape.words, np.int32)
    packed[: len(step.tokens)] = step.tokens
    fields = packed[shape.tokens :].reshape(len(ROW_FIELDS), shape.rows)
    fields[0] = BEYOND
    drawn = step.sampling
    seed = np.ascontiguousarray(drawn["seed"]).view(np.int32).reshape(-1, 2)
    columns = (
        step.slots,
        step.starts,
        step.counts,
        np.ascontiguousarray(drawn["temperature"]).view(np.int32),
        drawn["top_k"],
        np.ascontiguousarray(drawn["top_p"]).view(np.int32),
        np.ascontiguousarray(drawn["min_p"]).view(np.int32),
        seed[:, 0],
        seed[:, 1],
    )
    for field, column in zip(fields, columns, strict=True):
        field[: len(column)] = column
    return packed


def empty(shape: BatchShape) -> np.ndarray:
    """The packed vector of a step without rows: what a warm-up runs."""
    packed = np.zeros(shape.words, np.int32)
    packed[shape.tokens : shape.tokens + shape.rows] = BEYOND
    return packed


def pack_delta(delta: TableDelta, entries: int) -> np.ndarray:
    """[entries, 2 + L x K] int32: slot, column, ids; padding has a slot beyond all."""
    _, layers, kv_heads = delta.ids.shape
    packed = np.full((entries, 2 + layers * kv_heads), BEYOND, np.int32)
    count = len(delta.slots)
    packed[:count, 0], packed[:count, 1], packed[:count, 2:] = delta.slots, delta.columns, delta.ids.reshape(count, -1)
    return packed


def empty_delta(layout: CacheLayout, entries: int) -> np.ndarray:
    """The packed delta that changes nothing: what a warm-up runs."""
    return np.full((entries, 2 + layout.column_blocks), BEYOND, np.int32)


def delta_entries(count: int) -> int:
    """How many entries a delta of `count` columns is padded to: a power of four."""
    entries = 1
    while entries < count:
        entries *= 4
    return entries


def _ladder(most: int, *, least: int) -> tuple[int, ...]:
    """most, and below it a quarter of the one above, again and again, down to `least`."""
    steps = [most]
    while steps[-1] > least:
        steps.append(max(least, -(-steps[-1] // 4)))
    return tuple(reversed(steps))


def _fitting(ladder: tuple[int, ...], size: int) -> int:
    return next(step for step in ladder if step >= size)
