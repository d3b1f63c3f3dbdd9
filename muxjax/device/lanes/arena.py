"""Memory of the arena, as each lane sees it."""

from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from muxjax.device import host_memory
from muxjax.device.lanes import dlpack
from muxjax.device.lanes.clients import import_memory, ordinal
from muxjax.device.lanes.cuda_memory import CudaMemory


class ArenaMemory(Protocol):
    """Head blocks of all devices of a unit together, [N, E]. `rows`: N."""

    @property
    def rows(self) -> int: ...

    def view(self, lane: int) -> jax.Array:
        """The lane's array over it, in place of any that it had, which is gone. All are zeros, or what other lanes wrote.

        Raises:
          JaxRuntimeError, MemoryError: there is not so much memory in one piece.
        """
        ...

    def resize(self, rows: int) -> None:
        """Another size from now on; no lane has a view of it.

        Raises:
          MemoryError: as `view`.
        """
        ...


def zeros(whole: jax.ShapeDtypeStruct) -> jax.Array:
    return host_memory.drop_zeros(jax.block_until_ready(jnp.zeros(whole.shape, whole.dtype, device=whole.sharding)))


class OwnArenas:
    """Arrays of JAX, each lane's its own: enough for one lane, and for CPUs, since the blocks of a model are read and written on its lane
    alone.

    Args:
      wholes: the array of each lane, without its memory.
      fill: makes one.
    """

    def __init__(self, *wholes: jax.ShapeDtypeStruct, fill: Callable[[jax.ShapeDtypeStruct], jax.Array] = zeros):
        self._wholes, self._fill = wholes, fill

    @property
    def rows(self) -> int:
        return self._wholes[0].shape[0]

    def view(self, lane: int) -> jax.Array:
        return jax.block_until_ready(self._fill(self._wholes[lane]))

    def resize(self, rows: int) -> None:
        self._wholes = tuple(jax.ShapeDtypeStruct((rows, *whole.shape[1:]), whole.dtype, sharding=whole.sharding) for whole in self._wholes)


class SharedArena:
    """Memory of one GPU that JAX knows nothing of, and that every lane sees. That they write to different blocks is the unit's business.

    Args:
      whole: its array, without memory.
      devices: the GPU as each lane's client sees it.
    """

    def __init__(self, whole: jax.ShapeDtypeStruct, devices: Sequence[jax.Device]):
        self._whole, self._devices = whole, devices
        self._memory: CudaMemory | None = None
        self._export: dlpack.Export | None = None
        self.resize(whole.shape[0])

    @property
    def rows(self) -> int:
        return self._whole.shape[0]

    def view(self, lane: int) -> jax.Array:
        if self._export is None:
            raise MemoryError("the arena has no memory")
        return import_memory(self._export.capsule(), self._devices[lane])

    def resize(self, rows: int) -> None:
        if self._memory is not None:
            self._memory.free()
        self._memory = self._export = None
        shape, dtype, index = (rows, *self._whole.shape[1:]), self._whole.dtype, ordinal(self._devices[0])
        self._whole = jax.ShapeDtypeStruct(shape, dtype, sharding=self._whole.sharding)
        self._memory = CudaMemory(self._whole.size * dtype.itemsize, index)
        self._export = dlpack.Export(self._memory.pointer, shape, dtype, kind=dlpack.CUDA, index=index)
