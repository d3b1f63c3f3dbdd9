"""Tensor parallelism: how arrays lie on several devices.

Each device computes a decoder of its own with 1 / tp of the heads, of the FFN and of the vocabulary, and what it adds to the residual
stream is one term of a sum over all of them (docs/decisions/0012).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from numpy.typing import DTypeLike

from muxjax.errors import require
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import Params, param_shapes
from muxjax.models.shares import split_axis
from muxjax.models.tree import flat, nested

AXIS = "tp"
"""Axis of the mesh of a unit's devices."""

SAME, OWN = PartitionSpec(), PartitionSpec(AXIS)
"""Partitions of arrays that are the same on every device, and of those of which each has its own, one after the other."""


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices of one process, those of a unit or some of them, that hold a model together. One alone is used as if there were no mesh."""

    each: tuple[jax.Device, ...]

    @classmethod
    def first(cls, tp: int) -> "Devices":
        """So many of those that JAX sees.

        Raises:
          ConfigError: there are fewer.
        """
        visible = jax.devices()
        require(tp <= len(visible), "tensor_parallel_size", tp, f"at most the number of devices, {len(visible)}")
        return cls(tuple(visible[:tp]))

    def at(self, places: Iterable[int]) -> "Devices":
        """Some of them."""
        return Devices(tuple(self.each[place] for place in places))

    @property
    def places(self) -> tuple[int, ...]:
        """Their numbers among those that JAX sees."""
        return tuple(device.id for device in self.each)

    @property
    def tp(self) -> int:
        return len(self.each)

    @property
    def kind(self) -> str:
        """JAX's name of them."""
        return self.each[0].device_kind

    @property
    def multiprocessors(self) -> int | None:
        """Of each; None where JAX does not say."""
        return getattr(self.each[0], "core_count", None)

    @property
    def mesh(self) -> Mesh | None:
        """None for one device."""
        return Mesh(np.array(self.each), (AXIS,)) if self.tp > 1 else None

    def sharding(self, partition: PartitionSpec) -> Sharding:
        """Sharding of an array that they share out like that; an empty partition is a copy on each."""
        return NamedSharding(self.mesh, partition) if self.mesh else SingleDeviceSharding(self.each[0])

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        """A small array of zeros, a copy on each; it comes from the host, as a program that makes it would have to be compiled."""
        return jax.device_put(np.zeros(shape, dtype), self.sharding(SAME))

    def joined(self, part: jax.Array | jax.ShapeDtypeStruct, partition: PartitionSpec) -> jax.ShapeDtypeStruct:
        """The whole that parts like that on each device make."""
        places = (*partition, *[None] * (part.ndim - len(partition)))
        dims = [size * (self.tp if place == AXIS else 1) for size, place in zip(part.shape, places, strict=True)]
        return jax.ShapeDtypeStruct(dims, part.dtype, sharding=self.sharding(partition))

    def join(self, parts: Iterable[jax.Array], partition: PartitionSpec) -> jax.Array:
        """The array whose parts lie on the devices already, in their order; nothing is moved."""
        parts = list(parts)
        whole = self.joined(parts[0], partition)
        return jax.make_array_from_single_device_arrays(whole.shape, self.sharding(partition), parts)


def partitions(spec: ModelSpec) -> Params:
    """How the devices share out each parameter: the tree of its partition."""
    return nested({path: partition(path, leaf.ndim, spec) for path, leaf in flat(param_shapes(spec)).items()})


def partition(path: str, ndim: int, spec: ModelSpec) -> PartitionSpec:
    """How the devices share out the parameter at a dotted path."""
    axis = split_axis(path, spec)
    return SAME if axis is None else PartitionSpec(*[AXIS if place - ndim == axis else None for place in range(ndim)])


def device_bytes(array: jax.Array) -> int:
    """Bytes of it that one device holds."""
    bits = jax.dtypes.itemsize_bits(array.dtype)  # two of int4 share a byte, which numpy does not say
    return int(np.prod(array.sharding.shard_shape(array.shape), dtype=np.int64)) * bits // 8
