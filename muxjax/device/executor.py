"""The executor that runs steps on the devices of a unit, in the order they are launched."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.device import batch
from muxjax.device.batch import BatchShape
from muxjax.device.model import DeviceModel
from muxjax.device.post_step import GREEDY, Packed, StepResult, told_of
from muxjax.engine.executor import Done, Fault, Step

_log = logging.getLogger(__name__)


class _Flight(NamedTuple):
    """A launched step, or why it could not be."""

    step: Step
    shape: BatchShape | None
    result: StepResult | Fault

    @property
    def is_ready(self) -> bool:
        return isinstance(self.result, Fault) or all(map(_is_ready, jax.tree.leaves(self.result)))

    def done(self) -> Done:
        """Waits for it. A step that fails on the device takes with it the arena it has written to."""
        if isinstance(self.result, Fault):
            return self._nothing(self.result)
        try:
            return self._read(self.result)
        except jax.errors.JaxRuntimeError as error:
            _log.exception("a step of %s has failed", self.step.model)
            return self._nothing(Fault(what=_line(error), cache_lost=True))

    def _read(self, made: StepResult) -> Done:
        step, shape = self.step, self.shape
        assert shape is not None
        return Done(
            step_id=step.id,
            tokens=batch.unpack(np.asarray(made.tokens_B), step, shape),
            logprobs=told_of(made.told, batch.row_places(step, shape)),
            prompt_logprobs=told_of(made.scored, batch.token_places(step.counts[step.decodes :])),
            at_s=time.monotonic(),
        )

    def _nothing(self, fault: Fault) -> Done:
        return Done(step_id=self.step.id, tokens=np.zeros(0, np.int32), at_s=time.monotonic(), fault=fault)


class DeviceExecutor:
    """Runs the steps of several models over one arena. See `executor.Executor`."""

    def __init__(self, programs: Mapping[str, DeviceModel], blocks_NE: jax.Array):
        self._programs = dict(programs)
        self._blocks_NE = blocks_NE
        self._queue: deque[_Flight] = deque()

    def launch(self, step: Step) -> None:
        before = self._blocks_NE
        try:
            shape, made = self._start(step)
        except Exception as error:  # of whatever kind: this is where one model's troubles are kept from the others
            _log.exception("a step of %s cannot be launched", step.model)
            whole = self._blocks_NE is before and not before.is_deleted()
            self._queue.append(_Flight(step, None, Fault(what=_line(error), cache_lost=not whole)))
        else:
            self._queue.append(_Flight(step, shape, made))

    def _start(self, step: Step) -> tuple[BatchShape, StepResult]:
        program = self._programs[step.model]
        if len(step.delta.slots):
            entries = batch.delta_entries(len(step.delta.slots))
            program.update(batch.pack_delta(step.delta, entries))
        shape = program.buckets.shape(step, program.layout)
        made = self._run(step.model, batch.pack(step, shape), shape, program.post_step.pack(step, shape))
        for array in jax.tree.leaves(made):
            array.copy_to_host_async()
        return shape, made

    def collect(self, *, wait: bool) -> list[Done]:
        done = []
        while self._queue and ((wait and not done) or self._queue[0].is_ready):
            flight = self._queue.popleft()
            done.append(flight.done())
            fault = done[-1].fault
            if fault and fault.cache_lost:  # the steps behind it wrote to the arena that it left, or did not
                self.renew(self._blocks_NE.shape[0])
        return done

    def renew(self, rows: int) -> None:
        """An empty arena of so many rows, on all devices together, in place of the one there is; steps in flight are dropped."""
        self._queue.clear()
        old = self._blocks_NE
        shape, dtype, here = (rows, *old.shape[1:]), old.dtype, old.sharding
        if not old.is_deleted():
            old.delete()
        self._blocks_NE = jax.block_until_ready(jnp.zeros(shape, dtype, device=here))
        for program in self._programs.values():
            program.forget()

    @property
    def programs(self) -> Mapping[str, DeviceModel]:
        """Of each model, also of those that sleep; replaced, never changed."""
        return self._programs

    def add(self, model: str, program: DeviceModel) -> None:
        """A model whose steps may be launched from now on."""
        self._programs = {**self._programs, model: program}

    def remove(self, model: str) -> None:
        """Frees what there is of a model, none of whose steps is in flight."""
        gone = self._programs.get(model)
        self._programs = {name: program for name, program in self._programs.items() if name != model}
        for array in jax.tree.leaves((gone.params, gone.table_LSKC, gone.last_S)) if gone else ():
            array.delete()

    def run(self, model: str, packed: np.ndarray, shape: BatchShape) -> jax.Array:
        """Launches a packed step of greedy rows, of a compiled shape; the tokens [B] it will have sampled."""
        return self._run(model, packed, shape, GREEDY).tokens_B

    def _run(self, model: str, packed: np.ndarray, shape: BatchShape, asked: Packed) -> StepResult:
        made, self._blocks_NE = self._programs[model].run(packed, shape, self._blocks_NE, asked)
        return made

    def warm_up(self) -> None:
        """Runs every program of every model once, from this thread, with nothing to do: the device is ready to the last graph."""
        for name, program in self._programs.items():
            program.warm_up_tables()
            for shape in program.steps:
                self.warm(name, shape)

    def warm(self, model: str, shape: BatchShape) -> None:
        """Runs the programs of a shape once, to the end, with nothing to do."""
        jax.block_until_ready(self._run(model, batch.empty(shape), shape, self._programs[model].post_step.everything(shape)))


def _line(error: Exception) -> str:
    """For a client: what kind of error it was. The log has the rest."""
    return f"a step of it ended in {type(error).__name__}"


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  (every array has it, the stub does not)
