"""Hugging Face's tensors of a decoder, [out, in] matrices of each layer, against ours, one [L, in, out] stack a kind."""

import functools
import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from muxjax.models.checkpoint import Advance
from muxjax.models.inventory import check_inventory
from muxjax.models.safetensors_io import TensorFiles
from muxjax.models.shares import WHOLE, Share
from muxjax.models.tensors import Tensor, layer_kind, tensors
from muxjax.types import ModelSpec


class Matrix(NamedTuple):
    """One of the matrices side by side in a layer of an array, in the tensor that holds it: all of it, or rows `start` to `stop`."""

    name: str
    start: int
    stop: int


class Kind(NamedTuple):
    """One array of the parameter tree and the tensors it is made of.

    Args:
      tensor: its declaration.
      layers: the length of the array's first axis; None where it is not stacked.
      names: of the tensors, layer by layer.
    """

    tensor: Tensor
    layers: int | None
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape if self.layers is None else (self.layers, *self.tensor.shape)

    @property
    def is_fused(self) -> bool:
        """A layer's matrices lie in one tensor."""
        return len(self.tensor.modules) <= len(self.tensor.cuts)

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        empty = np.broadcast_to(np.int8(0), self.shape)  # of any size in one byte
        return {name: view.shape for name, view in self.views(empty)}

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Of all layers, in the order of `parts`."""
        bounds = (0, *self.tensor.cuts, self.shape[-1])
        if self.is_fused:
            return tuple(Matrix(name, start, stop) for name in self.names for start, stop in pairwise(bounds))
        return tuple(Matrix(name, 0, shape[0]) for name, shape in self.tensor_shapes.items())

    def views(self, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The array as its tensors by name, without a copy."""
        return zip(self.names, self._cut(array, () if self.is_fused else self.tensor.cuts), strict=True)

    def parts(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """The array as its matrices, turned as checkpoints hold them, without a copy."""
        return self._cut(array, self.tensor.cuts)

    def _cut(self, array: np.ndarray, cuts: tuple[int, ...]) -> Iterator[np.ndarray]:
        layers = [array] if self.layers is None else array
        parts = (part for layer in layers for part in np.split(layer, cuts, axis=-1))
        return (part.T if self.tensor.is_transposed else part for part in parts)


@functools.lru_cache(maxsize=32)
def kinds(spec: ModelSpec) -> dict[str, Kind]:
    """Every array of the model's parameter tree, by dotted path."""
    return {path: _kind(path, tensor, spec.layers) for path, tensor in tensors(spec).items()}


class HfFolder:
    """The tensors of a folder with safetensors, as arrays of the model's tree; only headers are read until `read`.

    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the model's.
    """

    def __init__(self, folder: Path, spec: ModelSpec):
        self._files, self._spec = TensorFiles(folder), spec
        needed = {name: shape for kind in kinds(spec).values() for name, shape in kind.tensor_shapes.items()}
        found = {name: shape for name, shape in self._files.shapes.items() if name in needed or not _harmless(name, spec)}
        check_inventory(folder, found, needed)
        self.stored_bytes = sum(self._files.dtypes[name].itemsize * math.prod(shape) for name, shape in needed.items())

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        """That of its tensors; where they differ, one that holds all."""
        return {
            path: functools.reduce(jnp.promote_types, [self._files.dtypes[name] for name in kind.names])
            for path, kind in kinds(self._spec).items()
        }

    def read(self, path: str, share: Share = WHOLE, *, dtype: np.dtype | None = None, advance: Advance) -> np.ndarray:
        """As `checkpoint.Checkpoint.read`: a share has the matrices of a smaller model, each a piece of one of the whole."""
        whole, kind = kinds(self._spec)[path], kinds(self._spec.share(share.of))[path]
        array = np.zeros(kind.shape, dtype or self.dtypes[path])
        for matrix, part in zip(whole.matrices, kind.parts(array), strict=True):
            self._files.read_into(matrix.name, part, advance, rows=(matrix.start, matrix.stop), piece=share.index)
        return array


def split_stacks(stacks: Iterable[tuple[str, np.ndarray]], spec: ModelSpec) -> Iterator[tuple[str, np.ndarray]]:
    """The way back: Hugging Face's tensors of arrays given by dotted path."""
    known = kinds(spec)
    for path, array in stacks:
        yield from known[path].views(array)


def _kind(path: str, tensor: Tensor, layers: int) -> Kind:
    suffix = "bias" if path.endswith("_bias") else "weight"
    if layer_kind(path) is None:
        return Kind(tensor, None, tuple(f"{module}.{suffix}" for module in tensor.modules))
    names = tuple(f"model.layers.{layer}.{module}.{suffix}" for layer in range(layers) for module in tensor.modules)
    return Kind(tensor, layers, names)


def _harmless(name: str, spec: ModelSpec) -> bool:
    """Computed from the config anyway, or a second copy of the embedding."""
    return name.endswith("rotary_emb.inv_freq") or (spec.tied and name == "lm_head.weight")
