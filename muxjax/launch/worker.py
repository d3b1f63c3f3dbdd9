"""The worker in this process: devices with weights, arena and compiled programs, ready to run steps.

The engine knows of it what `engine.executor` and `engine.device_control` say. Another kind of worker is another function that returns a
`Worker`: processes of their own; workers on other hosts; actors of Ray.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from muxjax.device import host_memory, memory
from muxjax.device.controller import DeviceController
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.arena import ArenaMemory
from muxjax.device.loader import ModelLoader
from muxjax.device.memory import MemoryPlan
from muxjax.device.model import DeviceModel
from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.sources import Source
from muxjax.engine.device_control import DeviceControl, Loaded
from muxjax.engine.executor import WakeableExecutor
from muxjax.engine.model.plan import ModelPlan
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.progress import Progress
from muxjax.units import show_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Devices with models on them.

    Args:
      device: JAX's name of each of them.
      total_blocks: head blocks of the arena of each device.
      load_s: seconds that each model's weights took; compile_s: all models' programs that there were to be at first.
    """

    executor: WakeableExecutor
    control: DeviceControl
    models: Mapping[str, Loaded]
    kv_dtype: np.dtype
    device: str
    total_blocks: int
    memory: MemoryPlan
    load_s: Mapping[str, float]
    compile_s: float


def start_worker(options: UnitOptions, progress: Progress) -> Worker:
    """Loads the weights, sizes the arena, makes the programs that hold every step, and runs each once.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    progress.phase("opening devices")
    memory.claim(options)
    loader = ModelLoader.of(options)
    plans = {model.name: loader.plan(model) for model in options.models}
    memory.require_memory(options, loader.devices, {name: (loader.devices_of(plan), plan.resident_bytes) for name, plan in plans.items()})
    library = ProgramLibrary.open(loader.devices, options.compilation_cache_dir)
    load_s = _Seconds()
    models = _load(loader, plans, load_s, progress)
    total_blocks = memory.arena_blocks(options, loader.lanes, models)
    compile_s = _compile(models, loader, total_blocks, library, progress, all_shapes=options.wait_for_all)
    memory_plan = memory.plan(options, loader.lanes, models, total_blocks)
    progress.phase("making the cache")
    executor = DeviceExecutor(models, _arena(loader, total_blocks), lanes=len(loader.lanes), beside=options.has_steps_beside)
    _warm_up(executor, progress)
    host_memory.trim()
    return Worker(
        executor=executor,
        control=DeviceController(executor, loader, library),
        models={name: model.loaded for name, model in models.items()},
        kv_dtype=loader.kv_dtype,
        device=loader.devices.kind,
        total_blocks=total_blocks,
        memory=memory_plan,
        load_s=load_s.by_model,
        compile_s=compile_s,
    )


def _load(loader: ModelLoader, plans: Mapping[str, ModelPlan], seconds: "_Seconds", progress: Progress) -> dict[str, DeviceModel]:
    """The models, all of which the arena must leave room for; the largest is loaded first, and lanes are dealt in turn."""
    models = {}
    for i, plan in enumerate(sorted(plans.values(), key=lambda plan: -plan.spec.params)):
        what = f"weights: {plan.name}, {i + 1} of {len(plans)}"
        progress.doing(what) if progress.draws else progress.phase(what)
        with seconds.of(plan.name):
            models[plan.name] = loader.load(plan, lane=i % len(loader.lanes), progress=progress.draws)
    return {name: models[name] for name in plans}


def _arena(loader: ModelLoader, total_blocks: int) -> ArenaMemory:
    """Raises ConfigError: there is not so much memory in one piece. Another start would find no more of it."""
    try:
        return loader.make_arena(total_blocks)
    except MemoryError as error:
        size, lanes = show_bytes(total_blocks * loader.options.block_bytes), len(loader.lanes)
        taken = "1 lane has taken" if lanes == 1 else f"{lanes} lanes have taken"
        raise ConfigError(
            f"a cache of {size} does not fit beside what {taken} for weights, which may be twice their size: "
            f"lower kv_cache_size{', or lanes' if lanes > 1 else ''} ({error})",
            field="kv_cache_bytes",
        ) from error


def _compile(
    models: Mapping[str, DeviceModel],
    loader: ModelLoader,
    total_blocks: int,
    library: ProgramLibrary,
    progress: Progress,
    *,
    all_shapes: bool,
) -> float:
    """Makes the programs there must be at first, several at a time; the seconds that took."""
    started, pool = time.perf_counter(), loader.pool(total_blocks)
    wanted_on = {model.devices: dict[Source, list[DeviceModel]]() for model in models.values()}
    for model in models.values():  # those of one vocabulary on the same devices share some
        for source in model.needs.of(model.shapes if all_shapes else model.needs.essential, pool):
            wanted_on[model.devices].setdefault(source, []).append(model)
    with progress.counted("programs", "program", sum(map(len, wanted_on.values()))) as one_more:
        finds = [(wanted, library.find(wanted, devices)) for devices, wanted in wanted_on.items()]  # all are asked for by now
        for wanted, programs in finds:
            for source, program in programs:
                for model in wanted[source]:
                    model.add({source: program})
                one_more()
    return time.perf_counter() - started


def _warm_up(executor: DeviceExecutor, progress: Progress) -> None:
    """Runs every program once, so that no request waits for a first run."""
    shapes = sum(len(model.steps) for model in executor.models.values())
    with progress.counted("first runs", "step", shapes) as one_more:
        executor.warm_up(one_more)


class _Seconds:
    """Seconds that one phase of the start takes for each model."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.by_model: dict[str, float] = {}
        self._clock = clock

    @contextlib.contextmanager
    def of(self, model: str) -> Iterator[None]:
        """Times the block for a model."""
        started = self._clock()
        yield
        self.by_model[model] = self._clock() - started
