"""Places for LoRA adapters, so many of one rank beside the matrices of every layer: their shapes, and how devices share them out."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from muxjax.model_spec import ModelSpec
from muxjax.models.lora.adapters import Pairs
from muxjax.models.lora.files import AdapterWeights, Pair, matrices, pair_shapes, widths
from muxjax.models.sharding import AXIS, SAME
from muxjax.models.tensors import Tensor


def shapes(spec: ModelSpec, places: int, rank: int) -> Pairs:
    """So many places of adapters up to that rank, over a model or a share of one, without their memory."""
    return _shapes(spec, rank, (places,))


def one_shapes(spec: ModelSpec, rank: int) -> Pairs:
    """One adapter, likewise."""
    return _shapes(spec, rank, ())


def _shapes(spec: ModelSpec, rank: int, places: tuple[int, ...]) -> Pairs:
    def pair(tensor: Tensor) -> Pair:
        a, bs = pair_shapes(tensor, rank, places)
        return Pair(jax.ShapeDtypeStruct(a, dtype), tuple(jax.ShapeDtypeStruct(b, dtype) for b in bs))

    dtype = jnp.dtype(spec.dtype)
    return {kind: pair(tensor) for kind, tensor in matrices(spec).items()}


def partitions(spec: ModelSpec, *, places: bool) -> Pairs:
    """How devices share adapters out: A as the rows of its matrix, B as the columns, and each has the whole of the other.

    Args:
      places: of several adapters; else of one.
    """

    def last(ndim: int) -> PartitionSpec:
        return PartitionSpec(*[None] * (ndim - 1), AXIS)

    def pair(tensor: Tensor) -> Pair:
        by_rows = tensor.split == -2
        a, b = (last(4 + places), SAME) if by_rows else (SAME, last(3 + places))
        return Pair(a, (b,) * len(widths(tensor)))

    return {kind: pair(tensor) for kind, tensor in matrices(spec).items()}


def put(pairs: Pairs, one: Pairs, place: jax.Array) -> Pairs:
    """The places with an adapter in one of them."""
    return jax.tree.map(lambda all_, new: jax.lax.dynamic_update_index_in_dim(all_, new, place, all_.ndim - 3), pairs, one)


def padded(weights: AdapterWeights, rank: int) -> Pairs:
    """An adapter as one of that rank, which adds the same."""

    def widened(array: np.ndarray) -> np.ndarray:
        missing = rank - array.shape[-2]
        return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, missing), (0, 0)]) if missing else array

    return jax.tree.map(widened, dict(weights.pairs))
