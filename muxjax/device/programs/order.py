"""In which order the shapes of a model's steps become ready."""

from collections.abc import Sequence
from itertools import zip_longest

from muxjax.buckets import BatchShape


def essential(shapes: Sequence[BatchShape]) -> list[BatchShape]:
    """The largest step that only decodes, and the largest of all: between them they hold every step of the model."""
    return [max(group, key=_size) for group in _groups(shapes) if group]


def useful_first(shapes: Sequence[BatchShape]) -> list[BatchShape]:
    """All shapes, the essential ones first, then those that save most padding, and at last those that keep to a share.

    Each halves the widest gap between sizes that are there, of decodes and of steps with chunks in turn.
    """
    ordered = [_halving(sorted(group, key=_size)) for group in _groups(shapes)]
    whole = [shape for pair in zip_longest(*ordered) for shape in pair if shape is not None]
    return whole + _halving(sorted((shape for shape in shapes if shape.sm_share), key=_size))


def _groups(shapes: Sequence[BatchShape]) -> tuple[list[BatchShape], list[BatchShape]]:
    whole = [shape for shape in shapes if shape.sm_share is None]
    return [shape for shape in whole if not shape.prefill_rows], [shape for shape in whole if shape.prefill_rows]


def _size(shape: BatchShape) -> tuple[int, int, int]:
    return shape.tokens, shape.rows, shape.columns


def _halving(ascending: list[BatchShape]) -> list[BatchShape]:
    """The largest, the one in the middle, those in the middle of the halves, and so on."""
    ordered, gaps = ascending[-1:], [ascending[:-1]]
    while gaps:
        gap = gaps.pop(0)
        if gap:
            middle = len(gap) // 2
            ordered.append(gap[middle])
            gaps += [gap[middle + 1 :], gap[:middle]]
    return ordered
