"""Sizes that steps are padded to: few, because each is compiled, and close enough together to waste little."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from muxjax.cache.layout import CacheLayout
from muxjax.scheduler.view import SHARED_TOKENS, TOKEN_GRAIN
from muxjax.types import Ints, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShape:
    """Static sizes of a compiled step: rows that decode, and rows of chunks with so many tokens together; either may be none.

    Args:
      columns: of the block tables that the step reads.
      sm_share: multiprocessors that its products keep to; None for all.
    """

    columns: int
    decode_rows: int = 0
    prefill_rows: int = 0
    prefill_tokens: int = 0
    sm_share: int | None = None

    @property
    def rows(self) -> int:
        """B, the decodes first."""
        return self.decode_rows + self.prefill_rows

    @property
    def tokens(self) -> int:
        """T, the decodes' first."""
        return self.decode_rows + self.prefill_tokens

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
      mixed_rows: rows that decode in a step with chunks.
      sm_shares: multiprocessors that steps with SHARED_TOKENS and more may keep to, beside all of them.
    """

    decode_rows: tuple[int, ...]
    mixed_rows: tuple[int, ...]
    prefill_tokens: tuple[int, ...]
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
        """Few sizes that waste little; `ragged` as of `kernels.Kernels`: without it there are widths of tables too, and fewer others."""
        most, columns = min(token_budget, prefill_rows * grains(max_tokens)), layout.columns(max_tokens)
        return cls(
            decode_rows=_halved(_halved(_ladder(slots, least=8, factor=2), beyond=16), beyond=128)
            if ragged
            else _ladder(slots, least=8, factor=4),
            mixed_rows=_ladder(slots, least=64, factor=2 if ragged else 4),
            prefill_tokens=tuple(
                map(
                    grains,
                    _halved(_halved(_ladder(most, least=128, factor=2), beyond=128), beyond=512)
                    if ragged
                    else _ladder(most, least=128, factor=4),
                )
            ),
            prefill_rows=prefill_rows,
            columns=(columns,) if ragged else _ladder(columns, least=16, factor=4),
            sm_shares=sm_shares,
        )

    def size(self, starts: Ints, counts: Ints, decodes: int, layout: CacheLayout) -> StepSize:
        """What a shape must hold to hold a step of such rows; the arguments are `Step`'s."""
        chunks = counts[decodes:]
        columns = _fitting(self.columns, layout.columns(int((starts + counts).max())))
        return StepSize(decodes=decodes, chunks=len(chunks), tokens=int(grains(chunks).sum()), columns=columns)

    def shapes(self) -> list[BatchShape]:
        """All shapes there are. Of those that keep to a share, which are compiled beside the others, there are fewer."""
        rows, shared = (0, *self.mixed_rows), [tokens for tokens in self.prefill_tokens if tokens >= SHARED_TOKENS]
        sizes = [(decodes, 0, 0, None) for decodes in self.decode_rows]
        sizes += [(decodes, self.prefill_rows, tokens, None) for tokens in self.prefill_tokens for decodes in rows]
        sizes += [(decodes, self.prefill_rows, tokens, share) for share in self.sm_shares for tokens in shared for decodes in (0, rows[-1])]
        return [
            BatchShape(columns=columns, decode_rows=decodes, prefill_rows=prefills, prefill_tokens=tokens, sm_share=share)
            for decodes, prefills, tokens, share in sizes
            for columns in self.columns
        ]


class ShapeChoice:
    """The choice of a shape for each step of a model, remembered by what the step needs.

    Args:
      layout: as of `Buckets.size`.
      shapes: to choose from.
    """

    def __init__(self, buckets: Buckets, layout: CacheLayout, shapes: Iterable[BatchShape]):
        self._buckets, self._layout, self._shapes = buckets, layout, tuple(shapes)
        self._smallest: dict[tuple[StepSize, int | None], BatchShape] = {}

    def shape(self, starts: Ints, counts: Ints, decodes: int, sm_share: int | None = None) -> BatchShape:
        """The smallest one that holds a step; the arguments are `Step`'s."""
        key = self._buckets.size(starts, counts, decodes, self._layout), sm_share
        if key not in self._smallest:
            self._smallest[key] = smallest(self._shapes, *key)
        return self._smallest[key]


def grains(count):
    """Rounded up to TOKEN_GRAIN."""
    return -(-count // TOKEN_GRAIN) * TOKEN_GRAIN


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


def _fitting(ladder: tuple[int, ...], size: int) -> int:
    return next(step for step in ladder if step >= size)
