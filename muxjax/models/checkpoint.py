"""Checkpoint: what every format of weights offers, the arrays of a parameter tree, in the parts that devices hold of them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from muxjax.model_spec import ModelSpec
from muxjax.models.shares import WHOLE, Share, part
from muxjax.models.tree import flat

PARAMS = "params"
"""The folder that makes a checkpoint an Orbax one."""

Advance = Callable[[int], object]
"""Called with how many more bytes have been read or written."""


class Checkpoint(Protocol):
    """Weights that are known to be those of a model: names and shapes have been checked."""

    @property
    def dtypes(self) -> Mapping[str, np.dtype]:
        """Of all arrays as they are stored, by dotted path in the tree."""
        ...

    @property
    def stored_bytes(self) -> int:
        """All bytes that reading every part of every array calls `advance` with."""
        ...

    def read(self, path: str, share: Share = WHOLE, *, dtype: np.dtype | None = None, advance: Advance) -> np.ndarray:
        """A share's part of an array, of which alone the host then holds memory, as far as the format permits.

        Args:
          dtype: to cast to; None keeps the stored one.
        Raises:
          CheckpointError: a file that cannot be read to its end.
        """
        ...


class HeldWeights:
    """A parameter tree in memory as a checkpoint."""

    def __init__(self, params: Mapping[str, Any], spec: ModelSpec):
        self._arrays = {path: np.asarray(leaf) for path, leaf in flat(params).items()}
        self._spec = spec

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        return {path: array.dtype for path, array in self._arrays.items()}

    @property
    def stored_bytes(self) -> int:
        return sum(array.nbytes for array in self._arrays.values())

    def read(self, path: str, share: Share = WHOLE, *, dtype: np.dtype | None = None, advance: Advance) -> np.ndarray:
        """As `Checkpoint.read`."""
        array = part(path, self._arrays[path], self._spec, share)
        advance(array.nbytes)
        return array if dtype is None else array.astype(dtype)
