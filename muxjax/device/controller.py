"""Models that come to the devices and go, and the arena's size: the devices' side of a model's lifecycle."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest

import jax

from muxjax.buckets import BatchShape
from muxjax.device import host_memory, memory
from muxjax.device.executor import DeviceExecutor
from muxjax.device.loader import ModelLoader
from muxjax.device.model import DeviceModel, Programs
from muxjax.device.programs.library import ProgramLibrary
from muxjax.engine.device_control import Loaded, ProgramProgress
from muxjax.engine.options import ModelOptions
from muxjax.models.sharding import Devices
from muxjax.types import Adapter
from muxjax.units import show_bytes

_log = logging.getLogger(__name__)


class DeviceController:
    """Changes the models and the arena of an executor. See `engine.device_control.DeviceControl`."""

    def __init__(self, executor: DeviceExecutor, loader: ModelLoader, library: ProgramLibrary):
        self._executor, self._loader, self._library = executor, loader, library
        self._stopped = threading.Event()
        self._built: dict[tuple[str, BatchShape], Programs] = {}  # not added yet
        self._failed: dict[str, dict[BatchShape, str]] = {}  # why, by model
        self._loaded: dict[str, DeviceModel] = {}  # not attached yet
        self._prepared: dict[int, dict[str, Programs]] = {}  # by size of the arena and model

    def load_bytes(self, options: ModelOptions) -> int:
        return self._loader.plan(options).resident_bytes

    def onload_bytes(self, model: str) -> int:
        return self._executor.models[model].offloaded_bytes

    def arena_blocks(self, needed_bytes: int = 0) -> int:
        models, options, lanes = self._executor.models, self._loader.options, self._loader.lanes
        arena_bytes = self._total_blocks * options.block_bytes
        blocks = memory.arena_blocks(options, lanes, models, arena_bytes=arena_bytes, more_bytes=needed_bytes)
        memory.plan(options, lanes, models, min(blocks, self._total_blocks), more_bytes=needed_bytes)
        return blocks

    def load(self, options: ModelOptions) -> Loaded:
        plan, lane = self._loader.plan(options), self._emptiest_lane()
        self._loaded[plan.name] = self._loader.load(plan, lane=lane, progress=False)
        self._make_ready(plan.name, self._loaded[plan.name])
        return self._loaded[plan.name].loaded

    def onload(self, model: str) -> None:
        device_model = self._executor.models[model]
        device_model.onload()
        try:
            self._make_ready(model, device_model)
        except BaseException:
            device_model.offload()
            raise

    def offload(self, model: str) -> None:
        self._executor.models[model].offload()

    def hold_adapter(self, model: str, adapter: Adapter) -> object:
        places = self._executor.models[model].adapters
        assert places is not None, "a request with an adapter has passed the check of a model without places"
        return places.store.hold(adapter)

    def attach(self, model: str) -> None:
        if model in self._loaded:
            self._executor.add(model, self._loaded.pop(model))

    def remove(self, model: str) -> None:
        if model in self._loaded:
            self._loaded.pop(model).delete()
        self._executor.remove(model)

    def ready(self, model: str) -> tuple[int, ...]:
        device_model = self._executor.models[model]
        return tuple(i for i, shape in enumerate(device_model.shapes) if shape in device_model.steps)

    def warm(self, model: str, shape: int) -> Callable[[], object]:
        return self._executor.warm(model, self._executor.models[model].shapes[shape])

    def build(self) -> Iterator[tuple[str, int]]:
        pool, models = self._loader.pool(self._total_blocks), self._awake()
        self._built, self._failed = {}, {name: {} for name in models}
        missing = _interleaved({name: [shape for shape in model.shapes if shape not in model.steps] for name, model in models.items()})
        needs = {(name, shape): models[name].needs.of_shape(shape, pool) for name, shape in missing}
        self._stopped.clear()

        def devices_of(key: tuple[str, BatchShape]) -> Devices:
            return models[key[0]].devices

        for (name, shape), programs in self._library.complete(needs, self._note_failure, self._stopped, devices_of):
            self._built[name, shape] = programs
            yield name, models[name].shapes.index(shape)
        host_memory.trim()

    def stop_building(self) -> None:
        self._stopped.set()
        self._library.resume()

    def pause_building(self) -> None:
        self._library.pause()

    def resume_building(self) -> None:
        self._library.resume()

    def close(self) -> None:
        self._stopped.set()
        self._library.close()

    def add_shape(self, model: str, shape: int) -> None:
        device_model = self._executor.models[model]
        programs = self._built.pop((model, device_model.shapes[shape]), None)
        if programs is not None:
            device_model.add(programs)

    def progress(self) -> dict[str, ProgramProgress]:
        return {
            name: ProgramProgress(len(model.steps), len(model.shapes), tuple(dict(self._failed.get(name, {})).values()))
            for name, model in self._executor.models.items()
        }

    def prepare_arena(self, total_blocks: int) -> None:
        self._prepared = {total_blocks: {name: self._essential(model, total_blocks) for name, model in self._awake().items()}}

    def resize(self, total_blocks: int) -> bool:
        programs, rows = self._prepared.pop(total_blocks), self._executor.arena_rows
        try:
            self._executor.renew(self._loader.arena(total_blocks).shape[0])
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            _log.warning("the cache keeps its size, for free memory is in pieces: %s", str(error).partition("\n")[0])
            self._executor.renew(rows)
            return False
        for name, model in self._executor.models.items():
            model.forget_steps()
            model.add(programs.get(name, {}))
        _log.info("the cache has %d head blocks, %s", total_blocks, show_bytes(total_blocks * self._loader.options.block_bytes))
        return True

    def _emptiest_lane(self) -> int:
        """The one with the fewest models."""
        lanes = self._executor.lanes
        return min(range(len(lanes)), key=lambda lane: len(lanes[lane].models))

    @property
    def _total_blocks(self) -> int:
        """Head blocks of the arena on each device."""
        return self._executor.arena_rows // self._loader.devices.tp

    def _awake(self) -> dict[str, DeviceModel]:
        """Models whose weights are on the devices."""
        return {name: model for name, model in self._executor.models.items() if not model.is_offloaded}

    def _note_failure(self, key: tuple[str, BatchShape], error: Exception) -> None:
        name, shape = key
        self._failed[name][shape] = f"a step of {shape.tokens} tokens in {shape.rows} rows: {type(error).__name__}"
        _log.warning("%s keeps to larger steps: its step of %d tokens cannot be compiled", name, shape.tokens, exc_info=error)

    def _essential(self, model: DeviceModel, total_blocks: int) -> Programs:
        """Programs that hold every step of a model, on an arena of so many head blocks; made beside the steps of others."""
        sources = model.needs.of(model.needs.essential, self._loader.pool(total_blocks))
        return dict(self._library.find(sources, model.devices, beside=True))

    def _make_ready(self, name: str, model: DeviceModel) -> None:
        """Compiles what is missing for the arena there is.

        Raises:
          ConfigError: the steps need more memory than there is.
        """
        if not model.steps:
            model.add(self._essential(model, self._total_blocks))
        models = {**self._executor.models, name: model}
        memory.plan(self._loader.options, self._loader.lanes, models, self._total_blocks)
        model.warm_up_updates()


def _interleaved(shapes: Mapping[str, Sequence[BatchShape]]) -> Iterator[tuple[str, BatchShape]]:
    """The models' shapes in turn."""
    for turn in zip_longest(*([(name, shape) for shape in own] for name, own in shapes.items())):
        yield from (pair for pair in turn if pair is not None)
