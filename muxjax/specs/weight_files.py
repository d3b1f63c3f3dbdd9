"""Files of a checkpoint's weights, and the headers of those in safetensors: name, dtype, shape and place of each tensor.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from muxjax.errors import CheckpointError
from muxjax.specs.folders import require_no_pointer

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
"""Dtypes that are served, by safetensors' name."""

_PACKED = ("U8", "I32", "I64", "F8_E4M3")
_MOST_HEADER_BYTES = 100 * 2**20
_PIECE_BYTES = 32 * 2**20


_PREFIX = "model."
_OF_DECODER = ("embed_tokens.", "tok_embeddings.", "layers.", "norm.")
_BESIDE_PICTURES = ("model.language_model.", "language_model.model.", "language_model.")
_OF_PICTURES = ("vision_tower.", "multi_modal_projector.", "visual.")


def full_name(name: str) -> str:
    """A tensor's name in a text model with its head: a decoder that was stored alone, as for embeddings, has names without a prefix, and
    one that is beside what reads pictures has another."""
    prefix = next((each for each in _BESIDE_PICTURES if name.startswith(each)), "")
    name = name.removeprefix(prefix)
    return _PREFIX + name if name.startswith(_OF_DECODER) else name


def other_names(name: str) -> tuple[str, ...]:
    """What a part of a text model is called where it is beside what reads pictures."""
    return tuple(prefix + name.removeprefix(_PREFIX) for prefix in _BESIDE_PICTURES)


def is_of_pictures(name: str) -> bool:
    """Of what reads pictures beside a text model."""
    return name.removeprefix(_PREFIX).startswith(_OF_PICTURES)


class StoredTensor(NamedTuple):
    """A tensor of a file, whose bytes are those from `start` to `end`."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def weight_files(folder: Path) -> list[Path]:
    """The files that an index names, or else the one of the usual name; empty where neither is there.

    Raises:
      CheckpointError: the index is not what it must be.
    """
    if (folder / INDEX).exists():
        return sorted({folder / name for name in _weight_map(folder / INDEX).values()})
    return [folder / SINGLE] if (folder / SINGLE).exists() else []


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Tensors by full name of those weight files that are there.

    Raises:
      CheckpointError: a file is damaged, or two of them hold a tensor of the same name.
    """
    tensors: dict[str, StoredTensor] = {}
    for path in filter(Path.exists, weight_files(folder)):
        for name, tensor in read_header(path).items():
            if name in tensors:
                raise CheckpointError(f"{path} and {tensors[name].path} both hold {name}: one of them is of another checkpoint")
            tensors[name] = tensor
    return tensors


def main_dtype(tensors: Mapping[str, StoredTensor]) -> str | None:
    """The dtype of most of the numbers, as numpy names it; None where it is none that is served. Those of quantised
    weights have none of their own."""
    counts: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype not in _PACKED:
            counts[tensor.dtype] += tensor.elements
    return DTYPES.get(counts.most_common(1)[0][0]) if counts else None


def equal_bytes(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors are of one dtype and shape and hold the same, read a piece at a time up to the first difference.

    Raises:
      CheckpointError: a file cannot be read.
    """
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    try:
        with one.path.open("rb") as file, other.path.open("rb") as second:
            file.seek(one.start)
            second.seek(other.start)
            left = one.end - one.start
            while left > 0:
                piece = min(left, _PIECE_BYTES)
                if file.read(piece) != second.read(piece):
                    return False
                left -= piece
    except OSError as error:
        raise CheckpointError(f"{one.path} or {other.path} cannot be read: {error}") from error
    return True


def _weight_map(index: Path) -> dict[str, str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = dict(names.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} has no readable weight_map: {error!r}") from error
    for tensor, file in files.items():
        if not isinstance(file, str) or not file or Path(file).name != file or file == ".." or "\0" in file:
            raise CheckpointError(f"{index}: weight_map must name a file of the folder for {tensor}, got {str(file)[:80]!r}")
    return files


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Tensors of one file by full name.

    Raises:
      CheckpointError: it is missing, damaged or a pointer of git-lfs.
    """
    require_no_pointer(path)
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= _MOST_HEADER_BYTES:
                raise ValueError(f"its header would take {size} bytes, and {_MOST_HEADER_BYTES} are the limit")
            entries = json.loads(file.read(size))
        return _tensors(path, entries, first=8 + size, file_bytes=path.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error


def _tensors(path: Path, entries: dict, *, first: int, file_bytes: int) -> dict[str, StoredTensor]:
    tensors = {}
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= file_bytes - first:
            raise ValueError(f"{name} would lie at bytes {start} to {end} of {file_bytes - first}")
        shape = tuple(int(size) for size in entry["shape"])
        if (full := full_name(name)) in tensors:
            raise ValueError(f"it has {full} twice, once without {_PREFIX}")
        tensors[full] = StoredTensor(path, str(entry["dtype"]), shape, first + start, first + end)
    return tensors
