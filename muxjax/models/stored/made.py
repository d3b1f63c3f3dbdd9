"""Tensors that a checkpoint does not hold as such, but that are made of others while they are read."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Index = tuple[int | slice, ...]
"""Of a part of a tensor, whose last two axes are cut by slices with both ends."""
Read = Callable[[Index], np.ndarray]


class Made(NamedTuple):
    """A tensor, of which `read` makes the part that is asked for; `row_bytes` is the memory that a row takes meanwhile, beside its own."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Read
    row_bytes: int = 0


class Quantised(NamedTuple):
    """A matrix [out, in], or several, as numbers and scales.

    Args:
      numbers: parts of [..., out, in].
      scales: parts of float32 [..., out, J], of J equal groups of inputs.
    """

    numbers: Made
    scales: Made

    def widened(self, dtype: np.dtype) -> Made:
        """What it stands for, in that dtype."""
        return Made(self.numbers.shape, dtype, lambda index: self._widened(index).astype(dtype), 8 * self.numbers.shape[-1])

    def _widened(self, index: Index) -> np.ndarray:
        *outer, columns = index
        assert isinstance(columns, slice)
        groups = self.scales.shape[-1]
        scales = self.scales.read((*outer, slice(0, groups)))
        each = np.repeat(scales, self.numbers.shape[-1] // groups, axis=-1)[..., columns]
        return self.numbers.read(index).astype(np.float32) * each
