"""From options to an engine that is ready to serve: weights, memory, programs, and the report of it all."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from tqdm import tqdm

from muxjax.device import compilation_cache, memory
from muxjax.device.executor import DeviceExecutor
from muxjax.device.loader import PREFILL_ROWS, ModelLoader, ModelPlan
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import make_blocks
from muxjax.engine.engine import Engine
from muxjax.engine.options import UnitOptions
from muxjax.engine.unit import Unit
from muxjax.launch.lifecycle import ModelLifecycle
from muxjax.models.sharding import OWN
from muxjax.scheduler.policies import by_name
from muxjax.scheduler.view import Policy
from muxjax.types import ModelSpec
from muxjax.units import show_bytes, show_count, show_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an engine is made of, and the report of what fits."""

    loader: ModelLoader
    plans: Mapping[str, ModelPlan]
    unit: Unit
    policy: Policy
    executor: DeviceExecutor
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine, not yet started, and what its models turned out to be."""

    engine: Engine
    lifecycle: ModelLifecycle
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
    engine = Engine(parts.unit, parts.policy, parts.executor, step_timeout_s=options.step_timeout_s)
    specs = {name: plan.spec for name, plan in parts.plans.items()}
    return Built(
        engine=engine,
        lifecycle=ModelLifecycle(engine, parts.unit, parts.executor, parts.loader, parts.plans),
        models=specs,
        max_model_len={name: spec.max_len for name, spec in specs.items()},
        lines=parts.lines,
    )


def assemble(options: UnitOptions, *, progress: bool = True) -> Parts:
    """Everything of `build` but the engine's thread.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    memory.claim(options)
    compilation_cache.keep_in(options.compilation_cache_dir)
    loader = ModelLoader.of(options)
    devices = loader.devices
    plans = {model.name: loader.plan(model) for model in options.models}
    resident, load_s = _load(loader, plans, progress=progress)
    held = {name: program.resident_bytes for name, program in resident.items()}
    total_blocks = memory.arena_blocks(options, devices, memory.held_bytes(devices, held))
    compile_s = _compile(resident, loader.arena(total_blocks), progress=progress)
    most = max(program.temporary_bytes for program in resident.values())
    plan = memory.plan(options, devices, held, most, total_blocks)
    kept = {"block_bytes": options.block_bytes, "dtype": loader.kv_dtype}
    pools = (make_blocks(total_blocks, **kept, device=device) for device in devices.each)
    executor = DeviceExecutor(resident, devices.join(pools, OWN))
    executor.warm_up()
    return Parts(
        loader=loader,
        plans=plans,
        unit=_unit(loader, plans, total_blocks),
        policy=by_name(options.policy),
        executor=executor,
        lines=(*_report(loader, plans, total_blocks, load_s, compile_s), *plan.lines()),
    )


def _load(loader: ModelLoader, plans: Mapping[str, ModelPlan], *, progress: bool) -> tuple[dict[str, DeviceModel], dict[str, float]]:
    """All that the arena must leave room for, the largest model first; and seconds each one took."""
    loaded, spent = {}, {}
    for plan in sorted(plans.values(), key=lambda plan: -plan.spec.params):
        started = time.perf_counter()
        loaded[plan.name] = loader.load(plan, progress=progress)
        spent[plan.name] = time.perf_counter() - started
    return {name: loaded[name] for name in plans}, spent


def _unit(loader: ModelLoader, plans: Mapping[str, ModelPlan], total_blocks: int) -> Unit:
    options = loader.options
    return Unit(
        [loader.config(plan) for plan in plans.values()],
        total_blocks=total_blocks,
        token_budget=options.max_num_batched_tokens,
        max_rows=PREFILL_ROWS,
        look_ahead=options.look_ahead,
        prefix_caching=options.enable_prefix_caching,
        prefix_cache_fraction=options.prefix_cache_fraction,
    )


def _compile(resident: Mapping[str, DeviceModel], arena: jax.ShapeDtypeStruct, *, progress: bool) -> dict[str, float]:
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


def _report(
    loader: ModelLoader, plans: Mapping[str, ModelPlan], total_blocks: int, load_s: Mapping[str, float], compile_s: Mapping[str, float]
) -> Iterator[str]:
    options = loader.options
    for name, plan in plans.items():
        spec, layout = plan.spec, plan.layout
        tokens = total_blocks // layout.column_blocks * layout.tokens_per_block
        yield (
            f"{name}: {show_count(spec.params)} parameters, {spec.dtype}, up to {spec.max_len} tokens; a head block holds "
            f"{layout.tokens_per_block} tokens, the whole cache {show_count(tokens)}; "
            f"loaded in {show_s(load_s[name])}, compiled in {show_s(compile_s[name])}"
        )
    cache = f"{total_blocks} head blocks of {show_bytes(options.block_bytes)} = {show_bytes(total_blocks * options.block_bytes)}"
    where = f" on each of {options.tensor_parallel_size} devices" if options.tensor_parallel_size > 1 else ""
    models = f"{len(plans)} model{'s' * (len(plans) > 1)}"
    yield f"cache: {cache}{where}, {loader.kv_dtype.name}, shared by {models}; policy {options.policy}"
