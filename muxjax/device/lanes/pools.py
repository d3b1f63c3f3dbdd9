"""Head blocks of a lane, device by device, as models on some or all of its devices take them."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import jax

from muxjax.models.sharding import OWN, Devices


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pool of each device, [N, E]. A model takes those of its own devices as one array, [devices x N, E]; nothing is moved."""

    by_device: Mapping[jax.Device, jax.Array]

    @classmethod
    def of(cls, blocks_NE: jax.Array) -> "Pools":
        """Those that an arena is made of."""
        devices = tuple(blocks_NE.devices())
        if len(devices) == 1:
            return cls({devices[0]: blocks_NE})
        return cls({shard.device: shard.data for shard in blocks_NE.addressable_shards})

    def under(self, devices: Devices) -> jax.Array:
        """Those of some devices, as one array; a step that takes it in donation takes them."""
        pools = [self.by_device[device] for device in devices.each]
        return pools[0] if len(pools) == 1 else devices.join(pools, OWN)

    def replaced(self, blocks_NE: jax.Array) -> "Pools":
        """With what a step made of the pools that it took."""
        if len(self.by_device) == 1:  # of which nobody has to be asked
            return Pools(dict.fromkeys(self.by_device, blocks_NE))
        return Pools({**self.by_device, **Pools.of(blocks_NE).by_device})

    @property
    def is_deleted(self) -> bool:
        """A step has taken one, and has not given it back."""
        return any(pool.is_deleted() for pool in self.by_device.values())

    def delete(self) -> None:
        """Frees them, once the steps that write to them have ended."""
        for pool in self.by_device.values():
            if not pool.is_deleted():
                with suppress(jax.errors.JaxRuntimeError):
                    jax.block_until_ready(pool)
                pool.delete()
