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
      zeros: parts of int8 [..., out, J], the numbers that stand for 0; None where 0 does.
      group_of: each input's group, [in], of a checkpoint that says it; None for groups of neighbours.
    """

    numbers: Made
    scales: Made
    zeros: Made | None = None
    group_of: Callable[[], np.ndarray] | None = None

    def widened(self, dtype: np.dtype) -> Made:
        """What it stands for, in that dtype."""
        return Made(self.numbers.shape, dtype, lambda index: self._widened(index).astype(dtype), 12 * self.numbers.shape[-1])

    def has_plain_groups(self) -> bool:
        """Whether the inputs of a group are neighbours."""
        return self.group_of is None or np.array_equal(self.group_of(), self._plain_groups())

    def _plain_groups(self) -> np.ndarray:
        inputs, groups = self.numbers.shape[-1], self.scales.shape[-1]
        return np.arange(inputs) // (inputs // groups)

    def _widened(self, index: Index) -> np.ndarray:
        *outer, columns = index
        assert isinstance(columns, slice)
        groups = slice(0, self.scales.shape[-1])
        group_of = (self._plain_groups() if self.group_of is None else self.group_of())[columns]
        numbers = self.numbers.read(index).astype(np.float32)
        if self.zeros is not None:
            numbers -= self.zeros.read((*outer, groups))[..., group_of]
        return numbers * self.scales.read((*outer, groups))[..., group_of]
