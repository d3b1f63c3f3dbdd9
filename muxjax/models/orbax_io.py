"""Parameter trees in Orbax folders: `params/` beside config.json and the tokenizer."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from muxjax.errors import CheckpointError
from muxjax.models.checkpoint import PARAMS, Advance
from muxjax.models.decoder import param_shapes
from muxjax.models.inventory import check_inventory
from muxjax.models.tree import flat, nested
from muxjax.types import ModelSpec


def save(folder: Path, params: dict) -> None:
    """Writes a tree of arrays to folder/params."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / PARAMS).resolve(), params)


class OrbaxFolder:
    """The arrays of an Orbax folder by dotted path; only metadata is read until `read_stacks`.

    Raises:
      CheckpointError: unreadable, or arrays missing, left over or of another shape than the model's.
    """

    def __init__(self, folder: Path, spec: ModelSpec):
        self._path = (folder / PARAMS).resolve()
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                metadata: Any = checkpointer.metadata(self._path).item_metadata
            stored = flat(metadata.tree)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{self._path} is no readable Orbax checkpoint: {error}") from error
        if "layers.q" in stored:
            raise CheckpointError(f"{folder} holds q, k, v, gate and up apart, as muxjax once wrote them: convert the model to Orbax again")
        needed = {path: leaf.shape for path, leaf in flat(param_shapes(spec)).items()}
        check_inventory(folder, {path: tuple(leaf.shape) for path, leaf in stored.items()}, needed)
        self._shapes = needed
        self._dtypes = {path: np.dtype(leaf.dtype) for path, leaf in stored.items()}

    @property
    def stored_bytes(self) -> int:
        return sum(math.prod(shape) * self._dtypes[path].itemsize for path, shape in self._shapes.items())

    def read_stacks(self, dtype: np.dtype | None, advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
        """As `checkpoint.Checkpoint.read_stacks`."""
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            for path, stored_dtype in self._dtypes.items():
                array = self._read(checkpointer, path, dtype or stored_dtype)
                advance(array.size * stored_dtype.itemsize)
                yield path, array

    def _read(self, checkpointer: ocp.Checkpointer, path: str, dtype: np.dtype) -> np.ndarray:
        item = nested({path: jax.ShapeDtypeStruct(self._shapes[path], dtype)})
        how = nested({path: ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)})
        request = ocp.args.PyTreeRestore(item=item, restore_args=how, partial_restore=True)
        try:
            return flat(checkpointer.restore(self._path, args=request))[path]
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._path}: {path} cannot be read: {error}") from error
