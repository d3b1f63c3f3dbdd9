"""From options to an engine that is ready to serve: weights, memory, programs, and the report of it all."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from muxjax.cache.layout import CacheLayout
from muxjax.cache.store import blocks_shape, make_blocks
from muxjax.engine import memory, programs
from muxjax.engine.batch import Buckets
from muxjax.engine.device import DeviceExecutor, Program
from muxjax.engine.engine import Engine
from muxjax.engine.grammar import Grammars
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.resident import Member
from muxjax.engine.unit import Unit
from muxjax.errors import ConfigError
from muxjax.models import weights
from muxjax.models.config import read_spec
from muxjax.models.decoder import Params
from muxjax.models.sharding import OWN, Devices, share
from muxjax.pallas.kernels import best
from muxjax.scheduler.policies import by_name
from muxjax.scheduler.view import Policy
from muxjax.types import ModelSpec
from muxjax.units import show_bytes, show_count, show_s

PREFILL_ROWS = 8
"""Most sequences of one prefill step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an engine is made of, and the report of what fits."""

    unit: Unit
    policy: Policy
    executor: DeviceExecutor
    models: Mapping[str, ModelSpec]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine, not yet started, and what its models turned out to be."""

    engine: Engine
    models: Mapping[str, ModelSpec]
    max_model_len: Mapping[str, int]
    lines: tuple[str, ...]


def build(options: UnitOptions, *, report: Callable[[str], Any] = print, progress: bool = True) -> Built:
    """Loads the weights, sizes the arena, compiles every program, and reports what fits.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    parts = assemble(options, progress=progress)
    for line in parts.lines:
        report(line)
    return Built(
        engine=Engine(parts.unit, parts.policy, parts.executor, step_timeout_s=options.step_timeout_s),
        models=parts.models,
        max_model_len={name: spec.max_len for name, spec in parts.models.items()},
        lines=parts.lines,
    )


def assemble(options: UnitOptions, *, progress: bool = True) -> Parts:
    """Everything of `build` but the engine's thread.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    memory.claim(options)
    programs.keep_in(options.compilation_cache_dir)
    devices = Devices.first(options.tensor_parallel_size)
    kv_dtype = _kv_dtype(options, devices.each[0])
    specs = {model.name: read_spec(model.path, dtype=model.dtype, max_len=model.max_model_len) for model in options.models}
    layouts = {name: _layout(options, name, spec, kv_dtype) for name, spec in specs.items()}
    resident, load_s = _load(options, specs, layouts, kv_dtype, devices, progress=progress)
    total_blocks = memory.arena_blocks(options, devices)
    block_bytes = options.block_bytes
    arena = devices.joined(blocks_shape(total_blocks, block_bytes, kv_dtype, devices.each[0]), OWN)
    compile_s = _compile(resident, arena, progress=progress)
    plan = _plan(resident, total_blocks * block_bytes, devices)
    pools = (make_blocks(total_blocks, block_bytes=block_bytes, dtype=kv_dtype, device=device) for device in devices.each)
    executor = DeviceExecutor(resident, devices.join(pools, OWN))
    executor.warm_up()
    return Parts(
        unit=_unit(options, specs, layouts, total_blocks),
        policy=by_name(options.policy),
        executor=executor,
        models=specs,
        lines=(*_report(options, specs, layouts, total_blocks, kv_dtype, load_s, compile_s), *plan.lines()),
    )


def _kv_dtype(options: UnitOptions, device: jax.Device) -> np.dtype:
    if options.kv_dtype != "auto":
        return np.dtype(options.kv_dtype)
    return np.dtype(np.float32 if device.platform == "cpu" else jnp.bfloat16)


def _layout(options: UnitOptions, name: str, spec: ModelSpec, kv_dtype: np.dtype) -> CacheLayout:
    """Of one device's share of the heads."""
    try:
        own = share(spec, options.tensor_parallel_size)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}", field=error.field) from error
    return CacheLayout.of(own, element_bytes=kv_dtype.itemsize, block_bytes=options.block_bytes)


def _largest_first(options: UnitOptions, specs: Mapping[str, ModelSpec]) -> list[ModelOptions]:
    return sorted(options.models, key=lambda model: -specs[model.name].params)


def _load(
    options: UnitOptions,
    specs: Mapping[str, ModelSpec],
    layouts: Mapping[str, CacheLayout],
    kv_dtype: np.dtype,
    devices: Devices,
    *,
    progress: bool,
) -> tuple[dict[str, Program], dict[str, float]]:
    """Weights, the largest first, then the tables: all that the arena must leave room for; and seconds each model's weights took."""
    params, spent = {}, {}
    for model in _largest_first(options, specs):
        started = time.perf_counter()
        loaded = weights.load(model.path, specs[model.name], devices, load_format=model.load_format, progress=progress)
        params[model.name] = jax.block_until_ready(loaded)
        spent[model.name] = time.perf_counter() - started
    resident = {
        model.name: _program(options, model, specs[model.name], layouts[model.name], params[model.name], kv_dtype, devices)
        for model in options.models
    }
    return resident, spent


def _program(
    options: UnitOptions,
    model: ModelOptions,
    spec: ModelSpec,
    layout: CacheLayout,
    params: Params,
    kv_dtype: np.dtype,
    devices: Devices,
) -> Program:
    kernels = best(device_kind=devices.each[0].device_kind, dtype=kv_dtype, head_dim=spec.head_dim)
    buckets = Buckets.of(
        layout,
        slots=model.max_num_seqs,
        max_tokens=spec.max_len,
        token_budget=options.max_num_batched_tokens,
        prefill_rows=PREFILL_ROWS,
        ragged=kernels.ragged,
    )
    return Program.of(spec, layout, kernels, buckets, params, slots=model.max_num_seqs, max_tokens=spec.max_len, devices=devices)


def _unit(options: UnitOptions, specs: Mapping[str, ModelSpec], layouts: Mapping[str, CacheLayout], total_blocks: int) -> Unit:
    return Unit(
        _members(options, specs, layouts, total_blocks),
        total_blocks=total_blocks,
        token_budget=options.max_num_batched_tokens,
        max_rows=PREFILL_ROWS,
        look_ahead=options.look_ahead,
        prefix_caching=options.enable_prefix_caching,
        prefix_cache_fraction=options.prefix_cache_fraction,
    )


def _members(options: UnitOptions, specs: Mapping[str, ModelSpec], layouts: Mapping[str, CacheLayout], total_blocks: int) -> list[Member]:
    quotas, floors = memory.first_quotas(options, layouts, total_blocks), memory.floors(options, total_blocks)
    return [
        Member(
            name=model.name,
            layout=layouts[model.name],
            slots=model.max_num_seqs,
            max_tokens=specs[model.name].max_len,
            quota_blocks=quotas[model.name],
            floor_blocks=floors[model.name],
            vocab=specs[model.name].vocab,
            grammars=Grammars.of(model.path, vocab=specs[model.name].vocab, eos_ids=specs[model.name].eos_ids),
            weight=model.weight,
            token_cost=specs[model.name].params,
        )
        for model in options.models
    ]


def _compile(resident: Mapping[str, Program], arena: jax.ShapeDtypeStruct, *, progress: bool) -> dict[str, float]:
    """Compiles all there is while the arena's memory is still free, for autotuning needs some; seconds each model took."""
    spent = {}
    with tqdm(total=sum(program.program_count for program in resident.values()), unit="program", disable=not progress) as bar:
        for name, program in resident.items():
            bar.set_description(f"compiling {name}")
            started = time.perf_counter()
            for _ in program.compile(arena):
                bar.update()
            spent[name] = time.perf_counter() - started
    return spent


def _plan(resident: Mapping[str, Program], arena_bytes: int, devices: Devices) -> memory.Plan:
    return memory.Plan(
        devices=devices.tp,
        limit_bytes=memory.limit_bytes(devices.each[0]),
        resident_bytes={name: program.resident_bytes for name, program in resident.items()},
        arena_bytes=arena_bytes,
        temporary_bytes=max(program.temporary_bytes for program in resident.values()),
    )


def _report(options, specs, layouts, total_blocks, kv_dtype, load_s, compile_s):
    for name, spec in specs.items():
        layout = layouts[name]
        tokens = total_blocks // layout.column_blocks * layout.tokens_per_block
        yield (
            f"{name}: {show_count(spec.params)} parameters, {spec.dtype}, up to {spec.max_len} tokens; a head block holds "
            f"{layout.tokens_per_block} tokens, the whole cache {show_count(tokens)}; "
            f"loaded in {show_s(load_s[name])}, compiled in {show_s(compile_s[name])}"
        )
    cache = f"{total_blocks} head blocks of {show_bytes(options.block_bytes)} = {show_bytes(total_blocks * options.block_bytes)}"
    where = f" on each of {options.tensor_parallel_size} devices" if options.tensor_parallel_size > 1 else ""
    yield f"cache: {cache}{where}, {kv_dtype.name}, shared by {len(specs)} model{'s' * (len(specs) > 1)}; policy {options.policy}"
