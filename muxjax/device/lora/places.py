"""Places of a model's devices for adapters: those that a step's rows have are brought in, in place of the least recently used."""

from collections.abc import Collection, Sequence

import jax
import numpy as np

from muxjax.device.lora.store import AdapterStore
from muxjax.device.programs.sources import lora_shapes
from muxjax.device.step import Loras
from muxjax.model_spec import ModelSpec
from muxjax.models.lora import stacks
from muxjax.models.lora.adapters import NO_PLACE, Pairs
from muxjax.models.sharding import Devices, device_bytes
from muxjax.types import Adapter, Ints


class AdapterPlaces:
    """The adapters of one model on its devices.

    Args:
      count: of places; rank: of each, up to which adapters may have any.
      slots: of the model's tables.
    """

    def __init__(self, spec: ModelSpec, devices: Devices, store: AdapterStore, *, count: int, rank: int, slots: int):
        self.store, self.count, self.rank = store, count, rank
        self._spec, self._devices = spec, devices
        self._one = jax.tree.map(devices.sharding, stacks.partitions(spec, places=False))
        self._place_S = np.full(slots, NO_PLACE, np.int32)
        self._program: jax.stages.Compiled | None = None
        self._pairs: Pairs | None = None
        self._at: dict[Adapter, int] = {}  # place of each that is here, the least recently used first
        self.clear()

    def add(self, program: jax.stages.Compiled) -> None:
        """Makes the program ready that brings an adapter in."""
        self._program = program

    def warm_up(self) -> None:
        """Runs the program once, where no adapter is here yet."""
        assert self._program is not None and not self._at
        nothing = stacks.one_shapes(self._spec, self.rank)
        one = jax.tree.map(lambda leaf, sharding: jax.device_put(np.zeros(leaf.shape, leaf.dtype), sharding), nothing, self._one)
        self._pairs = self._program(self._pairs, one, np.int32(0))

    def place(self, slots: Ints, adapters: Sequence[Adapter | None]) -> None:
        """Has the next step of those slots compute with these adapters, of which there are at most as many different ones as places.

        Steps in flight keep theirs: what replaces them is put there behind these steps.
        """
        wanted = dict.fromkeys(adapter for adapter in adapters if adapter)
        for adapter in wanted:
            place = self._at.pop(adapter, None)
            self._at[adapter] = self._bring(adapter, wanted) if place is None else place
        self._place_S[slots] = [self._at[adapter] if adapter else NO_PLACE for adapter in adapters]

    @property
    def loras(self) -> Loras:
        """What a step that is launched now computes with."""
        assert self._pairs is not None, "the places of a model that sleeps are gone"
        return Loras(self._pairs, self._place_S.copy())  # pyright: ignore[reportArgumentType]  (an array of the host)

    @property
    def arrays(self) -> list[jax.Array]:
        return jax.tree.leaves(self._pairs)

    @property
    def device_bytes(self) -> int:
        """Bytes of all places on one device, where they are or will be."""
        return sum(map(device_bytes, jax.tree.leaves(lora_shapes(self._spec, self.count, self.rank, self._devices))))

    def clear(self) -> None:
        """Makes the places anew, all of them empty."""
        shapes = lora_shapes(self._spec, self.count, self.rank, self._devices)
        self._at = {}
        self._pairs = jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding), shapes)

    def delete(self) -> None:
        """Frees the devices' memory until `clear`."""
        for array in self.arrays:
            array.delete()
        self._at, self._pairs = {}, None

    def _bring(self, adapter: Adapter, wanted: Collection[Adapter]) -> int:
        """Puts an adapter into a place that is free, or that of the least recently used that this step does not want."""
        assert self._program is not None, "a step has adapters before there is a program that brings them in"
        one = jax.device_put(stacks.padded(self.store.hold(adapter), self.rank), self._one)
        place = self._free() if len(self._at) < self.count else self._at.pop(next(other for other in self._at if other not in wanted))
        self._pairs = self._program(self._pairs, one, np.int32(place))
        return place

    def _free(self) -> int:
        return next(place for place in range(self.count) if place not in self._at.values())
