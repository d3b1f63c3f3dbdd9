"""Steps as arrays of few shapes: padding to buckets, and one packed vector of integers a step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta
from muxjax.engine.executor import Step
from muxjax.scheduler.view import TOKEN_GRAIN
from muxjax.types import Phase

ROW_FIELDS = ("slot", "start", "count", "temperature", "top_k", "top_p", "min_p", "seed_low", "seed_high")
"""int32 each; floats as their bits."""

BEYOND = 2**31 - 1
"""No slot: what is written there is dropped."""


EDITS = 1024
"""Most edits of logits that one program makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Static sizes of a compiled step: rows that decode, and rows of chunks with so many tokens together; either may be none.

    Args:
      columns: of the block tables that the step reads.
    """

    columns: int
    decode_rows: int = 0
    prefill_rows: int = 0
    prefill_tokens: int = 0

    @property
    def rows(self) -> int:
        """B, the decodes first."""
        return self.decode_rows + self.prefill_rows

    @property
    def tokens(self) -> int:
        """T, the decodes' first."""
        return self.decode_rows + self.prefill_tokens

    @property
    def words(self) -> int:
        """Length of the packed vector."""
        return self.tokens + len(ROW_FIELDS) * self.rows

    @property
    def phase(self) -> Phase:
        """The phase that it costs like."""
        return Phase.PREFILL if self.prefill_rows else Phase.DECODE


class StepSize(NamedTuple):
    """What a step needs of a shape: rows that decode, chunks, their tokens in whole grains, and columns of the tables."""

    decodes: int
    chunks: int
    tokens: int
    columns: int

    def fits(self, shape: BatchShape) -> bool:
        return (
            self.decodes <= shape.decode_rows
            and self.chunks <= shape.prefill_rows
            and self.tokens <= shape.prefill_tokens
            and self.columns <= shape.columns
        )


def smallest(shapes: Iterable[BatchShape], size: StepSize) -> BatchShape:
    """The one that computes least of the shapes that hold a step, of which there must be one."""
    return min(filter(size.fits, shapes), key=lambda shape: (shape.tokens, shape.rows, shape.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """The sizes that steps of one model are padded to, ascending; the last of each is the most there can be.

    Args:
      mixed_rows: rows that decode in a step with chunks.
    """

    decode_rows: tuple[int, ...]
    mixed_rows: tuple[int, ...]
    prefill_tokens: tuple[int, ...]
    prefill_rows: int
    columns: tuple[int, ...]

    @classmethod
    def of(cls, layout: CacheLayout, *, slots: int, max_tokens: int, token_budget: int, prefill_rows: int, ragged: bool) -> "Buckets":
        """Few sizes that waste little; `ragged` as of `kernels.Kernels`: without it there are widths of tables too, and fewer others."""
        most, columns = min(token_budget, prefill_rows * _grains(max_tokens)), layout.columns(max_tokens)
        return cls(
            decode_rows=_halved(_halved(_ladder(slots, least=8, factor=2), beyond=16), beyond=128)
            if ragged
            else _ladder(slots, least=8, factor=4),
            mixed_rows=_ladder(slots, least=64, factor=2 if ragged else 4),
            prefill_tokens=tuple(
                map(_grains, _halved(_ladder(most, least=128, factor=2), beyond=256) if ragged else _ladder(most, least=128, factor=4))
            ),
            prefill_rows=prefill_rows,
            columns=(columns,) if ragged else _ladder(columns, least=16, factor=4),
        )

    def size(self, step: Step, layout: CacheLayout) -> StepSize:
        """What a shape must hold to hold the step."""
        chunks = step.counts[step.decodes :]
        columns = _fitting(self.columns, layout.columns(int((step.starts + step.counts).max())))
        return StepSize(decodes=step.decodes, chunks=len(chunks), tokens=int(_grains(chunks).sum()), columns=columns)

    def shapes(self) -> list[BatchShape]:
        """All shapes there are."""
        sizes = [(rows, 0, 0) for rows in self.decode_rows]
        sizes += [(rows, self.prefill_rows, tokens) for tokens in self.prefill_tokens for rows in (0, *self.mixed_rows)]
        return [
            BatchShape(columns=columns, decode_rows=decodes, prefill_rows=prefills, prefill_tokens=tokens)
            for decodes, prefills, tokens in sizes
            for columns in self.columns
        ]


def offsets(counts, cumsum: Callable = np.cumsum):
    """Offsets of rows of so many tokens, each at a multiple of TOKEN_GRAIN; arrays of numpy or, with its cumsum, of jax.numpy."""
    taken = _grains(counts)
    return cumsum(taken) - taken


def token_places(counts: np.ndarray) -> np.ndarray:
    """[T] place in a step of each of its chunks' tokens, counted from the first chunk's."""
    shift = offsets(counts) - (np.cumsum(counts) - counts)  # of a chunk's tokens, from where they are packed tightly
    return np.arange(counts.sum()) + np.repeat(shift, counts)


def row_places(step: Step, shape: BatchShape) -> np.ndarray:
    """[B] place of each of the step's own rows in that shape."""
    rows = np.arange(len(step.slots))
    return np.where(rows < step.decodes, rows, rows + shape.decode_rows - step.decodes)


def pack(step: Step, shape: BatchShape) -> np.ndarray:
    """[shape.words] int32: the tokens, then each row field. A padding row has no tokens and a slot beyond all."""
    packed = empty(shape)
    decodes, counts = step.decodes, step.counts[step.decodes :]
    packed[:decodes] = step.tokens[:decodes]
    packed[shape.decode_rows + token_places(counts)] = step.tokens[decodes:]
    fields = packed[shape.tokens :].reshape(len(ROW_FIELDS), shape.rows)
    for field, column in zip(fields, _columns(step), strict=True):
        field[:decodes] = column[:decodes]
        field[shape.decode_rows : shape.decode_rows + len(counts)] = column[decodes:]
    return packed


def unpack(values_B: np.ndarray, step: Step, shape: BatchShape) -> np.ndarray:
    """Values of the step's own rows, of those that a step of that shape made."""
    return values_B[row_places(step, shape)]


def _columns(step: Step) -> tuple[np.ndarray, ...]:
    """[B] int32 of each row field."""
    sampling = step.sampling
    seed = np.ascontiguousarray(sampling["seed"]).view(np.int32).reshape(-1, 2)
    return (
        step.slots,
        step.starts,
        step.counts,
        np.ascontiguousarray(sampling["temperature"]).view(np.int32),
        sampling["top_k"],
        np.ascontiguousarray(sampling["top_p"]).view(np.int32),
        np.ascontiguousarray(sampling["min_p"]).view(np.int32),
        seed[:, 0],
        seed[:, 1],
    )


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
    """Entries that a delta of `count` columns is padded to: a power of four."""
    entries = 1
    while entries < count:
        entries *= 4
    return entries


def mask_words(vocab: int) -> int:
    """Words of 32 bits, a bit for each token."""
    return -(-vocab // 32)


def _ladder(most: int, *, least: int, factor: int) -> tuple[int, ...]:
    """most, and below it the one above over `factor`, again and again, down to `least`."""
    steps = [most]
    while steps[-1] > least:
        steps.append(max(least, -(-steps[-1] // factor)))
    return tuple(reversed(steps))


def _halved(ladder: tuple[int, ...], *, beyond: int) -> tuple[int, ...]:
    """With the middle between neighbours from that size on: below it a step waits for its weights, and padding is free."""
    middles = ((low + high) // 2 for low, high in pairwise(ladder) if low >= beyond)
    return tuple(sorted({*ladder, *middles}))


def _grains(count):
    """Rounded up to TOKEN_GRAIN."""
    return -(-count // TOKEN_GRAIN) * TOKEN_GRAIN


def _fitting(ladder: tuple[int, ...], size: int) -> int:
    return next(step for step in ladder if step >= size)
