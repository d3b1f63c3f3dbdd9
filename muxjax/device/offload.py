"""A model's weights in the host's memory while it sleeps."""

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
class Parked:
    """A tree of weights.

    Args:
      device_bytes: that one device holds of them when they are back.
    """

    leaves: tuple[_Leaf, ...]
    structure: jax.tree_util.PyTreeDef
    device_bytes: int


def park(params: Params) -> Parked:
    """Copies to the host, and frees the devices' memory."""
    arrays, structure = jax.tree.flatten(params)
    parked = Parked(tuple(_Leaf(np.array(array), array.sharding) for array in arrays), structure, sum(map(device_bytes, arrays)))
    for array in arrays:
        array.delete()
    return parked


def unpark(parked: Parked) -> Params:
    """The weights where they were, when they are there."""
    arrays = [jax.device_put(array, sharding) for array, sharding in parked.leaves]
    return jax.block_until_ready(parked.structure.unflatten(arrays))
