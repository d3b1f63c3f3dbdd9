"""Tensors of a folder's safetensors files, read in pieces and written in shards."""

import json
import math
from collections.abc import Iterable
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
        self.shapes = {name: tuple(opened.get_slice(stored).get_shape()) for name, (_, opened, stored) in self._places.items()}
        self.dtypes = {name: _dtype(path, stored, opened) for name, (path, opened, stored) in self._places.items()}

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
        path, opened, stored = self._places[name]
        tensor, items = opened.get_slice(stored), () if item is None else (item,)
        shape = self.shapes[name][len(items) :]
        begin, end = rows or (0, shape[0])
        (first, stop), *others = [_stretch(piece, size, of) for size, of in zip(target.shape, (end - begin, *shape[1:]), strict=True)]
        row_bytes = self.dtypes[name].itemsize * max(1, math.prod(stop - first for first, stop in others))
        at_once = max(1, _PIECE_BYTES // row_bytes)
        columns = tuple(slice(*stretch) for stretch in others)
        for row in range(first, stop, at_once):
            try:
                read = tensor[(*items, slice(begin + row, begin + min(row + at_once, stop)), *columns)]
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path}: {name} cannot be read: {error}") from error
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
