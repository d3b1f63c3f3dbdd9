"""A LoRA adapter's folder: its tensors, held against the matrices of its model. Without JAX, so that a front may look into one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from muxjax.errors import CheckpointError
from muxjax.model_spec import ModelSpec
from muxjax.models.tensors import Tensor, layer_tensors
from muxjax.specs.adapter import WEIGHTS, read_adapter_config
from muxjax.specs.weight_files import DTYPES, StoredTensor, full_name, read_header
from muxjax.types import Adapter

_KINDS = ("qkv", "o", "gate_up", "up", "down")
_BEFORE = "base_model.model."
_NAMED = 5


class Half(NamedTuple):
    """One of the two matrices that an adapter has beside one of a layer.

    Args:
      at: the layer's place among those that have such a matrix.
      kind: the array of the tree that the matrix is in.
      parts: which of the matrices side by side there it is; all of them where one module holds them all.
      is_a: it is A, [r, in] as it is stored, and not B, [out, r].
    """

    at: int
    kind: str
    parts: range
    is_a: bool
    shape: tuple[int, int]


class Pair(NamedTuple):
    """What an adapter, or Z places for some, have beside the matrices of one kind.

    Args:
      a: [L, J, W, I] for J matrices side by side; of places [L, J, Z, W, I].
      b: [L, W, O] for each of those J, with the adapter's scale in it; of places [L, Z, W, O].
    """

    a: Any
    b: tuple[Any, ...]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class AdapterWeights:
    """An adapter in the host's memory, in its model's dtype, by the kind of matrices; zero beside those that it leaves as they are."""

    pairs: Mapping[str, Pair]


def matrices(spec: ModelSpec) -> dict[str, Tensor]:
    """Declarations of the matrices that adapters may be beside, by kind: all of a layer but those of experts."""
    return {kind: tensor for kind, tensor in layer_tensors(spec).items() if kind in _KINDS}


def widths(tensor: Tensor) -> tuple[int, ...]:
    """Columns of each of the matrices side by side in a declared one."""
    return tuple(stop - start for start, stop in pairwise((0, *tensor.cuts, tensor.shape[-1])))


def pair_shapes(tensor: Tensor, rank: int, places: tuple[int, ...] = ()) -> Pair:
    """Shapes of what adapters of that rank have beside a declared matrix: one of them, or so many places for some."""
    layers, outputs = len(tensor.layers), widths(tensor)
    a = (layers, len(outputs), *places, rank, tensor.shape[0])
    return Pair(a, tuple((layers, *places, rank, width) for width in outputs))


def open_adapter(name: str, folder: Path, spec: ModelSpec, *, most_rank: int) -> Adapter:
    """The adapter of a folder, of which only headers are read.

    Raises:
      ConfigError: its configuration cannot be read, or asks for something not supported.
      CheckpointError: its tensors cannot be read, or are not those of an adapter over that model.
    """
    config = read_adapter_config(folder, most_rank=most_rank)
    _check(folder / WEIGHTS, read_header(folder / WEIGHTS), _halves(spec, config.rank))
    return Adapter(name=name, path=str(folder), version=_version(folder / WEIGHTS))


def read_adapter(adapter: Adapter, spec: ModelSpec, *, most_rank: int) -> AdapterWeights:
    """Its weights.

    Raises:
      ConfigError, CheckpointError: as of `open_adapter`; or a number that is not finite, or another file than the one that was opened.
    """
    folder = Path(adapter.path)
    if open_adapter(adapter.name, folder, spec, most_rank=most_rank) != adapter:
        raise CheckpointError(f"{folder / WEIGHTS} has changed since the adapter {adapter.name} was added: remove it, and add it again")
    config = read_adapter_config(folder, most_rank=most_rank)
    weights, halves = _empty(config.rank, spec), _halves(spec, config.rank)
    for name, tensor in _tensors(folder / WEIGHTS):
        at, kind, parts, is_a, _ = halves[name]
        if is_a:
            weights.pairs[kind].a[at, parts] = tensor
            continue
        columns = [weights.pairs[kind].b[part][at] for part in parts]
        cuts = np.cumsum([column.shape[-1] for column in columns])[:-1]
        for column, rows in zip(columns, np.split(tensor.astype(np.float32) * config.scale, cuts), strict=True):
            column[:] = rows.T
    return weights


def _halves(spec: ModelSpec, rank: int) -> dict[str, Half]:
    """All that an adapter of that rank may have, by names as the model's."""
    halves = {}
    for kind, tensor in matrices(spec).items():
        own = range(len(tensor.cuts) + 1)
        of_names = [own] if len(tensor.names) < len(own) else [own[part : part + 1] for part in own]
        for (at, layer), (name, parts) in product(enumerate(tensor.layers), zip(tensor.names, of_names, strict=True)):
            before, outputs = f"model.layers.{layer}.{name.rpartition('weight')[0]}lora_", sum(widths(tensor)[part] for part in parts)
            halves[f"{before}A.weight"] = Half(at, kind, parts, True, (rank, tensor.shape[0]))
            halves[f"{before}B.weight"] = Half(at, kind, parts, False, (outputs, rank))
    return halves


def _check(where: Path, stored: Mapping[str, StoredTensor], halves: Mapping[str, Half]) -> None:
    """
    Raises:
      CheckpointError: tensors that are for no matrix of a layer, without their other half, of another shape, or of no known dtype.
    """
    found = {_model_name(name): tensor for name, tensor in stored.items()}
    if strange := sorted(found.keys() - halves.keys()):
        raise CheckpointError(
            f"{where} is not supported, for {len(strange)} of its {len(found)} tensors are for no matrix of the model's layers, or of no "
            f"LoRA: {', '.join(strange[:_NAMED])}{f' and {len(strange) - _NAMED} more' if len(strange) > _NAMED else ''}"
        )
    if not found:
        raise CheckpointError(f"{where} holds no tensor")
    for name, tensor in sorted(found.items()):
        other = name.replace(".lora_A.", ".lora_B.") if halves[name].is_a else name.replace(".lora_B.", ".lora_A.")
        if other not in found:
            raise CheckpointError(f"{where} lacks {other}")
        if tensor.shape != halves[name].shape:
            raise CheckpointError(f"{where} has {name} {list(tensor.shape)} instead of {list(halves[name].shape)}")
        if tensor.dtype not in DTYPES:
            raise CheckpointError(f"{where}: {name} is stored as {tensor.dtype}; supported are {', '.join(DTYPES)}")


def _tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors by the names that their matrices have in the model."""
    try:
        with safe_open(path, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118  (it is no dictionary)
                tensor = opened.get_tensor(name)
                if not np.isfinite(tensor.astype(np.float32)).all():  # or it would spoil the rows of other adapters
                    raise CheckpointError(f"{path}: {name} has numbers that are not finite")
                yield _model_name(name), tensor
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _model_name(name: str) -> str:
    return full_name(name.removeprefix(_BEFORE))


def _empty(rank: int, spec: ModelSpec) -> AdapterWeights:
    dtype = np.dtype(ml_dtypes.bfloat16 if spec.dtype == "bfloat16" else spec.dtype)
    shapes = {kind: pair_shapes(tensor, rank) for kind, tensor in matrices(spec).items()}
    return AdapterWeights({kind: Pair(np.zeros(a, dtype), tuple(np.zeros(b, dtype) for b in bs)) for kind, (a, bs) in shapes.items()})


def _version(path: Path) -> int:
    """When the file was written, in nanoseconds."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
