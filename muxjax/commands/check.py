"""`muxjax serve --check`: a configuration is read as a start would read it, and what it takes is told; nothing is started."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from muxjax.cluster import launcher, nvidia
from muxjax.cluster.plan import UnitSpec, family, one_unit, unit_specs
from muxjax.commands.place import solve
from muxjax.commands.problem_file import read_problem
from muxjax.cost.chip import CHIPS
from muxjax.engine.model.plan import CPU_CACHE_BYTES, ModelPlan, cache_room_bytes, show_dtypes, show_params
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.placement.plan_file import read_placement
from muxjax.placement.problem import Placement
from muxjax.server.config import Options
from muxjax.server.model_files import ModelFiles, require_drafts_in_own_tokens
from muxjax.server.telemetry.watcher import open_watchers
from muxjax.units import show_bytes, show_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a unit's models are to be on.

    Args:
      memory_bytes: of one; None where nobody knows.
    """

    name: str
    memory_bytes: int | None
    is_cpu: bool = False


def run(options: Options, chip: str = "") -> None:
    """Prints each unit's models, and the memory of one of its devices.

    Args:
      chip: that the models are for, by a name of `cost.chip`; "" for what is here, or what a placement was made for where that is not.
    Raises:
      ConfigError, CheckpointError: it cannot be served.
    """
    with open_watchers(replace(options.http, trace=None)):  # what they need is there; a trace would be written over
        pass
    here = named(chip) if chip else attached(os.environ)
    placement = _placement(options)
    for unit in unit_specs(placement, options.unit):
        elsewhere = not chip and family(unit.chip) not in here.name
        print("\n".join(unit_lines(unit, named(family(unit.chip)) if elsewhere else here)))
    http = options.http
    keys = len(http.api_keys) + sum(len(tenant.api_keys) for tenant in http.tenants)
    print(f"endpoint: http://{http.host}:{http.port}/v1, {f'for {keys} keys' if keys else 'open to everybody who reaches it'}")
    print("nothing is wrong; nothing was started")


def named(chip: str) -> Device:
    """Raises ConfigError: nobody has described it."""
    known = CHIPS.get(chip.upper())
    require(known is not None, "chip", chip, "one of " + ", ".join(CHIPS).lower())
    assert known
    return Device(name=known.name, memory_bytes=known.memory_bytes)


def attached(environment: Mapping[str, str]) -> Device:
    """What a server would find here: asked of NVIDIA's driver, not of JAX, which takes the device."""
    if launcher.is_cpu(environment):
        return Device(name="this CPU", memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), is_cpu=True)
    there = nvidia.gpus(environment)
    if there:
        return Device(name=there[0].name, memory_bytes=there[0].total_bytes)
    return Device(name="a device that does not tell its memory (name one with --chip)", memory_bytes=None)


def unit_lines(unit: UnitSpec, device: Device) -> Iterator[str]:
    """What a unit would serve, and how full its devices would be.

    Raises:
      ConfigError, CheckpointError: it cannot be served, or does not fit.
    """
    options = unit.options
    kv_dtype = options.kv_dtype_on(cpu=device.is_cpu)
    plans = []
    require_drafts_in_own_tokens([ModelFiles.read(model) for model in options.models])
    for model in options.models:
        plans.append(ModelPlan.read(options, model, kv_dtype))
        _require_weights(plans[-1])
    limit = _limit_bytes(options, device)
    held = max(sum(plan.resident_bytes for plan in plans if place in options.devices_of(plan.options)) for place in _places(options))
    cache = _cache_bytes(options, device, limit, held)
    several = f"{len(unit.devices)} devices, each like " if len(unit.devices) > 1 else ""
    yield f"unit {unit.name}: {len(plans)} model{'s' * (len(plans) > 1)} on {several}{device.name}"
    yield from (f"  {_model_line(plan, options, cache)}" for plan in plans)
    yield f"  memory of a device: weights and tables {show_bytes(held)}; {_told(cache, limit, held)}"


def _model_line(plan: ModelPlan, options: UnitOptions, cache_bytes: int | None) -> str:
    spec, layout = plan.spec, plan.layout
    tokens = None if cache_bytes is None else cache_bytes // options.block_bytes // layout.column_blocks * layout.tokens_per_block
    whole = f"; the whole cache holds {show_count(tokens)} of its tokens" if tokens is not None else ""
    size = f"{show_params(spec)}, {show_dtypes(spec, layout)}, {show_bytes(plan.resident_bytes)} of a device"
    places = plan.options.lora_places
    adapters = f"; places for {places} adapters of rank {plan.options.max_lora_rank}" if places else ""
    return f"{plan.name}: {size}; up to {spec.max_len} tokens{whole}{adapters}"


def _told(cache_bytes: int | None, limit_bytes: int | None, held_bytes: int) -> str:
    if cache_bytes is None:
        return "how much the cache gets is not known here"
    free = "" if limit_bytes is None else f"; {show_bytes(limit_bytes - held_bytes - cache_bytes)} of {show_bytes(limit_bytes)} for steps"
    return f"cache {show_bytes(cache_bytes)}{free}"


def _limit_bytes(options: UnitOptions, device: Device) -> int | None:
    """Most that muxjax may use of a device; of a CPU the machine's memory, which its devices share."""
    there = device.memory_bytes
    if there is not None:
        there = there // options.tensor_parallel_size if device.is_cpu else int(there * options.gpu_memory_fraction)
    return min((limit for limit in (options.memory_bytes, there) if limit is not None), default=None)


def _cache_bytes(options: UnitOptions, device: Device, limit_bytes: int | None, held_bytes: int) -> int | None:
    """Bytes of the arena of one device; None where nobody knows.

    Raises:
      ConfigError: there is no room for it.
    """
    cache = options.kv_cache_bytes
    if cache is None and device.is_cpu and options.memory_bytes is None:
        cache = CPU_CACHE_BYTES
    if limit_bytes is None:
        return cache
    room = cache_room_bytes(limit_bytes, held_bytes) if cache is None else cache
    if room <= 0 or held_bytes + room > limit_bytes:
        size = f" and a cache of {show_bytes(cache)}" if cache else ""
        raise ConfigError(
            f"{show_bytes(held_bytes)} of weights and tables{size} do not fit into the {show_bytes(limit_bytes)} that muxjax may use of "
            f"{device.name}: lower kv_cache_size or max_num_seqs, or serve fewer models on it",
            field="kv_cache_bytes" if cache else "gpu_memory_fraction",
        )
    return room


def _places(options: UnitOptions) -> range:
    return range(options.tensor_parallel_size)


def _require_weights(plan: ModelPlan) -> None:
    """Raises CheckpointError: the weights are not there, or not those that the configuration describes; only headers are read."""
    if plan.options.load_format != "dummy":
        from muxjax.models.formats import open_checkpoint  # imports JAX, but asks it for no device

        open_checkpoint(plan.options.path, plan.spec)


def _placement(options: Options) -> Placement:
    """Raises ConfigError: the file cannot be read, or the problem not be solved."""
    unit, _, cluster = options
    return one_unit(unit) if cluster.is_one_unit else planned(options)


def planned(options: Options) -> Placement:
    """The placement of several units that a server is told.

    Raises:
      ConfigError: the file cannot be read, or the problem not be solved.
    """
    cluster = options.cluster
    if cluster.placement is not None:
        return read_placement(cluster.placement)
    assert cluster.problem is not None
    return solve(read_problem(cluster.problem, options.unit.models)).placement
