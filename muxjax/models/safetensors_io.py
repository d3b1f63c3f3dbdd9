"""Tensors of a folder's safetensors files, read in pieces and written in shards."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from muxjax.errors import CheckpointError
from muxjax.models.checkpoint import Advance
from muxjax.models.stored.files import StoredTensors
from muxjax.models.stored.fp8 import fp8_matrices, made_fp8
from muxjax.models.stored.int4 import int4_matrices
from muxjax.models.stored.mxfp4 import mxfp4_names, stored_mxfp4
from muxjax.models.tensors import NUMBERS, SCALE, ZERO
from muxjax.specs.reading.quantization import StoredQuantization
from muxjax.specs.weight_files import INDEX, SINGLE

_PIECE_BYTES = 32 * 2**20


class TensorFiles:
    """All tensors of a checkpoint by full name, stored ones and those that are made of them; only headers are read until `read_into`.

    Args:
      quantization: how the folder says that its weights are quantised.
      dtype: of quantised ones that are read as what they stand for.
    Raises:
      CheckpointError: no safetensors, or a file that is missing, damaged or of a dtype not supported.
    """

    def __init__(self, folder: Path, *, quantization: StoredQuantization | None, dtype: np.dtype):
        stored = StoredTensors(folder)
        self.packed = mxfp4_names(stored)
        """Tensors in MXFP4, which read as one of bfloat16."""
        packed = {name: stored_mxfp4(stored, name) for name in self.packed}
        self._quantised = fp8_matrices(stored, quantization) | int4_matrices(stored, quantization)
        parts = {part for _, of in (*packed.values(), *self._quantised.values()) for part in of}
        made = {name: tensor for name, (tensor, _) in packed.items()}
        made |= {name: matrix.widened(dtype) for name, (matrix, _) in self._quantised.items()}
        self._tensors = {name: stored.wide(name) for name in stored.shapes if name not in parts and name not in made} | made
        self._folder, self._quantization = folder, quantization

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        return {name: tensor.dtype for name, tensor in self._tensors.items()}

    def hold_quantised(self, name: str) -> None:
        """Has the numbers, scales and zeros of a matrix be tensors, too: as they are stored, or made of it where nothing is quantised yet.

        Raises:
          CheckpointError: other matrices are stored so, and this one is not; or inputs of a group are no neighbours.
        """
        if name in self._quantised:
            matrix, _ = self._quantised[name]
        elif self._quantization is None:
            matrix = made_fp8(self._tensors[name], f"{self._folder}: {name}")
        else:
            stored = self._tensors[name].dtype
            raise CheckpointError(f"{self._folder}: {name} is stored as {stored}, and config.json says that it is quantised")
        if not matrix.has_plain_groups():
            raise CheckpointError(f"{self._folder}: inputs of {name} are in groups by the order of activations, and config.json says not")
        zeros = {} if matrix.zeros is None else {f"{name}{ZERO}": matrix.zeros}
        self._tensors |= {f"{name}{NUMBERS}": matrix.numbers, f"{name}{SCALE}": matrix.scales} | zeros

    def read_into(
        self,
        name: str,
        target: np.ndarray,
        advance: Advance,
        *,
        rows: tuple[int, int] | None = None,
        piece: int = 0,
        item: int | None = None,
    ) -> None:
        """Fills target, cast to its dtype, a few rows at a time; tells `advance` the bytes of each time.

        Args:
          rows: the tensor's rows from one to before another are all that is read of it; None for all.
          piece: which of the pieces of target's shape that these rows fall into, the last of which may have fewer: what is beyond
            stays as it is.
          item: which along the tensor's first axis is read, without that axis; None for a tensor that is one.
        """
        items, tensor = () if item is None else (item,), self._tensors[name]
        shape = tensor.shape[len(items) :]
        begin, end = rows or (0, shape[0])
        (first, stop), *others = [_stretch(piece, size, of) for size, of in zip(target.shape, (end - begin, *shape[1:]), strict=True)]
        row_bytes = tensor.dtype.itemsize * max(1, math.prod(stop - first for first, stop in others))
        at_once = max(1, _PIECE_BYTES // max(row_bytes, tensor.row_bytes))
        columns = tuple(slice(*stretch) for stretch in others)
        for row in range(first, stop, at_once):
            read = tensor.read((*items, slice(begin + row, begin + min(row + at_once, stop)), *columns))
            target[row - first : row - first + len(read)] = read
            advance(read.nbytes)


def write_shards(folder: Path, tensors: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int) -> None:
    """Writes tensors into one file, or into files of at most shard_bytes (unless one tensor is larger) and an index.

    At most one shard is held in memory.
    """
    shards: list[list[str]] = []
    held: dict[str, np.ndarray] = {}
    total_bytes = 0

    def flush() -> None:
        shard = folder / f"shard-{len(shards)}"
        save_file(held, shard, metadata={"format": "pt"})
        shard.chmod(0o644)  # safetensors leaves it to the owner alone, who may not be who serves it
        shards.append(list(held))
        held.clear()

    for name, tensor in tensors:
        if held and sum(array.nbytes for array in held.values()) + tensor.nbytes > shard_bytes:
            flush()
        held[name] = np.ascontiguousarray(tensor)
        total_bytes += tensor.nbytes
    flush()
    _name_shards(folder, shards, total_bytes)


def _stretch(piece: int, size: int, whole: int) -> tuple[int, int]:
    """Where a piece of that size starts and stops along an axis; the axis itself if it is no longer."""
    return (0, whole) if size >= whole else (min(piece * size, whole), min((piece + 1) * size, whole))


def _name_shards(folder: Path, shards: list[list[str]], total_bytes: int) -> None:
    if len(shards) == 1:
        (folder / "shard-0").rename(folder / SINGLE)
        return
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for number, file in enumerate(files):
        (folder / f"shard-{number}").rename(folder / file)
    index = {
        "metadata": {"total_size": total_bytes},
        "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
