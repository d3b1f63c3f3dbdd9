"""Parameter trees in Orbax folders: `params/` beside config.json and the tokenizer.

Arrays lie there whole, under their dotted paths, in chunks of one layer and one share: what a device holds of a model is read without
the rest, on one device or on several, however many wrote it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from orbax.checkpoint import type_handlers

from muxjax.errors import CheckpointError
from muxjax.model_spec import ModelSpec
from muxjax.models.checkpoint import PARAMS, Advance, Checkpoint
from muxjax.models.decoder import param_shapes
from muxjax.models.inventory import check_inventory
from muxjax.models.shares import WHOLE, Share, finest, grain_shape, part_shape, pieces, split_axis
from muxjax.models.tensors import SCALE, tensors
from muxjax.models.tree import flat, nested

MOST_SHARES = 8
"""Shares that are written, and can be read, each for itself: the devices of one host. Where there are more, two read the same chunk."""

_Shape = tuple[int, ...]


def save(folder: Path, weights: Checkpoint, spec: ModelSpec, advance: Advance) -> None:
    """Writes all arrays to folder/params. One share of one array at a time is in host memory.

    Raises:
      CheckpointError: they cannot be read.
    """
    shapes = {path: leaf.shape for path, leaf in flat(param_shapes(spec)).items()}
    stacks = {path: _Stack(path, shapes[path], dtype, weights, spec, advance) for path, dtype in weights.dtypes.items()}
    with _checkpointer() as checkpointer:
        checkpointer.save((folder / PARAMS).resolve(), args=ocp.args.PyTreeSave(nested(stacks)))


class OrbaxFolder:
    """The arrays of an Orbax folder by dotted path; only metadata is read until `read`.

    Raises:
      CheckpointError: unreadable, or arrays missing, left over or of another shape than the model's.
    """

    def __init__(self, folder: Path, spec: ModelSpec):
        self._path, self._spec = (folder / PARAMS).resolve(), spec
        try:
            self._arrays = _open(self._path)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{self._path} is no readable Orbax checkpoint: {error}") from error
        if "layers.k" in self._arrays:
            raise CheckpointError(f"{folder} holds q, k, v, gate and up apart, as muxjax once wrote them: convert the model to Orbax again")
        self._require_numbers(folder)
        needed = {path: leaf.shape for path, leaf in flat(param_shapes(spec)).items()}
        check_inventory(folder, {path: array.shape for path, array in self._arrays.items()}, needed)

    def _require_numbers(self, folder: Path) -> None:
        """
        Raises:
          CheckpointError: a matrix that is to be quantised lies there as it is.
        """
        dtypes = self.dtypes
        for path, tensor in tensors(self._spec).items():
            if f"{path}{SCALE}" in tensors(self._spec) and path in dtypes and dtypes[path] != np.dtype(tensor.dtype):
                raise CheckpointError(
                    f"{folder} holds {path} in {dtypes[path]}: matrices are quantised while they come from a Hugging Face folder alone"
                )

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        return {path: array.dtype.numpy_dtype for path, array in self._arrays.items()}

    @property
    def stored_bytes(self) -> int:
        return sum(math.prod(array.shape) * self.dtypes[path].itemsize for path, array in self._arrays.items())

    def read(self, path: str, share: Share = WHOLE, *, dtype: np.dtype | None = None, advance: Advance) -> np.ndarray:
        """As `checkpoint.Checkpoint.read`. Folders that muxjax wrote as one chunk an array are read whole for each share."""
        stored = self._arrays[path]
        array = np.zeros(part_shape(path, stored.shape, self._spec, share.of), dtype or stored.dtype.numpy_dtype)
        try:
            for piece in pieces(path, stored.shape, self._spec, share):
                source = stored[piece.whole]
                ts.array(array, copy=False)[piece.part].write(ts.cast(source, array.dtype)).result()
                advance(math.prod(source.shape) * stored.dtype.numpy_dtype.itemsize)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._path}: {path} cannot be read: {error}") from error
        return array


@dataclass(frozen=True, slots=True)
class _Stack:
    """An array of some weights on its way to a file."""

    path: str
    shape: _Shape
    dtype: np.dtype
    weights: Checkpoint
    spec: ModelSpec
    advance: Advance

    async def write(self, file: ts.TensorStore) -> None:
        """Share by share, each of which fills chunks of its own."""
        for share in Share.each(1 if split_axis(self.path, self.spec) is None else finest(self.spec, MOST_SHARES)):
            array = self.weights.read(self.path, share, advance=self.advance)
            for piece in pieces(self.path, self.shape, self.spec, share):
                await file[piece.whole].write(array[piece.part])


class _Stacks(type_handlers.TypeHandler):
    """Has Orbax write a `_Stack` piece by piece, and open arrays instead of reading them."""

    def typestr(self) -> str:
        return "np.ndarray"  # what any reader makes of it

    async def metadata(self, infos: Sequence[Any]) -> Sequence[Any]:
        return await type_handlers.NumpyHandler().metadata(infos)

    async def serialize(self, values: Sequence[_Stack], infos: Sequence[Any], args: Sequence[Any] | None = None) -> Sequence[Any]:
        for stack, info in zip(values, infos, strict=True):
            chunk = grain_shape(stack.path, stack.shape, stack.spec, MOST_SHARES)
            layout = {"global_shape": stack.shape, "local_shape": chunk, "dtype": stack.dtype, "process_index": 0}
            target = type_handlers.get_json_tspec_write(info, use_ocdbt=info.is_ocdbt_checkpoint, **layout)
            await stack.write(await ts.open(ts.Spec(target), create=True, open=True, context=info.ts_context))
        return []

    async def deserialize(self, infos: Sequence[Any], args: Sequence[Any] | None = None) -> Sequence[ts.TensorStore]:
        sources = [type_handlers.get_json_tspec_read(info, use_ocdbt=info.is_ocdbt_checkpoint) for info in infos]
        return [await ts.open(ts.Spec(each), open=True, context=info.ts_context) for each, info in zip(sources, infos, strict=True)]


def _open(path: Path) -> dict[str, ts.TensorStore]:
    """The arrays of a checkpoint, none of which is read."""
    with _checkpointer() as checkpointer:
        metadata: Any = checkpointer.metadata(path).item_metadata
        opened = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=_Stack), metadata.tree)
        return flat(checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=opened)))


def _checkpointer() -> ocp.Checkpointer:
    arrays = (jax.Array, type_handlers.ArrayHandler()), (np.ndarray, type_handlers.NumpyHandler())
    registry = type_handlers.create_type_handler_registry((_Stack, _Stacks()), *arrays)
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=registry))
