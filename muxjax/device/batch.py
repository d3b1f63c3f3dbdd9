"""Steps as arrays: one packed vector of integers, padded to the step's shape."""

from collections.abc import Callable

import numpy as np

from muxjax.buckets import BatchShape
from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta
from muxjax.engine.executor import Step
from muxjax.scheduler.view import grains
from muxjax.types import Phase

ROW_FIELDS = ("slot", "start", "count", "temperature", "top_k", "top_p", "min_p", "seed_low", "seed_high")
"""int32 each; floats as their bits."""

BEYOND = 2**31 - 1
"""No slot: what is written there is dropped."""


EDITS = 1024
"""Most edits of logits that one program makes."""


def words(shape: BatchShape) -> int:
    """Length of the packed vector."""
    return shape.tokens + len(ROW_FIELDS) * shape.rows


def offsets(counts, cumsum: Callable = np.cumsum):
    """Offsets of rows of so many tokens, each at a multiple of TOKEN_GRAIN; arrays of numpy or, with its cumsum, of jax.numpy."""
    taken = grains(counts)
    return cumsum(taken) - taken


def token_places(step: Step) -> np.ndarray:
    """[T] place in a step of each of its chunks' tokens."""
    counts = step.counts[step.decodes :]
    shift = offsets(counts) - (np.cumsum(counts) - counts)  # of a chunk's tokens, from where they are packed tightly
    return grains(step.one_token_rows) + np.arange(counts.sum()) + np.repeat(shift, counts)


def row_places(step: Step, shape: BatchShape) -> np.ndarray:
    """[B + Y] place of each of the step's own rows in that shape, and of its drafts, which come behind the rows that decode."""
    rows = np.arange(len(step.slots))
    own = np.where(rows < step.decodes, rows, rows + shape.decode_rows - step.decodes)
    return np.concatenate([own, np.arange(step.decodes, step.one_token_rows)])


def pack(step: Step, shape: BatchShape) -> np.ndarray:
    """[words(shape)] int32: the tokens, then each row field. A padding row has no tokens and a slot beyond all."""
    packed, decodes = empty(shape), step.decodes
    fields = packed[shape.tokens :].reshape(len(ROW_FIELDS), shape.rows)
    packed[:decodes] = step.tokens[:decodes]
    _fill(fields[:, :decodes], step, slice(decodes))
    if chunks := len(step.counts) - decodes:
        packed[token_places(step)] = step.tokens[decodes:]
        _fill(fields[:, shape.decode_rows : shape.decode_rows + chunks], step, slice(decodes, None))
    if step.drafts is not None:  # each the row that it follows, some tokens further on
        rows = slice(decodes, step.one_token_rows)
        packed[rows], fields[:, rows] = step.drafts.tokens, fields[:, step.drafts.rows]
        fields[ROW_FIELDS.index("start"), rows] += step.drafts.places
    return packed


def unpack(values_B: np.ndarray, step: Step, shape: BatchShape) -> np.ndarray:
    """Values of the step's own rows and its drafts, of those that a step of that shape made."""
    if step.phase is Phase.DECODE:
        return values_B[: step.one_token_rows]
    return values_B[row_places(step, shape)]


def _fill(fields_FB: np.ndarray, step: Step, rows: slice) -> None:
    """Writes the row fields of some of a step's rows. Those of SAMPLING follow each other as they do there, a word each, and a seed two."""
    fields_FB[0], fields_FB[1], fields_FB[2] = step.slots[rows], step.starts[rows], step.counts[rows]
    sampling = np.ascontiguousarray(step.sampling[rows])
    fields_FB[3:] = sampling.view(np.int32).reshape(len(sampling), len(ROW_FIELDS) - 3).T


def empty(shape: BatchShape) -> np.ndarray:
    """The packed vector of a step without rows: what a warm-up runs."""
    packed = np.zeros(words(shape), np.int32)
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
