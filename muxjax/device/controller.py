"""Models that come to the devices and go, and the arena's size: the devices' side of a model's lifecycle."""

import logging

import jax

from muxjax.device import memory
from muxjax.device.batch import BatchShape
from muxjax.device.executor import DeviceExecutor
from muxjax.device.loader import ModelLoader
from muxjax.device.model import DeviceModel
from muxjax.engine.options import ModelOptions
from muxjax.types import ModelSpec
from muxjax.units import show_bytes

_log = logging.getLogger(__name__)


class DeviceController:
    """Changes the models and the arena of an executor. See `engine.device_control.DeviceControl`."""

    def __init__(self, executor: DeviceExecutor, loader: ModelLoader):
        self._executor, self._loader = executor, loader
        self._loaded: dict[str, DeviceModel] = {}  # not attached yet
        self._prepared: dict[int, dict[str, dict[BatchShape, jax.stages.Compiled]]] = {}  # steps by size of the arena and model

    def load_bytes(self, options: ModelOptions) -> int:
        return self._loader.plan(options).resident_bytes

    def onload_bytes(self, model: str) -> int:
        return self._executor.models[model].offloaded_bytes

    def arena_blocks(self, needed_bytes: int = 0) -> int:
        models, options, devices = self._executor.models, self._loader.options, self._loader.devices
        arena_bytes = self._total_blocks * options.block_bytes
        blocks = memory.arena_blocks(options, devices, models, arena_bytes=arena_bytes, more_bytes=needed_bytes)
        memory.plan(options, devices, models, min(blocks, self._total_blocks), more_bytes=needed_bytes)
        return blocks

    def load(self, options: ModelOptions) -> ModelSpec:
        plan = self._loader.plan(options)
        self._loaded[plan.name] = self._loader.load(plan, progress=False)
        self._make_ready(plan.name, self._loaded[plan.name])
        return plan.spec

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

    def attach(self, model: str) -> None:
        if model in self._loaded:
            self._executor.add(model, self._loaded.pop(model))

    def remove(self, model: str) -> None:
        if model in self._loaded:
            self._loaded.pop(model).delete()
        self._executor.remove(model)

    def program_count(self, model: str) -> int:
        return len(self._executor.models[model].steps)

    def warm(self, model: str, program: int) -> None:
        self._executor.warm(model, list(self._executor.models[model].steps)[program])

    def prepare_arena(self, total_blocks: int) -> None:
        arena = self._loader.arena(total_blocks)
        resident = {name: model for name, model in self._executor.models.items() if not model.is_offloaded}
        self._prepared = {total_blocks: {name: model.compiled_for(arena) for name, model in resident.items()}}

    def resize(self, total_blocks: int) -> bool:
        steps, rows = self._prepared.pop(total_blocks), self._executor.arena_rows
        try:
            self._executor.renew(self._loader.arena(total_blocks).shape[0])
        except jax.errors.JaxRuntimeError as error:
            _log.warning("the cache keeps its size, for free memory is in pieces: %s", str(error).partition("\n")[0])
            self._executor.renew(rows)
            return False
        for name, model in self._executor.models.items():
            model.steps = steps.get(name, {})
        _log.info("the cache has %d head blocks, %s", total_blocks, show_bytes(total_blocks * self._loader.options.block_bytes))
        return True

    @property
    def _total_blocks(self) -> int:
        """Head blocks of the arena on each device."""
        return self._executor.arena_rows // self._loader.devices.tp

    def _make_ready(self, name: str, model: DeviceModel) -> None:
        """Compiles what is missing for the arena there is.

        Raises:
          ConfigError: the steps need more memory than there is.
        """
        if not model.steps:
            for _ in model.compile(self._loader.arena(self._total_blocks)):
                pass
        models = {**self._executor.models, name: model}
        memory.plan(self._loader.options, self._loader.devices, models, self._total_blocks)
        model.warm_up_tables()
