"""Tensors of a folder's safetensors files, read in pieces and written in shards."""

import json
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from muxjax.errors import CheckpointError
from muxjax.models.checkpoint import Advance
from muxjax.specs.folders import no_weights, require_no_pointer
from muxjax.specs.weight_files import DTYPES, INDEX, SINGLE, full_name, read_headers, weight_files

_DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
assert _DTYPES.keys() == DTYPES.keys()
_PIECE_BYTES = 32 * 2**20

_BLOCKS, _SCALES = "_blocks", "_scales"
_BLOCK = 32
"""Numbers that share a scale in MXFP4."""
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""Numbers by their four bits. Source: Open Compute Project, "Microscaling Formats (MX) v1.0", E2M1."""


class TensorFiles:
    """All tensors of a checkpoint by full name; only headers are read until `read_into`.

    Raises:
      CheckpointError: no safetensors, or a file that is missing, damaged or of a dtype not supported.
    """

    def __init__(self, folder: Path):
        self._places: dict[str, tuple[Path, Any, str]] = {}  # with the name that the file has for it
        paths = weight_files(folder)
        if not paths:
            raise no_weights(folder)
        for path in paths:
            opened = _open(path)
            self._places |= {full_name(name): (path, opened, name) for name in list(opened.keys())}
        read_headers(folder)  # refuses a tensor that two files hold
        self.packed = _packed(folder, self._places)
        """Tensors in MXFP4, which read as one of bfloat16."""
        parts = {name + part for name in self.packed for part in (_BLOCKS, _SCALES)}
        shapes = {name: tuple(opened.get_slice(stored).get_shape()) for name, (_, opened, stored) in self._places.items()}
        self.shapes = {name: shape for name, shape in shapes.items() if name not in parts}
        self.dtypes = {name: _dtype(path, stored, opened) for name, (path, opened, stored) in self._places.items() if name not in parts}
        for name in self.packed:
            self.shapes[name] = _unpacked_shape(shapes[name + _BLOCKS], shapes[name + _SCALES])
            self.dtypes[name] = _DTYPES["BF16"]

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
        items = () if item is None else (item,)
        shape = self.shapes[name][len(items) :]
        begin, end = rows or (0, shape[0])
        (first, stop), *others = [_stretch(piece, size, of) for size, of in zip(target.shape, (end - begin, *shape[1:]), strict=True)]
        row_bytes = self.dtypes[name].itemsize * max(1, math.prod(stop - first for first, stop in others))
        at_once = max(1, _PIECE_BYTES // row_bytes)
        columns = tuple(slice(*stretch) for stretch in others)
        for row in range(first, stop, at_once):
            read = self._read(name, (*items, slice(begin + row, begin + min(row + at_once, stop)), *columns))
            target[row - first : row - first + len(read)] = read
            advance(read.nbytes)

    def _read(self, name: str, index: tuple[int | slice, ...]) -> np.ndarray:
        """A part of a tensor, whose last axis is cut by a slice."""
        if name not in self.packed:
            return self._read_stored(name, index)
        *outer, columns = index
        assert isinstance(columns, slice)
        blocks = slice(columns.start // _BLOCK, -(-columns.stop // _BLOCK))
        unpacked = unpack(self._read_stored(name + _BLOCKS, (*outer, blocks)), self._read_stored(name + _SCALES, (*outer, blocks)))
        first = blocks.start * _BLOCK
        return unpacked[..., columns.start - first : columns.stop - first]

    def _read_stored(self, name: str, index: tuple[int | slice, ...]) -> np.ndarray:
        path, opened, stored = self._places[name]
        try:
            return opened.get_slice(stored)[index]
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: {name} cannot be read: {error}") from error


def unpack(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Numbers in MXFP4 as bfloat16, which holds all of them.

    Args:
      blocks: uint8 [..., blocks, 16], two numbers a byte, the first in its low bits.
      scales: uint8 [..., blocks], powers of two that multiply a block's numbers, 127 for 1.
    """
    numbers = _FP4[np.stack([blocks & 15, blocks >> 4], axis=-1)].reshape(*scales.shape, _BLOCK)
    scaled = np.ldexp(numbers, scales.astype(np.int32)[..., None] - 127)
    return scaled.reshape(*scales.shape[:-1], -1).astype(ml_dtypes.bfloat16)


def _packed(folder: Path, names: Collection[str]) -> frozenset[str]:
    """Names of tensors whose blocks and scales lie in two.

    Raises:
      CheckpointError: one is there as a whole, too.
    """
    begun = {name.removesuffix(_BLOCKS) for name in names if name.endswith(_BLOCKS)}
    packed = frozenset(name for name in begun if name + _SCALES in names)
    if twice := sorted(packed.intersection(names)):
        raise CheckpointError(f"{folder} holds {twice[0]} both whole and in MXFP4: one of them is of another checkpoint")
    return packed


def _unpacked_shape(blocks: tuple[int, ...], scales: tuple[int, ...]) -> tuple[int, ...]:
    """Of a tensor of such blocks; where they are none that fit their scales, one that no model has."""
    return (*scales[:-1], scales[-1] * _BLOCK) if blocks == (*scales, _BLOCK // 2) else blocks


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


def _open(path: Path) -> Any:
    require_no_pointer(path)
    try:
        return safe_open(path, framework="np")
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist, but the index names it") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error


def _dtype(path: Path, name: str, opened: Any) -> np.dtype:
    stored = opened.get_slice(name).get_dtype()
    if stored not in _DTYPES:
        raise CheckpointError(f"{path}: {name} is stored as {stored}; supported are {', '.join(_DTYPES)}")
    return _DTYPES[stored]
