"""Hugging Face's tensors of a decoder, [out, in] matrices of each layer and expert, against ours, one stack a kind, of [in, out]."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from muxjax.errors import CheckpointError
from muxjax.model_spec import ModelSpec
from muxjax.models.checkpoint import Advance
from muxjax.models.inventory import check_inventory
from muxjax.models.safetensors_io import TensorFiles
from muxjax.models.shares import WHOLE, Share
from muxjax.models.tensors import CACHE_SCALES, NUMBERS, Tensor, tensors
from muxjax.specs.config import read_stored_quantization
from muxjax.specs.tensor_names import tensor_names
from muxjax.specs.weight_files import is_of_pictures


class Matrix(NamedTuple):
    """One of the matrices side by side in an array, in the tensor that holds it: all of it, or rows `start` to `stop`, of all of the
    tensor or of one expert in it."""

    name: str
    start: int
    stop: int
    expert: int | None = None


class Kind(NamedTuple):
    """One array of the parameter tree and the tensors it is made of.

    Args:
      tensor: its declaration.
      names: of the tensors, layer by layer, expert by expert.
    """

    tensor: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Kind":
        """With the full names."""
        prefixes = [f"model.layers.{layer}." for layer in tensor.layers] or [""]
        experts = range(tensor.experts if _is_apart(tensor) else 1)
        return cls(tensor, tuple(prefix + name.format(expert) for prefix in prefixes for expert in experts for name in tensor.names))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.stacked_shape

    @property
    def is_fused(self) -> bool:
        """Matrices side by side lie in one tensor."""
        return len(self.tensor.names) <= len(self.tensor.cuts)

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        empty = np.broadcast_to(np.int8(0), self.shape)  # of any size in one byte
        return {name: view.shape for name, view in self.views(empty)}

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All of them, in the order of `parts`."""
        cuts, axis = self.tensor.cuts if self.is_fused else (), int(self.experts_are_joined)
        return tuple(
            Matrix(name, start, stop, expert)
            for name, shape in self.tensor_shapes.items()
            for expert in (range(self.tensor.experts) if self.experts_are_joined else (None,))
            for start, stop in pairwise((0, *cuts, shape[axis]))
        )

    @property
    def experts_are_joined(self) -> bool:
        """All of a layer's lie in one tensor."""
        return self.tensor.experts > 0 and not _is_apart(self.tensor)

    def views(self, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The array as its tensors by name, without a copy."""
        axes = len(self.tensor.shape) + self.experts_are_joined
        return zip(self.names, self._cut(array, axes, () if self.is_fused else self.tensor.cuts), strict=True)

    def parts(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """The array as its matrices, turned as checkpoints hold them, without a copy."""
        return self._cut(array, len(self.tensor.shape), self.tensor.cuts)

    def _cut(self, array: np.ndarray, axes: int, cuts: tuple[int, ...]) -> Iterator[np.ndarray]:
        """Arrays of so many axes, each cut where its matrices lie side by side."""
        each = (array[index] for index in np.ndindex(array.shape[: array.ndim - axes]))
        parts = (part for whole in each for part in np.split(whole, cuts, axis=-1))
        return (part.swapaxes(-1, -2) if self.tensor.is_transposed else part for part in parts)


@functools.lru_cache(maxsize=32)
def kinds(spec: ModelSpec, packed: frozenset[str] = frozenset()) -> dict[str, Kind]:
    """Every array of the model's parameter tree, by dotted path.

    Args:
      packed: names of tensors in MXFP4, whose matrices lie as [out, in] whatever others do.
    """
    found = {path: Kind.of(tensor) for path, tensor in tensors(spec).items()}
    turned = {path: kind._replace(tensor=kind.tensor._replace(is_transposed=True)) for path, kind in found.items()}
    return {path: turned[path] if packed.issuperset(kind.names) else kind for path, kind in found.items()}


class HfFolder:
    """The tensors of a folder with safetensors, as arrays of the model's tree; only headers are read until `read`.

    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the model's.
    """

    def __init__(self, folder: Path, spec: ModelSpec):
        self._folder, self._spec = folder, spec
        self._files = TensorFiles(folder, quantization=read_stored_quantization(folder), dtype=jnp.dtype(spec.dtype))
        self._kinds = functools.partial(kinds, packed=self._files.packed)
        whole = {
            name: shape for kind in self._kinds(replace(spec, quantization=None)).values() for name, shape in kind.tensor_shapes.items()
        }
        found = {name: shape for name, shape in self._files.shapes.items() if name in whole or not _harmless(name, spec)}
        check_inventory(folder, found, whole)
        names = {name for kind in self._kinds(spec).values() for name in kind.names}
        for name in names:
            if name.endswith(NUMBERS):
                self._files.hold_quantised(name.removesuffix(NUMBERS))
        shapes, dtypes = self._files.shapes, self._files.dtypes
        self.stored_bytes = sum(dtypes[name].itemsize * math.prod(shapes[name]) for name in names)

    @property
    def dtypes(self) -> dict[str, np.dtype]:
        """That of its tensors; where they differ, one that holds all."""
        dtypes = self._files.dtypes
        return {
            path: functools.reduce(jnp.promote_types, {dtypes[name] for name in kind.names})  # of few kinds, however many names
            for path, kind in self._kinds(self._spec).items()
        }

    def read(self, path: str, share: Share = WHOLE, *, dtype: np.dtype | None = None, advance: Advance) -> np.ndarray:
        """As `checkpoint.Checkpoint.read`: a share has the matrices of a smaller model, each a piece of one of the whole."""
        whole, kind = self._kinds(self._spec)[path], self._kinds(self._spec.share(share.of))[path]
        array = np.zeros(kind.shape, dtype or self.dtypes[path])
        for matrix, part in zip(whole.matrices, kind.parts(array), strict=True):
            self._files.read_into(matrix.name, part, advance, rows=(matrix.start, matrix.stop), piece=share.index, item=matrix.expert)
        if path.endswith(CACHE_SCALES):
            self._require_scales(dict(zip(whole.names, array.flat, strict=True)))
        return array

    def _require_scales(self, scales: Mapping[str, float]) -> None:
        """Raises CheckpointError: a number that keys or values are divided by is none to divide by."""
        for name, scale in scales.items():
            if not 0 < scale < math.inf:
                raise CheckpointError(f"{self._folder}: {name} must be over 0 and finite, got {scale}")


def split_stacks(stacks: Iterable[tuple[str, np.ndarray]], spec: ModelSpec) -> Iterator[tuple[str, np.ndarray]]:
    """The way back: Hugging Face's tensors of arrays given by dotted path."""
    known = kinds(spec)
    for path, array in stacks:
        yield from known[path].views(array)


def _is_apart(tensor: Tensor) -> bool:
    """Each expert has tensors of its own."""
    return "{}" in tensor.names[0]


def _harmless(name: str, spec: ModelSpec) -> bool:
    """Computed from the config anyway, a second copy of the embedding, of what predicts further tokens behind the last layer, of what reads
    pictures, or a scale of a cache in 8 bits."""
    beyond = spec.naming in ("glm4_moe", "deepseek") and name.startswith(f"model.layers.{spec.layers}.")
    is_beside = name.endswith(("rotary_emb.inv_freq", ".k_scale", ".v_scale"))
    return beyond or is_beside or is_of_pictures(name) or (spec.tied and name in tensor_names(spec)["head"])
