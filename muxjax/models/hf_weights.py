"""Hugging Face's tensors of a decoder, [out, in] matrices of each layer, against ours, one [L, in, out] stack a kind."""

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from muxjax.models.checkpoint import Advance
from muxjax.models.decoder import cuts, param_shapes
from muxjax.models.inventory import check_inventory
from muxjax.models.safetensors_io import TensorFiles
from muxjax.models.shares import WHOLE, Share
from muxjax.models.tree import flat
from muxjax.types import ModelSpec

_WHOLE = {"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}
_MODULES = {
    "attn_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "q_norm": ("self_attn.q_norm",),
    "k_norm": ("self_attn.k_norm",),
    "o": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""In each layer, by kind: side by side in the array where there are several."""


class Kind(NamedTuple):
    """One array of the parameter tree and the tensors it is made of.

    Args:
      shape: of the array.
      names: of the tensors, layer by layer.
      cuts: columns at which a layer of the array is cut into tensors.
      stacked: the array's first axis is the layer.
      transposed: each tensor's axes are swapped in the array.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    cuts: tuple[int, ...]
    stacked: bool
    transposed: bool

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        empty = np.broadcast_to(np.int8(0), self.shape)  # of any size in one byte
        return {name: view.shape for name, view in self.views(empty)}

    def views(self, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """The array as its tensors by name, without a copy."""
        layers = array if self.stacked else [array]
        parts = (part for layer in layers for part in np.split(layer, self.cuts, axis=-1))
        return ((name, part.T if self.transposed else part) for name, part in zip(self.names, parts, strict=True))


@functools.lru_cache(maxsize=32)
def kinds(spec: ModelSpec) -> dict[str, Kind]:
    """Every array of the model's parameter tree, by dotted path."""
    shapes = flat(param_shapes(spec))
    return {path: _kind(path, leaf.shape, spec) for path, leaf in shapes.items()}


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
        """As `checkpoint.Checkpoint.read`: a share has the tensors of a smaller model, each a piece of the one by that name."""
        kind = kinds(self._spec.share(share.of))[path]
        array = np.zeros(kind.shape, dtype or self.dtypes[path])
        for name, view in kind.views(array):
            self._files.read_into(name, view, advance, piece=share.index)
        return array


def split_stacks(stacks: Iterable[tuple[str, np.ndarray]], spec: ModelSpec) -> Iterator[tuple[str, np.ndarray]]:
    """The way back: Hugging Face's tensors of arrays given by dotted path."""
    known = kinds(spec)
    for path, array in stacks:
        yield from known[path].views(array)


def _kind(path: str, shape: tuple[int, ...], spec: ModelSpec) -> Kind:
    stacked, _, kind = path.rpartition(".")
    if not stacked:
        return Kind(shape, (_WHOLE[kind],), cuts=(), stacked=False, transposed=kind == "head")
    weight = kind.removesuffix("_bias")
    tensor = "weight" if weight == kind else "bias"
    names = tuple(f"model.layers.{layer}.{module}.{tensor}" for layer in range(spec.layers) for module in _MODULES[weight])
    return Kind(shape, names, cuts(kind, spec), stacked=True, transposed=len(shape) == 3)


def _harmless(name: str, spec: ModelSpec) -> bool:
    """Computed from the config anyway, or a second copy of the embedding."""
    return name.endswith("rotary_emb.inv_freq") or (spec.tied and name == _WHOLE["head"])
