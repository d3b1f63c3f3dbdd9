"""Offload of a model's weights to the host's memory while it sleeps, and onload back to the devices."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from muxjax.models.decoder import Params
from muxjax.models.sharding import device_bytes


class _Leaf(NamedTuple):
    """An array, and how the devices share it out."""

    array: np.ndarray
    sharding: Sharding


@dataclass(frozen=True, slots=True)
class OffloadedWeights:
    """A tree of weights in the host's memory.

    Args:
      device_bytes: what one device holds of them when they are back.
    """

    leaves: tuple[_Leaf, ...]
    structure: jax.tree_util.PyTreeDef
    device_bytes: int


def offload(params: Params) -> OffloadedWeights:
    """Copies weights to the host, and frees the devices' memory."""
    arrays, structure = jax.tree.flatten(params)
    leaves = tuple(_Leaf(np.array(array), array.sharding) for array in arrays)
    weights = OffloadedWeights(leaves, structure, sum(map(device_bytes, arrays)))
    for array in arrays:
        array.delete()
    return weights


def onload(weights: OffloadedWeights) -> Params:
    """The weights on the devices that had them, once they are there."""
    arrays = [jax.device_put(array, sharding) for array, sharding in weights.leaves]
    return jax.block_until_ready(weights.structure.unflatten(arrays))
