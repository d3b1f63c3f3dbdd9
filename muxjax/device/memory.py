"""Memory of a device: how much of it the cache gets beside weights and what steps need while they run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax

from muxjax.device.lanes.clients import ALLOCATOR, ordinal
from muxjax.device.lanes.cuda_memory import total_bytes
from muxjax.device.model import DeviceModel
from muxjax.engine.model.plan import CPU_CACHE_BYTES, cache_room_bytes
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.models.sharding import Devices
from muxjax.units import show_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Memory of a device, by use.

    Args:
      devices: so many, each of which holds as much, or less where there are some that models leave out.
      limit_bytes: most that muxjax may use of one; None where nobody sets a limit (CPU).
      resident_bytes: weights and block tables of each model.
      temporary_bytes: most that any one step needs while it runs. Steps of a lane run one after another and share it; the sum of lanes.
    Raises:
      ConfigError: that is more than the limit.
    """

    limit_bytes: int | None
    resident_bytes: Mapping[str, int]
    arena_bytes: int
    temporary_bytes: int
    devices: int = 1
    alike: bool = True

    def __post_init__(self):
        if self.limit_bytes is not None and self.used_bytes > self.limit_bytes:
            raise ConfigError(
                f"steps need {show_bytes(self.temporary_bytes)} while they run, and {show_bytes(self.used_bytes - self.temporary_bytes)} "
                f"of weights and cache leave {show_bytes(max(0, self.limit_bytes - self.used_bytes + self.temporary_bytes))} of the "
                f"{show_bytes(self.limit_bytes)} that muxjax may use: lower max_num_batched_tokens, max_num_seqs or kv_cache_size",
                field="kv_cache_bytes",
            )

    @property
    def used_bytes(self) -> int:
        return sum(self.resident_bytes.values()) + self.arena_bytes + self.temporary_bytes

    def lines(self) -> Iterator[str]:
        """Lines of a report, for people."""
        models = ", ".join(f"{name} {show_bytes(count)}" for name, count in self.resident_bytes.items())
        limit = "no limit" if self.limit_bytes is None else f"{show_bytes(self.limit_bytes - self.used_bytes)} free"
        which = "each" if self.alike else "the fullest"
        whose = f"memory of {which} of {self.devices} devices" if self.devices > 1 else "memory"
        yield f"{whose}: {models}; cache {show_bytes(self.arena_bytes)}; a step's own {show_bytes(self.temporary_bytes)}; {limit}"


def claim(options: UnitOptions) -> None:
    """Tells XLA how much of a GPU it may use; has an effect only before JAX has looked at its devices."""
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(options.gpu_memory_fraction)
    if options.most_lanes > 1:  # whose clients share the memory, as the arena does that none of them allocates
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if len(options.models) > options.most_lanes > 1:  # XLA's own pools grow by doubling, and leave each other no room
        os.environ.setdefault(ALLOCATOR, "cuda_async")


def limit_bytes(options: UnitOptions, device: jax.Device) -> int | None:
    """Most that muxjax may use of the device's memory: no more than XLA may; None where nobody says. XLA has no limit itself where CUDA's
    own pool is its allocator."""
    limits = [] if options.memory_bytes is None else [options.memory_bytes]
    if stats := _stats(device):
        limits.append(stats["bytes_limit"] or int(options.gpu_memory_fraction * total_bytes(ordinal(device))))
    return min(limits, default=None)


def require_memory(options: UnitOptions, devices: Devices, residents: Mapping[str, tuple[Devices, int]]) -> None:
    """Holds weights and a cache of a given size against the memory there is, before minutes go into loading and compiling.

    Args:
      residents: the devices of each model, and its bytes on one of them.
    Raises:
      ConfigError: they are more than a device has, or than the machine has, whose memory the devices of a CPU share.
    """
    limit = limit_bytes(options, devices.each[0])
    if limit is None:
        limit = _machine_bytes() // devices.tp
    cache_bytes = options.kv_cache_bytes or 0
    weights_bytes = sum(residents[name][1] for name in _fullest(residents))
    if cache_bytes + weights_bytes > limit:
        cache = f" and a cache of {show_bytes(cache_bytes)}" if cache_bytes else ""
        raise ConfigError(
            f"{show_bytes(weights_bytes)} of weights and tables{cache} are more than the {show_bytes(limit)} that muxjax may use: "
            f"lower kv_cache_size or max_num_seqs, or serve fewer models here",
            field="kv_cache_bytes" if cache_bytes else "gpu_memory_fraction",
        )


def plan(
    options: UnitOptions, lanes: Sequence[Devices], models: Mapping[str, DeviceModel], total_blocks: int, *, more_bytes: int = 0
) -> MemoryPlan:
    """The plan of the device that holds most, for so many bytes of weights more than it holds.

    Args:
      lanes: the devices, as each lane sees them.
    Raises:
      ConfigError: it has too little memory.
    """
    alike = all(model.devices.tp == lanes[0].tp for model in models.values())
    models = {name: models[name] for name in _fullest(_residents(models))}
    resident_bytes = {name: model.resident_bytes for name, model in models.items()}
    temporary_bytes = dict.fromkeys(range(len(lanes)), 0)
    for model in models.values():
        temporary_bytes[model.lane] = max(temporary_bytes[model.lane], model.temporary_bytes)
    return MemoryPlan(
        devices=lanes[0].tp,
        alike=alike,
        limit_bytes=limit_bytes(options, lanes[0].each[0]),
        resident_bytes=resident_bytes | ({"coming": more_bytes} if more_bytes else {}),
        arena_bytes=total_blocks * options.block_bytes,
        temporary_bytes=sum(temporary_bytes.values()),
    )


def arena_blocks(
    options: UnitOptions, lanes: Sequence[Devices], models: Mapping[str, DeviceModel], *, arena_bytes: int = 0, more_bytes: int = 0
) -> int:
    """Head blocks that the arena of each device may have, beside the models and so many bytes more.

    Args:
      arena_bytes: of the arena there is, in whose place it comes.
    Raises:
      ConfigError: not even one block fits.
    """
    held_bytes = _held_bytes(lanes, models, arena_bytes) + more_bytes
    cache_bytes = options.kv_cache_bytes or min(_free_bytes(options, device, held_bytes) for device in lanes[0].each)
    return blocks_in(options, cache_bytes)


def blocks_in(options: UnitOptions, cache_bytes: int) -> int:
    """Head blocks of an arena of so many bytes.

    Raises:
      ConfigError: not even one fits.
    """
    blocks = cache_bytes // options.block_bytes
    if blocks < 1:
        raise ConfigError(
            f"kv_cache_bytes must hold a head block of {options.block_bytes} bytes, got {cache_bytes}", field="kv_cache_bytes"
        )
    return blocks


def _held_bytes(lanes: Sequence[Devices], models: Mapping[str, DeviceModel], arena_bytes: int) -> int:
    """Bytes that the fullest device holds beside the arena: models, and on a GPU whatever else there is."""
    residents = _residents(models)
    resident_bytes = sum(residents[name][1] for name in _fullest(residents))
    if len(lanes) > 1:  # no client has allocated the arena, and each keeps what it has once taken
        pools = [stats.get("pool_bytes", stats["bytes_in_use"]) for lane in lanes for stats in map(_stats, lane.each) if stats]
        return max(resident_bytes, sum(pools))
    in_use = [stats["bytes_in_use"] - arena_bytes for stats in map(_stats, lanes[0].each) if stats]
    return max(resident_bytes, *in_use, 0)


def _residents(models: Mapping[str, DeviceModel]) -> dict[str, tuple[Devices, int]]:
    return {name: (model.devices, model.resident_bytes) for name, model in models.items()}


def _fullest(residents: Mapping[str, tuple[Devices, int]]) -> list[str]:
    """The models of the device that holds most, by names; all of them where all are on all devices. A device is the same in every lane.

    Args:
      residents: the devices of each model, and its bytes on one of them.
    """
    held: dict[int, list[str]] = {}
    for name, (devices, _) in residents.items():
        for place in devices.places:
            held.setdefault(place, []).append(name)
    return max(held.values(), key=lambda names: sum(residents[name][1] for name in names), default=[])


def _stats(device: jax.Device) -> dict[str, int] | None:
    return None if device.platform == "cpu" else device.memory_stats()


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_bytes(options: UnitOptions, device: jax.Device, used: int) -> int:
    """Memory that is free for the arena."""
    limit = limit_bytes(options, device)
    if limit is None:
        return CPU_CACHE_BYTES
    free = cache_room_bytes(limit, used)
    if free <= 0:
        raise ConfigError(
            f"the weights take {show_bytes(used)} of the {show_bytes(limit)} that muxjax may use, and leave no room for the cache",
            field="gpu_memory_fraction",
        )
    return free
