"""The executor that runs steps on the devices of a unit, in the order they are launched."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.device import batch
from muxjax.device.batch import BatchShape
from muxjax.device.launch_queue import LaunchQueue
from muxjax.device.model import DeviceModel
from muxjax.device.post_step import GREEDY, PackedControls, StepResult, logprobs_of
from muxjax.engine.executor import Done, Fault, Step

_log = logging.getLogger(__name__)


class DeviceExecutor:
    """Runs the steps of several models over one arena. See `engine.executor.Executor`.

    A launch that fails for a reason that passes, and has changed nothing, is tried again, before later ones of its model.
    """

    def __init__(
        self,
        models: Mapping[str, DeviceModel],
        blocks_NE: jax.Array,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._models = dict(models)
        self._blocks_NE = blocks_NE
        self._flights: deque[_Flight] = deque()
        self._queues: dict[str, LaunchQueue] = {}  # of models, not empty
        self._clock, self._sleep = clock, sleep

    def launch(self, step: Step) -> None:
        """Starts a step, or has `collect` start it later, or tell why it could not be."""
        queue = self._queues.setdefault(step.model, LaunchQueue(self._clock))
        queue.steps.append(step)
        self._advance(step.model)

    def collect(self, *, wait: bool) -> list[Done]:
        """Steps that have finished; with `wait`, the oldest at least."""
        for model in tuple(self._queues):
            self._advance(model)
        while wait and not self._flights and self._queues:
            self._await_launch()
        done = []
        while self._flights and ((wait and not done) or self._flights[0].is_ready):
            done.append(self._flights.popleft().done())
            fault = done[-1].fault
            if fault and fault.lost_models:  # the steps behind it wrote to the arena that it left, or did not
                self.renew(self._blocks_NE.shape[0])
        return done

    @property
    def models(self) -> Mapping[str, DeviceModel]:
        """Every model, also those that sleep; replaced, never changed."""
        return self._models

    @property
    def arena_rows(self) -> int:
        """Head blocks of all devices together."""
        return self._blocks_NE.shape[0]

    def add(self, name: str, model: DeviceModel) -> None:
        """A model whose steps may be launched from now on."""
        self._models = {**self._models, name: model}

    def remove(self, name: str) -> None:
        """Frees what the devices hold of a model, none of whose steps is in flight; there may be none of that name."""
        if name in self._models:
            model = self._models[name]
            self._models = {other: model for other, model in self._models.items() if other != name}
            model.delete()

    def renew(self, rows: int) -> None:
        """Puts an empty arena of so many rows, on all devices together, in place of the one there is; steps in flight are dropped."""
        self._flights.clear()
        self._queues.clear()
        arena = self._blocks_NE
        shape, dtype, sharding = (rows, *arena.shape[1:]), arena.dtype, arena.sharding
        if not arena.is_deleted():
            arena.delete()
        self._blocks_NE = jax.block_until_ready(jnp.zeros(shape, dtype, device=sharding))
        for model in self._models.values():
            model.reset()

    def run(self, name: str, packed: np.ndarray, shape: BatchShape) -> jax.Array:
        """Launches a packed step of greedy rows, of a compiled shape; the tokens [B] it will have sampled."""
        return self._run(self._models[name], packed, shape, GREEDY).tokens_B

    def warm_up(self, on_shape: Callable[[], object] = lambda: None) -> None:
        """Runs every program of every model once, from this thread, with nothing to do: the device is ready to the last graph.

        Args:
          on_shape: called after each shape.
        """
        for name, model in self._models.items():
            model.warm_up_tables()
            for shape in model.steps:
                self.warm(name, shape)
                on_shape()

    def warm(self, name: str, shape: BatchShape) -> None:
        """Runs the programs of a shape once, to the end, with nothing to do."""
        model = self._models[name]
        jax.block_until_ready(self._run(model, batch.empty(shape), shape, model.post_step.warm_up_controls(shape)))

    def _await_launch(self) -> None:
        """Waits until a step is due that could not be launched, and tries it."""
        model, queue = min(self._queues.items(), key=lambda entry: entry[1].due_s)
        self._sleep(max(0.0, queue.due_s - self._clock()))
        self._advance(model)

    def _advance(self, model: str) -> None:
        """Launches what is due of a model, in its order; if that cannot be, its flights tell why."""
        queue = self._queues[model]
        while queue.is_due:
            before = self._blocks_NE
            try:
                flight = self._start(queue.steps[0])
            except Exception as error:  # of whatever kind: this is where one model's troubles are kept from the others
                lost = self._blocks_NE.is_deleted()
                if self._blocks_NE is before and not lost and self._models[model].has_tables and queue.failed(error):
                    if queue.tries == 1:
                        _log.warning("a step of %s cannot be launched, and is tried again for a while", model, exc_info=True)
                    return
                _log.exception("a step of %s cannot be launched", model)
                fault = Fault(what=_line(error), lost_models=frozenset(self._models) if lost else frozenset())
                self._flights += [_Flight(queue.launched(), None, fault, frozenset()) for _ in range(len(queue.steps))]
            else:
                if queue.tries:
                    _log.warning("a step of %s is launched after %s tries that failed", model, queue.tries)
                queue.launched()
                self._flights.append(flight)
        if not queue.steps:
            del self._queues[model]

    def _start(self, step: Step) -> "_Flight":
        model = self._models[step.model]
        if len(step.delta.slots):
            entries = batch.delta_entries(len(step.delta.slots))
            model.update_tables(batch.pack_delta(step.delta, entries))
        shape = model.shape(step)
        result = self._run(model, batch.pack(step, shape), shape, model.post_step.pack(step, shape))
        for array in jax.tree.leaves(result):
            array.copy_to_host_async()
        return _Flight(step, shape, result, frozenset(self._models))

    def _run(self, model: DeviceModel, packed: np.ndarray, shape: BatchShape, controls: PackedControls) -> StepResult:
        arrays = model.run(packed, shape, self._blocks_NE)
        self._blocks_NE = arrays.blocks_NE  # before anything else can fail
        return model.follow(arrays, packed, shape, controls)


class _Flight(NamedTuple):
    """A launched step, or why it could not be."""

    step: Step
    shape: BatchShape | None
    result: StepResult | Fault
    arena_models: frozenset[str]  # who has blocks in the arena that it writes to

    @property
    def is_ready(self) -> bool:
        return isinstance(self.result, Fault) or all(map(_is_ready, jax.tree.leaves(self.result)))

    def done(self) -> Done:
        """Waits for it. A step that fails on the device takes with it the arena it has written to."""
        if isinstance(self.result, Fault):
            return self._failed(self.result)
        try:
            return self._read(self.result)
        except jax.errors.JaxRuntimeError as error:
            _log.exception("a step of %s has failed", self.step.model)
            return self._failed(Fault(what=_line(error), lost_models=self.arena_models))

    def _read(self, result: StepResult) -> Done:
        step, shape = self.step, self.shape
        assert shape is not None
        return Done(
            step_id=step.id,
            tokens=batch.unpack(np.asarray(result.tokens_B), step, shape),
            logprobs=logprobs_of(result.logprobs, batch.row_places(step, shape)),
            prompt_logprobs=logprobs_of(result.prompt_logprobs, batch.token_places(step.counts[step.decodes :])),
            at_s=time.monotonic(),
        )

    def _failed(self, fault: Fault) -> Done:
        return Done(step_id=self.step.id, tokens=np.zeros(0, np.int32), at_s=time.monotonic(), fault=fault)


def _line(error: Exception) -> str:
    """The kind of an error, for a client; the log has the rest."""
    return f"a step of it ended in {type(error).__name__}"


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  (every array has it, the stub does not)
