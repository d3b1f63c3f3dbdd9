"""Lifecycle of models: they are loaded, removed, put to sleep (offload) and woken (onload) while others serve (docs/decisions/0016)."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from muxjax.engine.device_control import DeviceControl, Loaded, ProgramProgress
from muxjax.engine.engine import Engine
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import ModelOptions
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.launch.program_builder import ProgramBuilder
from muxjax.model_spec import ModelSpec

_log = logging.getLogger(__name__)


class ModelLifecycle:
    """Changes the models of a running engine, one change at a time; from any thread but the engine's.

    Every method returns when the change is done, which may take minutes. The other models' requests go on meanwhile; where the arena
    gets another size, those that run lose their place in it and are prefilled again.
    """

    def __init__(self, engine: Engine, unit: Unit, devices: DeviceControl, config_of: Callable[[ModelOptions, Loaded], ModelConfig]):
        self._engine, self._unit, self._devices, self._config_of = engine, unit, devices, config_of
        self._builder = ProgramBuilder(engine, devices)
        engine.on_stop(self._builder.close)
        self._builder.start()
        self._changing: dict[str, str] = {}  # what is being done to whom
        self._lock = threading.Lock()

    def states(self) -> dict[str, str]:
        """State of each model, in a word."""
        states = {model.name: model.status.value for model in self._engine.stats().models}
        return states | self._changing

    def programs(self) -> Mapping[str, ProgramProgress]:
        """How far each model's programs are."""
        return self._devices.progress()

    def load(self, options: ModelOptions) -> ModelSpec:
        """Reads a model's weights, makes the programs that hold every step, and serves it; the others follow.

        Raises:
          ConfigError, CheckpointError: it cannot be served, or there is no room for it.
          RequestError: there is a model of that name (409).
        """
        with self._change(options.name, "loading"):
            if options.name in self._names():
                raise _conflict(f"The model `{options.name}` is there already.")
            self._make_room(self._devices.load_bytes(options))
            try:
                loaded = self._devices.load(options)
                config = self._config_of(options, loaded)
                self._attach(options.name)
                self._engine.do(lambda: self._unit.add(config))
            except BaseException:
                self._drop(options.name)
                raise
            _log.info("the model %s is served", options.name)
            return loaded.spec

    def remove(self, name: str, *, timeout_s: float) -> None:
        """Lets a model's requests end, for so long, and frees all it has.

        Raises:
          RequestError: there is none of that name (404).
        """
        with self._change(name, "unloading"):
            self._status(name)
            self._engine.drain_model(name, timeout_s)
            self._engine.do(lambda: self._unit.remove(name))
            self._drop(name)
            _log.info("the model %s is gone", name)

    def sleep(self, name: str, *, timeout_s: float) -> None:
        """Lets a model's requests end, for so long, and moves its weights to the host's memory.

        Raises:
          RequestError: there is none of that name (404), or it has failed (409).
        """
        with self._change(name, "falling asleep"):
            if self._intact_status(name) is Status.ASLEEP:
                return
            self._engine.drain_model(name, timeout_s)
            self._engine.do(lambda: self._close(name))
            self._devices.offload(name)
            self._use_freed_memory()
            _log.info("the model %s sleeps", name)

    def wake(self, name: str) -> None:
        """Brings a model's weights back to the devices, and serves it.

        Raises:
          ConfigError: there is no room for it.
          RequestError: there is none of that name (404), or it has failed (409).
        """
        with self._change(name, "waking"):
            if self._intact_status(name) is not Status.ASLEEP:
                return
            self._make_room(self._devices.onload_bytes(name))
            self._devices.onload(name)
            try:
                self._attach(name)
            except BaseException:
                self._devices.offload(name)
                raise
            self._engine.do(lambda: self._unit.turn_to(name, Status.READY))
            _log.info("the model %s is awake", name)

    @contextlib.contextmanager
    def _change(self, name: str, what: str) -> Iterator[None]:
        with self._lock:
            self._changing = {name: what}
            try:
                with self._builder.paused():
                    yield
            finally:
                self._changing = {}

    def _names(self) -> list[str]:
        return [model.name for model in self._engine.stats().models]

    def _status(self, name: str) -> Status:
        if name not in self._names():
            raise RequestError(f"The model `{name[:200]}` does not exist.", param="model", code="model_not_found", status=404)
        return self._engine.do(lambda: self._unit.status(name))

    def _intact_status(self, name: str) -> Status:
        status = self._status(name)
        if status is Status.FAILED:
            raise _conflict(f"The model `{name}` has failed; it can only be removed, and added again.")
        return status

    def _close(self, name: str) -> None:
        """In the engine's thread: takes no more requests for a model."""
        if self._unit.status(name) is Status.FAILED:
            raise _conflict(f"The model `{name}` has failed.")
        self._unit.turn_to(name, Status.ASLEEP)

    def _attach(self, name: str) -> None:
        """Lets steps of a model with weights be launched."""
        self._engine.do(lambda: self._devices.attach(name))
        self._warm_up(name)

    def _warm_up(self, name: str) -> None:
        """Runs the programs of each shape of a model once, a turn of the others between two of them."""
        for shape in self._devices.ready(name):
            self._engine.do(lambda shape=shape: self._devices.warm(name, shape))()

    def _drop(self, name: str) -> None:
        """Frees what the devices hold of a model; there may be nothing."""
        self._engine.do(lambda: self._devices.remove(name))
        self._use_freed_memory()

    def _make_room(self, needed_bytes: int) -> None:
        """Shrinks the arena as far as a model needs it.

        Raises:
          ConfigError: that is not enough, or a running request needs the arena as it is.
        """
        blocks = self._devices.arena_blocks(needed_bytes)
        if blocks < self._unit.total_blocks:
            self._resize(blocks)

    def _use_freed_memory(self) -> None:
        """Grows the arena over memory that was freed, if that lies in one stretch."""
        blocks = self._devices.arena_blocks()
        if blocks > self._unit.total_blocks:
            self._resize(blocks)

    def _resize(self, blocks: int) -> None:
        """Compiles the programs of those awake for another arena while they serve, then gives it to them in one turn."""
        self._devices.prepare_arena(blocks)
        if self._engine.do(lambda: self._swap_arena(blocks)):
            for name in self._names():
                self._warm_up(name)

    def _swap_arena(self, blocks: int) -> bool:
        """In the engine's thread: an empty arena of another size; False if there is none to be had, but an empty one of the old size."""
        before = self._unit.total_blocks
        self._unit.resize(blocks)
        resized = self._devices.resize(blocks)
        if not resized:
            self._unit.resize(before)
        return resized


def _conflict(message: str) -> RequestError:
    return RequestError(message, param="model", code="conflict", status=409)
