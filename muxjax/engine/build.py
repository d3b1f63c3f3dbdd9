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
from muxjax.cache.store import make_blocks
from muxjax.engine import memory
from muxjax.engine.batch import Buckets
from muxjax.engine.device import DeviceExecutor, Program
from muxjax.engine.engine import Engine
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.resident import Member
from muxjax.engine.unit import Unit
from muxjax.models import weights
from muxjax.models.config import read_spec
from muxjax.models.decoder import Params
from muxjax.scheduler.policies import by_name
from muxjax.types import ModelSpec
from muxjax.units import show_bytes, show_count, show_s

PREFILL_ROWS = 8
"""Most sequences of one prefill step."""


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
    memory.claim(options)
    device = jax.devices()[0]
    kv_dtype = _kv_dtype(options, device)
    specs = {model.name: read_spec(model.path, dtype=model.dtype, max_len=model.max_model_len) for model in options.models}
    layouts = {name: CacheLayout.of(spec, element_bytes=kv_dtype.itemsize, block_bytes=options.block_bytes) for name, spec in specs.items()}
    params = {
        model.name: weights.load(model.path, specs[model.name], load_format=model.load_format, progress=progress)
        for model in _largest_first(options, specs)
    }
    total_blocks = memory.arena_blocks(options, device)
    blocks_NE = make_blocks(total_blocks, block_bytes=options.block_bytes, dtype=kv_dtype, device=device)
    programs = {
        model.name: _program(options, model, specs[model.name], layouts[model.name], params[model.name], device) for model in options.models
    }
    executor = DeviceExecutor(programs, blocks_NE)
    compile_s = _warm_up(executor, programs, progress=progress)
    unit = Unit(
        _members(options, specs, layouts, total_blocks),
        total_blocks=total_blocks,
        token_budget=options.max_num_batched_tokens,
        max_rows=PREFILL_ROWS,
        look_ahead=options.look_ahead,
    )
    lines = tuple(_report(options, specs, layouts, total_blocks, kv_dtype, compile_s))
    for line in lines:
        report(line)
    return Built(
        engine=Engine(unit, by_name(options.policy), executor),
        models=specs,
        max_model_len={name: spec.max_len for name, spec in specs.items()},
        lines=lines,
    )


def _kv_dtype(options: UnitOptions, device: jax.Device) -> np.dtype:
    if options.kv_dtype != "auto":
        return np.dtype(options.kv_dtype)
    return np.dtype(np.float32 if device.platform == "cpu" else jnp.bfloat16)


def _largest_first(options: UnitOptions, specs: Mapping[str, ModelSpec]) -> list[ModelOptions]:
    return sorted(options.models, key=lambda model: -specs[model.name].params)


def _program(
    options: UnitOptions, model: ModelOptions, spec: ModelSpec, layout: CacheLayout, params: Params, device: jax.Device
) -> Program:
    buckets = Buckets.of(
        layout,
        slots=model.max_num_seqs,
        max_tokens=spec.max_len,
        token_budget=options.max_num_batched_tokens,
        prefill_rows=PREFILL_ROWS,
    )
    return Program.of(spec, layout, buckets, params, slots=model.max_num_seqs, max_tokens=spec.max_len, device=device)


def _members(options: UnitOptions, specs: Mapping[str, ModelSpec], layouts: Mapping[str, CacheLayout], total_blocks: int) -> list[Member]:
    quotas, floors = memory.first_quotas(options, layouts, total_blocks), memory.floors(layouts, total_blocks)
    return [
        Member(
            name=model.name,
            layout=layouts[model.name],
            slots=model.max_num_seqs,
            max_tokens=specs[model.name].max_len,
            quota_blocks=quotas[model.name],
            floor_blocks=floors[model.name],
        )
        for model in options.models
    ]


def _warm_up(executor: DeviceExecutor, programs: Mapping[str, Program], *, progress: bool) -> dict[str, float]:
    """Seconds each model took."""
    total = sum(program.warm_ups for program in programs.values())
    spent, last = dict.fromkeys(programs, 0.0), time.perf_counter()
    for name in tqdm(executor.warm_up(), total=total, desc="compiling", unit="program", disable=not progress):
        now = time.perf_counter()
        spent[name] += now - last
        last = now
    return spent


def _report(options, specs, layouts, total_blocks, kv_dtype, compile_s):
    for name, spec in specs.items():
        layout = layouts[name]
        tokens = total_blocks // layout.column_blocks * layout.tokens_per_block
        yield (
            f"{name}: {show_count(spec.params)} parameters, {spec.dtype}, up to {spec.max_len} tokens; a head block holds "
            f"{layout.tokens_per_block} tokens, the whole cache {show_count(tokens)}; compiled in {show_s(compile_s[name])}"
        )
    cache = f"{total_blocks} head blocks of {show_bytes(options.block_bytes)} = {show_bytes(total_blocks * options.block_bytes)}"
    yield f"cache: {cache}, {kv_dtype.name}, shared by {len(specs)} model{'s' * (len(specs) > 1)}; policy {options.policy}"
