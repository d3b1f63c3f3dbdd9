"""The executor that runs steps on the devices of a unit, in the order they are launched."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.engine import batch
from muxjax.engine.batch import BatchShape
from muxjax.engine.executor import Done, Fault, Step
from muxjax.engine.step import lower_draw, lower_step, update_table
from muxjax.models.decoder import Params
from muxjax.models.sharding import SAME, Devices, device_bytes
from muxjax.pallas.kernels import Kernels
from muxjax.types import ModelSpec

_log = logging.getLogger(__name__)

COMPILERS = 8
"""Steps compiled at a time: XLA makes the kernels of one step on few threads."""


@dataclass(slots=True, kw_only=True)
class Program:
    """What the devices keep of one model.

    Args:
      layout: of the heads that one device holds.
      table_LSKC: block tables; last_S: the token sampled last in each slot. Both are replaced by the steps.
      steps: the compiled step of each shape; draws: the compiled draw of so many rows. Both are empty before `compile`.
    """

    spec: ModelSpec
    layout: CacheLayout
    kernels: Kernels
    buckets: batch.Buckets
    params: Params
    table_LSKC: jax.Array
    last_S: jax.Array
    devices: Devices
    steps: dict[BatchShape, jax.stages.Compiled] = field(default_factory=dict)
    draws: dict[int, jax.stages.Compiled] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        layout: CacheLayout,
        kernels: Kernels,
        buckets: batch.Buckets,
        params: Params,
        *,
        slots: int,
        max_tokens: int,
        devices: Devices,
    ) -> "Program":
        """Empty tables of so many slots. They are bound to the devices, as the outputs that replace them are: jit looks at that."""
        here = devices.sharding(SAME)
        shape = (layout.layers, slots, layout.kv_heads, layout.columns(max_tokens))
        return cls(
            spec=spec,
            layout=layout,
            kernels=kernels,
            buckets=buckets,
            params=params,
            table_LSKC=jnp.zeros(shape, jnp.int32, device=here),
            last_S=jnp.zeros(slots, jnp.int32, device=here),
            devices=devices,
        )

    @property
    def program_count(self) -> int:
        """That `compile` compiles, draws among them."""
        shapes = self.buckets.shapes()
        return len(shapes) + len({shape.rows for shape in shapes})

    def compile(self, blocks_NE: jax.Array | jax.ShapeDtypeStruct, *, random: bool = True) -> Iterator[None]:
        """Compiles everything for such an arena, several programs at a time; yields as each is there.

        Args:
          random: whether there will be rows that are not greedy.
        """
        given = self.params, blocks_NE, self.last_S, self.table_LSKC
        kept = {"spec": self.spec, "layout": self.layout, "kernels": self.kernels, "mesh": self.devices.mesh}
        shapes = self.buckets.shapes()
        with ThreadPoolExecutor(COMPILERS) as pool:
            steps = {pool.submit(lower_step(*given, shape=shape, **kept)): shape for shape in shapes}
            drawn = {shape.rows: None for shape in shapes if random}  # in their order, which names depend on
            draws = {pool.submit(lower_draw(rows, self.spec.vocab, self.last_S)): rows for rows in drawn}
            for done in as_completed([*steps, *draws]):
                if done in steps:
                    self.steps[steps[done]] = done.result()
                else:
                    self.draws[draws[done]] = done.result()
                yield

    @property
    def resident_bytes(self) -> int:
        """Weights and block tables on one device."""
        return sum(device_bytes(leaf) for leaf in jax.tree.leaves((self.params, self.table_LSKC, self.last_S)))

    @property
    def temporary_bytes(self) -> int:
        """Most that a step needs while it runs, its logits among it, and a draw behind it."""
        return max(map(_needed_bytes, self.steps.values()), default=0) + max(map(_needed_bytes, self.draws.values()), default=0)

    def run(self, packed: np.ndarray, shape: BatchShape, blocks_NE: jax.Array, *, random: bool) -> tuple[jax.Array, jax.Array]:
        """Launches a step: tokens [B], and the arena that replaces the one given.

        Args:
          random: whether there is a row that is not greedy.
        """
        tokens_B, logits_BV, blocks_NE, self.last_S = self.steps[shape](self.params, blocks_NE, self.last_S, self.table_LSKC, packed)
        if random:
            tokens_B, self.last_S = self.draws[shape.rows](tokens_B, logits_BV, self.last_S, packed[shape.tokens :])
        return tokens_B, blocks_NE

    def update(self, packed_U: np.ndarray) -> None:
        """Takes columns over into the tables."""
        self.table_LSKC = update_table(self.table_LSKC, packed_U)

    def forget(self) -> None:
        """What steps in flight may have left undone is empty again."""
        old = self.last_S
        self.last_S = jnp.zeros(old.shape, old.dtype, device=old.sharding)

    def warm_up_tables(self) -> None:
        """Compiles and runs every size of update."""
        _, slots, _, columns = self.table_LSKC.shape
        most = batch.delta_entries(max(slots, self.buckets.prefill_rows * columns))
        entries = 1
        while entries <= most:
            self.update(batch.empty_delta(self.layout, entries))
            entries *= 4


class _Flight(NamedTuple):
    """A launched step, or why it could not be."""

    step: Step
    shape: BatchShape | None
    result: jax.Array | Fault

    @property
    def is_ready(self) -> bool:
        return isinstance(self.result, Fault) or _is_ready(self.result)

    def done(self) -> Done:
        """Waits for it. A step that fails on the device takes with it the arena it has written to."""
        tokens, fault = np.zeros(0, np.int32), None
        if isinstance(self.result, Fault):
            fault = self.result
        else:
            assert self.shape is not None
            try:
                tokens = batch.unpack(np.asarray(self.result), self.step, self.shape)
            except jax.errors.JaxRuntimeError as error:
                _log.exception("a step of %s has failed", self.step.model)
                fault = Fault(what=_line(error), cache_lost=True)
        return Done(step_id=self.step.id, tokens=tokens, at_s=time.monotonic(), fault=fault)


class DeviceExecutor:
    """Runs the steps of several models over one arena. See `executor.Executor`."""

    def __init__(self, programs: Mapping[str, Program], blocks_NE: jax.Array):
        self._programs = dict(programs)
        self._blocks_NE = blocks_NE
        self._queue: deque[_Flight] = deque()

    def launch(self, step: Step) -> None:
        before = self._blocks_NE
        try:
            shape, tokens_B = self._start(step)
        except Exception as error:  # of whatever kind: this is where one model's troubles are kept from the others
            _log.exception("a step of %s cannot be launched", step.model)
            whole = self._blocks_NE is before and not before.is_deleted()
            self._queue.append(_Flight(step, None, Fault(what=_line(error), cache_lost=not whole)))
        else:
            self._queue.append(_Flight(step, shape, tokens_B))

    def _start(self, step: Step) -> tuple[BatchShape, jax.Array]:
        program = self._programs[step.model]
        if len(step.delta.slots):
            entries = batch.delta_entries(len(step.delta.slots))
            program.update(batch.pack_delta(step.delta, entries))
        shape = program.buckets.shape(step, program.layout)
        tokens_B = self.run(step.model, batch.pack(step, shape), shape, random=bool((step.sampling["temperature"] > 0).any()))
        tokens_B.copy_to_host_async()
        return shape, tokens_B

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

    def run(self, model: str, packed: np.ndarray, shape: BatchShape, *, random: bool = False) -> jax.Array:
        """Launches a packed step of a compiled shape; the tokens [B] it will have sampled. random: see `Program.run`."""
        tokens_B, self._blocks_NE = self._programs[model].run(packed, shape, self._blocks_NE, random=random)
        return tokens_B

    def warm_up(self) -> None:
        """Runs every program of every model once, from this thread, with nothing to do: the device is ready to the last graph."""
        for name, program in self._programs.items():
            program.warm_up_tables()
            for shape in program.steps:
                self.run(name, batch.empty(shape), shape, random=True).block_until_ready()


def _needed_bytes(compiled: jax.stages.Compiled) -> int:
    """Of temporaries, and of results that do not take the place of what is given."""
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes if analysis else 0


def _line(error: Exception) -> str:
    """For a client: what kind of error it was. The log has the rest."""
    return f"a step of it ended in {type(error).__name__}"


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  (every array has it, the stub does not)
