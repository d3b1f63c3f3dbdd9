"""Hugging Face's tensors of a decoder, one [out, in] matrix a layer, against ours, one [L, in, out] stack a kind."""

import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from muxjax.models.checkpoint import Advance
from muxjax.models.decoder import param_shapes
from muxjax.models.inventory import check_inventory
from muxjax.models.safetensors_io import TensorFiles
from muxjax.models.tree import flat
from muxjax.types import ModelSpec

_WHOLE = {"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}
_MODULES = {
    "attn_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    **{kind: f"self_attn.{kind}_proj" for kind in ("q", "k", "v", "o")},
    **{kind: f"self_attn.{kind}" for kind in ("q_norm", "k_norm")},
    **{kind: f"mlp.{kind}_proj" for kind in ("gate", "up", "down")},
}


class Kind(NamedTuple):
    """One array of the parameter tree and the tensors it is made of.

    Args:
      shape: of the array; stacked over the layers where `names` has one tensor for each of them.
      transposed: each tensor's axes are swapped in the array.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    stacked: bool
    transposed: bool

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        inner = self.shape[1:] if self.stacked else self.shape
        return inner[::-1] if self.transposed else inner

    def views(self, array: np.ndarray) -> list[np.ndarray]:
        """The array as its tensors, without a copy."""
        parts = list(array) if self.stacked else [array]
        return [part.T for part in parts] if self.transposed else parts


def kinds(spec: ModelSpec) -> dict[str, Kind]:
    """Every array of the model's parameter tree, by dotted path."""
    shapes = flat(param_shapes(spec))
    return {path: _kind(path, leaf.shape, spec.layers) for path, leaf in shapes.items()}


class HfFolder:
    """The tensors of a folder with safetensors, as arrays of the model's tree; only headers are read until `read_stacks`.

    Raises:
      CheckpointError: unreadable, or tensors missing, left over or of another shape than the model's.
    """

    def __init__(self, folder: Path, spec: ModelSpec):
        self._files = TensorFiles(folder)
        self._kinds = kinds(spec)
        needed = {name: kind.tensor_shape for kind in self._kinds.values() for name in kind.names}
        found = {name: shape for name, shape in self._files.shapes.items() if name in needed or not _harmless(name, spec)}
        check_inventory(folder, found, needed)
        self.stored_bytes = sum(self._files.dtypes[name].itemsize * math.prod(shape) for name, shape in needed.items())

    def read_stacks(self, dtype: np.dtype | None, advance: Advance) -> Iterator[tuple[str, np.ndarray]]:
        """As `checkpoint.Checkpoint.read_stacks`; a kind whose layers differ in dtype gets the one that holds all."""
        for path, kind in self._kinds.items():
            stored = functools.reduce(jnp.promote_types, [self._files.dtypes[name] for name in kind.names])
            array = np.empty(kind.shape, dtype or stored)
            for name, view in zip(kind.names, kind.views(array), strict=True):
                self._files.read_into(name, view, advance)
            yield path, array


def split_stacks(stacks: Iterable[tuple[str, np.ndarray]], spec: ModelSpec) -> Iterator[tuple[str, np.ndarray]]:
    """The way back: Hugging Face's tensors of arrays given by dotted path."""
    known = kinds(spec)
    for path, array in stacks:
        yield from zip(known[path].names, known[path].views(array), strict=True)


def _kind(path: str, shape: tuple[int, ...], layers: int) -> Kind:
    stacked, _, kind = path.rpartition(".")
    if not stacked:
        return Kind(shape, (_WHOLE[kind],), stacked=False, transposed=kind == "head")
    is_bias = kind.endswith("_bias")
    tensor = f"{_MODULES[kind.removesuffix('_bias')]}.{'bias' if is_bias else 'weight'}"
    names = tuple(f"model.layers.{layer}.{tensor}" for layer in range(layers))
    return Kind(shape, names, stacked=True, transposed=len(shape) == 3)


def _harmless(name: str, spec: ModelSpec) -> bool:
    """Computed from the config anyway, or a second copy of the embedding."""
    return name.endswith("rotary_emb.inv_freq") or (spec.tied and name == _WHOLE["head"])
