"""The executor that runs steps on one JAX device, in the order they are launched."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.engine import batch
from muxjax.engine.executor import Done, Step
from muxjax.engine.step import step as run_step
from muxjax.engine.step import update_table
from muxjax.models.decoder import Params
from muxjax.types import ModelSpec


@dataclass(slots=True, kw_only=True)
class Program:
    """What the device keeps of one model.

    Args:
      table_LSKC: block tables; last_S: the token sampled last in each slot. Both are replaced by the steps.
    """

    spec: ModelSpec
    layout: CacheLayout
    buckets: batch.Buckets
    params: Params
    table_LSKC: jax.Array
    last_S: jax.Array

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        layout: CacheLayout,
        buckets: batch.Buckets,
        params: Params,
        *,
        slots: int,
        max_tokens: int,
        device: jax.Device,
    ) -> "Program":
        """Empty tables of so many slots. They are bound to the device, as the outputs that replace them are: jit looks at that."""
        shape = (layout.layers, slots, layout.kv_heads, layout.columns(max_tokens))
        return cls(
            spec=spec,
            layout=layout,
            buckets=buckets,
            params=params,
            table_LSKC=jnp.zeros(shape, jnp.int32, device=device),
            last_S=jnp.zeros(slots, jnp.int32, device=device),
        )

    @property
    def warm_ups(self) -> int:
        """Programs to compile."""
        return len(self.buckets.shapes()) + len(self._delta_sizes())

    def _delta_sizes(self) -> list[int]:
        _, slots, _, columns = self.table_LSKC.shape
        most = batch.delta_entries(max(slots, self.buckets.prefill_rows * columns))
        return [entries for entries in (4**power for power in range(16)) if entries <= most]

    def update(self, packed_U: np.ndarray) -> None:
        """Takes columns over into the tables."""
        self.table_LSKC = update_table(self.table_LSKC, packed_U)

    def warm_up_tables(self) -> Iterator[None]:
        """Compiles every size of update."""
        for entries in self._delta_sizes():
            self.update(batch.empty_delta(self.layout, entries))
            yield


class DeviceExecutor:
    """Runs the steps of several models over one arena. See `executor.Executor`."""

    def __init__(self, programs: Mapping[str, Program], blocks_NE: jax.Array):
        self._programs = dict(programs)
        self._blocks_NE = blocks_NE
        self._queue: deque[tuple[Step, jax.Array]] = deque()

    def launch(self, step: Step) -> None:
        program = self._programs[step.model]
        if len(step.delta.slots):
            entries = batch.delta_entries(len(step.delta.slots))
            program.update(batch.pack_delta(step.delta, entries))
        shape = program.buckets.shape(step, program.layout)
        tokens_B = self._run(program, batch.pack(step, shape), shape)
        tokens_B.copy_to_host_async()
        self._queue.append((step, tokens_B))

    def collect(self, *, wait: bool) -> list[Done]:
        done = []
        while self._queue and ((wait and not done) or _is_ready(self._queue[0][1])):
            step, tokens_B = self._queue.popleft()
            tokens = np.asarray(tokens_B)[: len(step.slots)]
            done.append(Done(step_id=step.id, tokens=tokens, at_s=time.monotonic()))
        return done

    def warm_up(self) -> Iterator[str]:
        """Compiles and runs every shape of every model once, from this thread; yields a model's name after each."""
        for name, program in self._programs.items():
            for _ in program.warm_up_tables():
                yield name
            for shape in program.buckets.shapes():
                self._run(program, batch.empty(shape), shape).block_until_ready()
                yield name

    def _run(self, program: Program, packed: np.ndarray, shape: batch.BatchShape) -> jax.Array:
        tokens_B, self._blocks_NE, program.last_S = run_step(
            program.params,
            self._blocks_NE,
            program.last_S,
            program.table_LSKC,
            packed,
            spec=program.spec,
            layout=program.layout,
            shape=shape,
        )
        return tokens_B


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  (every array has it, the stub does not)
