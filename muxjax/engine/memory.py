"""How much of the device the cache gets, and how its blocks are shared out at first."""

import os
from collections.abc import Mapping

import jax

from muxjax.cache.layout import CacheLayout
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.scheduler import quota
from muxjax.types import Quotas
from muxjax.units import show_bytes

CPU_CACHE_BYTES = 2**30
FLOOR_FRAC = 0.5
"""Of an equal share of the arena: what a model may always hold."""

_TEMPORARIES_FRAC = 0.1
"""Of the device's memory, kept for what steps need while they run."""


def claim(options: UnitOptions) -> None:
    """Tells XLA how much of a GPU it may use; has an effect only before JAX has looked at its devices."""
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(options.gpu_memory_fraction)


def arena_blocks(options: UnitOptions, device: jax.Device) -> int:
    """Head blocks of the arena, weights being on the device already.

    Raises:
      ConfigError: not even one block fits.
    """
    cache_bytes = options.kv_cache_bytes or _free_bytes(options, device)
    blocks = cache_bytes // options.block_bytes
    if blocks < 1:
        raise ConfigError(
            f"kv_cache_bytes must hold a head block of {options.block_bytes} bytes, got {cache_bytes}", field="kv_cache_bytes"
        )
    return blocks


def floors(layouts: Mapping[str, CacheLayout], total_blocks: int) -> Quotas:
    """Head blocks each model may always hold: half of an equal share."""
    return {name: int(FLOOR_FRAC * total_blocks / len(layouts)) for name in layouts}


def first_quotas(options: UnitOptions, layouts: Mapping[str, CacheLayout], total_blocks: int) -> Quotas:
    """A split of the arena by expected rate x blocks per token, above the floors."""
    blocks_per_token = {name: layout.column_blocks / layout.tokens_per_block for name, layout in layouts.items()}
    rates = {model.name: model.rate for model in options.models}
    return quota.initial(rates, blocks_per_token, total_blocks, floors(layouts, total_blocks))


def _free_bytes(options: UnitOptions, device: jax.Device) -> int:
    stats = device.memory_stats()
    if device.platform == "cpu" or not stats:
        return CPU_CACHE_BYTES
    limit, used = stats["bytes_limit"], stats["bytes_in_use"]
    free = int(limit * (1 - _TEMPORARIES_FRAC)) - used
    if free <= 0:
        raise ConfigError(
            f"the weights take {show_bytes(used)} of the {show_bytes(limit)} that muxjax may use, and leave no room for the cache",
            field="gpu_memory_fraction",
        )
    return free
