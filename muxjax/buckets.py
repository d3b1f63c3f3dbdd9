"""Sizes that steps are padded to: few, because each is compiled, and close enough together to waste little."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from muxjax.cache.layout import CacheLayout
from muxjax.scheduler.view import SHARED_TOKENS, grains
from muxjax.types import Ints, Phase

TOKEN_BUDGET, PREFILL_ROWS = 2048, 8
"""Most prompt tokens of a step, and most prompts, unless the engine is told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Static sizes of a compiled step: most rows that decode, most chunks, and tokens of both together.

    Args:
      columns: of the block tables that the step reads.
      tokens: T, at least decode_rows. Those of the rows that decode come first, then the chunks', from the next grain on: what a step
        has fewer of one, it may have more of the other.
      sm_share: multiprocessors that its products keep to; None for all.
    """

    columns: int
    tokens: int
    decode_rows: int = 0
    prefill_rows: int = 0
    sm_share: int | None = None

    @property
    def rows(self) -> int:
        """B, the decodes first."""
        return self.decode_rows + self.prefill_rows

    @property
    def phase(self) -> Phase:
        """The phase that it costs like."""
        return Phase.PREFILL if self.prefill_rows else Phase.DECODE


class StepSize(NamedTuple):
    """What a step needs of a shape: rows that decode, chunks, tokens (beside chunks in whole grains), and columns of the tables."""

    decodes: int
    chunks: int
    tokens: int
    columns: int

    def fits(self, shape: BatchShape) -> bool:
        return (
            self.decodes <= shape.decode_rows
            and self.chunks <= shape.prefill_rows
            and self.tokens <= shape.tokens
            and self.columns <= shape.columns
        )


def smallest(shapes: Iterable[BatchShape], size: StepSize, sm_share: int | None = None) -> BatchShape:
    """The one that computes least of the shapes that hold a step, of which there must be one that keeps to no share.

    Args:
      sm_share: that it is to keep to, if there is such a shape.
    """
    fitting = [shape for shape in shapes if size.fits(shape)]
    sharing = [shape for shape in fitting if shape.sm_share == sm_share] or [shape for shape in fitting if shape.sm_share is None]
    return min(sharing, key=lambda shape: (shape.tokens, shape.rows, shape.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """The sizes that steps of one model are padded to, ascending; the last of each is the most there can be.

    Args:
      decode_rows: of steps that only decode; mixed_rows: those that decode in a step with chunks.
      tokens: of steps with chunks; they may have as many of prompts, and beside them all rows that decode.
      sm_shares: multiprocessors that steps with SHARED_TOKENS and more may keep to, beside all of them.
    """

    decode_rows: tuple[int, ...]
    mixed_rows: tuple[int, ...]
    tokens: tuple[int, ...]
    prefill_rows: int
    columns: tuple[int, ...]
    sm_shares: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        layout: CacheLayout,
        *,
        slots: int,
        max_tokens: int,
        token_budget: int,
        prefill_rows: int,
        ragged: bool,
        sm_shares: tuple[int, ...] = (),
    ) -> "Buckets":
        """Few sizes that waste little; `ragged` as of `kernels.Kernels`: without it there are widths of tables too, and fewer others.

        Where it is, as on Hopper, rows that only decode are whole grains: XLA pads products of fewer to them, one by one, and for one of a
        single row it widens the head.
        """
        most, columns = min(token_budget, prefill_rows * grains(max_tokens)), layout.columns(max_tokens)
        return cls(
            decode_rows=_quarters(grains(slots), apart=8) if ragged else _ladder(slots, least=8, factor=4),
            mixed_rows=_ladder(slots, least=64, factor=4),
            tokens=tuple(map(grains, _quarters(most, apart=64) if ragged else _ladder(most, least=128, factor=4))),
            prefill_rows=prefill_rows,
            columns=(columns,) if ragged else _ladder(columns, least=16, factor=4),
            sm_shares=sm_shares,
        )

    def size(self, starts: Ints, counts: Ints, decodes: int, layout: CacheLayout, *, drafts: int = 0) -> StepSize:
        """What a shape must hold to hold a step of such rows; the arguments are `Step`'s, with the number of its drafts."""
        chunks = counts[decodes:]
        columns = self.columns[-1]
        if len(self.columns) > 1:
            columns = _fitting(self.columns, layout.columns(int((starts + counts).max())))
        alone = decodes + drafts
        tokens = grains(alone) + int(grains(chunks).sum()) if len(chunks) else alone
        return StepSize(decodes=alone, chunks=len(chunks), tokens=tokens, columns=columns)

    def shapes(self) -> list[BatchShape]:
        """All shapes there are. Of those that keep to a share, which are compiled beside the others, there are fewer."""
        mixed = [(tokens, decodes) for decodes in self.mixed_rows for tokens in self._tokens(decodes)]
        fewest_and_most = self.mixed_rows[:1] + self.mixed_rows[-1:]
        shared = [(tokens, decodes) for tokens, decodes in mixed if tokens >= SHARED_TOKENS and decodes in fewest_and_most]
        sizes = [(decodes, decodes, 0, None) for decodes in self.decode_rows]
        sizes += [(*size, self.prefill_rows, None) for size in mixed]
        sizes += [(*size, self.prefill_rows, share) for share in self.sm_shares for size in shared]
        return [
            BatchShape(columns=columns, tokens=tokens, decode_rows=decodes, prefill_rows=prefills, sm_share=share)
            for tokens, decodes, prefills, share in sizes
            for columns in self.columns
        ]

    def _tokens(self, decodes: int) -> list[int]:
        """Tokens of steps with chunks and up to so many rows that decode: the most there can be, and those not next to it."""
        most = self.tokens[-1] + grains(decodes)
        return [*(tokens for tokens in self.tokens if decodes < tokens < 15 / 16 * most), most]


class ShapeChoice:
    """The choice of a shape for each step of a model, remembered by what the step needs.

    Args:
      layout: as of `Buckets.size`.
      shapes: to choose from.
    """

    def __init__(self, buckets: Buckets, layout: CacheLayout, shapes: Iterable[BatchShape]):
        self._buckets, self._layout, self._shapes = buckets, layout, tuple(shapes)
        self._smallest: dict[tuple[StepSize, int | None], BatchShape] = {}

    def shape(self, starts: Ints, counts: Ints, decodes: int, sm_share: int | None = None, *, drafts: int = 0) -> BatchShape:
        """The smallest one that holds a step; the arguments are `Step`'s, with the number of its drafts."""
        key = self._buckets.size(starts, counts, decodes, self._layout, drafts=drafts), sm_share
        if key not in self._smallest:
            self._smallest[key] = smallest(self._shapes, *key)
        return self._smallest[key]


def _ladder(most: int, *, least: int, factor: int) -> tuple[int, ...]:
    """least, and `factor` times the one before, again and again, up to `most`."""
    steps = [least]
    while steps[-1] < most:
        steps.append(steps[-1] * factor)
    return _up_to(most, steps)


def _quarters(most: int, *, apart: int) -> tuple[int, ...]:
    """Powers of two from `apart` to `most` and the quarters between them, none closer together than that."""
    steps = [apart]
    while steps[-1] < most:
        steps.append(steps[-1] + max(apart, 2 ** (steps[-1].bit_length() - 3)))
    return _up_to(most, steps)


def _up_to(most: int, steps: list[int]) -> tuple[int, ...]:
    return (*(step for step in steps if step < most), most)


def _fitting(ladder: tuple[int, ...], size: int) -> int:
    return next(step for step in ladder if step >= size)
