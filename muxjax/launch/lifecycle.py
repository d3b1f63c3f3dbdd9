"""Models that come, go and rest while the others serve (docs/decisions/0016)."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping

import jax

from muxjax.device import memory
from muxjax.device.executor import DeviceExecutor
from muxjax.device.loader import ModelLoader, ModelPlan, compiled_for
from muxjax.device.model import DeviceModel
from muxjax.device.offload import Parked, park, unpark
from muxjax.engine.engine import Engine
from muxjax.engine.options import ModelOptions
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.types import ModelSpec
from muxjax.units import show_bytes

_log = logging.getLogger(__name__)


class ModelLifecycle:
    """Changes the models of a running engine, one change at a time; from any thread but the engine's.

    Every method returns when the change is done, which may take minutes. The other models' requests go on meanwhile; where the arena
    gets another size, those that run lose their place in it and are prefilled again.
    """

    def __init__(self, engine: Engine, unit: Unit, executor: DeviceExecutor, loader: ModelLoader, plans: Mapping[str, ModelPlan]):
        self._engine, self._unit, self._executor, self._loader = engine, unit, executor, loader
        self._plans = dict(plans)
        self._parked: dict[str, Parked] = {}  # weights of those asleep
        self._changing: dict[str, str] = {}  # what is being done to whom
        self._lock = threading.Lock()

    def states(self) -> dict[str, str]:
        """Of each model, in a word."""
        states = {model.name: model.status.value for model in self._engine.stats().models}
        return states | self._changing

    def load(self, options: ModelOptions) -> ModelSpec:
        """Reads a model's weights, compiles its programs, and serves it.

        Raises:
          ConfigError, CheckpointError: it cannot be served, or there is no room for it.
          RequestError: there is a model of that name (409).
        """
        with self._change(options.name, "loading"):
            if options.name in self._plans:
                raise _conflict(f"The model `{options.name}` is there already.")
            plan = self._loader.plan(options)
            config = self._loader.config(plan)
            self._make_room(plan.name, plan.resident_bytes)
            try:
                self._bring(plan.name, self._loader.load(plan, progress=False))
                self._engine.do(lambda: self._unit.add(config))
            except BaseException:
                self._drop(plan.name)
                raise
            self._plans[plan.name] = plan
            _log.info("the model %s is served", plan.name)
            return plan.spec

    def remove(self, name: str, *, timeout_s: float) -> None:
        """Lets a model's requests end, for so long, and frees all it has.

        Raises:
          RequestError: there is none of that name (404).
        """
        with self._change(name, "unloading"):
            self._find(name)
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
            if self._find_whole(name) is Status.ASLEEP:
                return
            self._engine.drain_model(name, timeout_s)
            self._engine.do(lambda: self._rest(name))
            program = self._executor.programs[name]
            self._parked[name] = park(program.params)
            program.params = {}
            self._spread()
            _log.info("the model %s sleeps", name)

    def wake(self, name: str) -> None:
        """Brings a model's weights back to the devices, and serves it.

        Raises:
          ConfigError: there is no room for it.
          RequestError: there is none of that name (404), or it has failed (409).
        """
        with self._change(name, "waking"):
            if self._find_whole(name) is not Status.ASLEEP:
                return
            parked, program = self._parked[name], self._executor.programs[name]
            self._make_room(name, parked.device_bytes)
            program.params = unpark(parked)
            try:
                self._bring(name, program)
            except BaseException:
                program.params = {}
                raise
            self._engine.do(lambda: self._unit.turn_to(name, Status.READY))
            del self._parked[name]
            _log.info("the model %s is awake", name)

    @contextlib.contextmanager
    def _change(self, name: str, what: str) -> Iterator[None]:
        with self._lock:
            self._changing = {name: what}
            try:
                yield
            finally:
                self._changing = {}

    def _find(self, name: str) -> Status:
        if name not in self._plans:
            raise RequestError(f"The model `{name[:200]}` does not exist.", param="model", code="model_not_found", status=404)
        return self._engine.do(lambda: self._unit.status(name))

    def _find_whole(self, name: str) -> Status:
        state = self._find(name)
        if state is Status.FAILED:
            raise _conflict(f"The model `{name}` has failed; it can only be removed, and added again.")
        return state

    def _rest(self, name: str) -> None:
        """In the engine's thread."""
        if self._unit.status(name) is Status.FAILED:
            raise _conflict(f"The model `{name}` has failed.")
        self._unit.turn_to(name, Status.ASLEEP)

    def _bring(self, name: str, program: DeviceModel) -> None:
        """Makes a model with weights ready for its first step."""
        if not program.steps:
            for _ in program.compile(self._loader.arena(self._unit.total_blocks)):
                pass
        self._check({name: program}, self._unit.total_blocks)
        program.warm_up_tables()
        self._engine.do(lambda: self._executor.add(name, program))
        self._warm_up(name)

    def _warm_up(self, name: str) -> None:
        """Runs each program once, a turn of the others between two of them."""
        for shape in self._executor.programs[name].steps:
            self._engine.do(lambda shape=shape: self._executor.warm(name, shape))

    def _drop(self, name: str) -> None:
        """Frees what the devices hold of a model; there may be nothing."""
        self._engine.do(lambda: self._executor.remove(name))
        self._parked.pop(name, None)
        self._plans.pop(name, None)
        self._spread()

    def _make_room(self, name: str, needed_bytes: int) -> None:
        """Shrinks the arena as far as a model needs it.

        Raises:
          ConfigError: that is not enough, or a running request needs the arena as it is.
        """
        blocks = min(self._blocks(needed_bytes), self._unit.total_blocks)
        self._check({}, blocks, extra={name: needed_bytes})
        if blocks < self._unit.total_blocks:
            self._resize(blocks)

    def _spread(self) -> None:
        """Grows the arena over memory that was freed, if that lies in one stretch."""
        blocks = self._blocks(0)
        if blocks > self._unit.total_blocks:
            try:
                self._resize(blocks)
            except jax.errors.JaxRuntimeError as error:
                _log.warning("the cache keeps its size, for free memory is in pieces: %s", str(error).partition("\n")[0])

    def _blocks(self, needed_bytes: int) -> int:
        """Of the arena, when so many bytes more are taken."""
        devices, options = self._loader.devices, self._loader.options
        arena_bytes = self._unit.total_blocks * options.block_bytes
        return memory.arena_blocks(options, devices, memory.held_bytes(devices, self._held(), arena_bytes) + needed_bytes)

    def _held(self) -> dict[str, int]:
        return {name: program.resident_bytes for name, program in self._executor.programs.items()}

    def _check(self, more: Mapping[str, DeviceModel], blocks: int, extra: Mapping[str, int] | None = None) -> None:
        """Raises ConfigError: memory is not enough for that."""
        programs = {**self._executor.programs, **more}
        held = {name: program.resident_bytes for name, program in programs.items()} | dict(extra or {})
        most = max((program.temporary_bytes for program in programs.values()), default=0)
        memory.plan(self._loader.options, self._loader.devices, held, most, blocks)

    def _resize(self, blocks: int) -> None:
        """Compiles the programs of those awake for another arena while they serve, then gives it to them in one turn."""
        arena = self._loader.arena(blocks)
        awake = {name: program for name, program in self._executor.programs.items() if program.params}
        fresh = {name: compiled_for(program, arena) for name, program in awake.items()}
        before, rows = self._unit.total_blocks, arena.shape[0]

        def swap() -> None:
            """In the engine's thread."""
            self._unit.resize(blocks)
            try:
                self._executor.renew(rows)
            except jax.errors.JaxRuntimeError:
                self._executor.renew(rows // blocks * before)
                self._unit.resize(before)
                raise
            for name, program in self._executor.programs.items():
                program.steps = fresh[name].steps if name in fresh else {}

        self._engine.do(swap)
        _log.info("the cache has %d head blocks, %s", blocks, show_bytes(blocks * self._loader.options.block_bytes))
        for name in fresh:
            self._warm_up(name)


def _conflict(message: str) -> RequestError:
    return RequestError(message, param="model", code="conflict", status=409)
