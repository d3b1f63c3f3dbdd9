"""What every format of weights offers: the arrays of a parameter tree, one at a time in host memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from muxjax.types import ModelSpec

PARAMS = "params"
"""The folder that makes a checkpoint an Orbax one."""

Advance = Callable[[int], object]
"""Told how many more bytes have been read or written."""


class Checkpoint(Protocol):
    """Weights that are known to be those of a model: names and shapes have been checked."""

    @property
    def stored_bytes(self) -> int:
        """What `read_stacks` will have told `advance` in all."""
        ...

    def read_stacks(self, dtype: np.dtype | None, advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
        """Each array by its dotted path in the tree, read only when it is asked for.

        Args:
          dtype: to cast to; None keeps the stored one.
        Raises:
          CheckpointError: a file that cannot be read to its end.
        """
        ...


def is_orbax(folder: Path) -> bool:
    return (folder / PARAMS).is_dir()


def open_checkpoint(folder: Path, spec: ModelSpec) -> Checkpoint:
    """A Hugging Face (safetensors) or Orbax folder.

    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the model's.
    """
    if is_orbax(folder):
        from muxjax.models.orbax_io import OrbaxFolder  # here, because Orbax takes seconds to import

        return OrbaxFolder(folder, spec)
    from muxjax.models.hf_weights import HfFolder

    return HfFolder(folder, spec)
