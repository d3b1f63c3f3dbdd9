"""Checkpoint: what every format of weights offers, the arrays of a parameter tree, one at a time in host memory."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

PARAMS = "params"
"""The folder that makes a checkpoint an Orbax one."""

Advance = Callable[[int], object]
"""Called with how many more bytes have been read or written."""


class Checkpoint(Protocol):
    """Weights that are known to be those of a model: names and shapes have been checked."""

    @property
    def stored_bytes(self) -> int:
        """All bytes that `read_stacks` calls `advance` with."""
        ...

    def read_stacks(self, dtype: np.dtype | None, advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
        """Each array by its dotted path in the tree, read only when it is asked for.

        Args:
          dtype: to cast to; None keeps the stored one.
        Raises:
          CheckpointError: a file that cannot be read to its end.
        """
        ...
