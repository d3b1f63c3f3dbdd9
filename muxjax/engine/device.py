"""The executor that runs steps on the devices of a unit, in the order they are launched."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.engine import batch
from muxjax.engine.batch import BatchShape
from muxjax.engine.executor import Done, Step
from muxjax.engine.step import lower_draw, lower_step, update_table
from muxjax.models.decoder import Params
from muxjax.models.sharding import SAME, Devices, device_bytes
from muxjax.pallas.kernels import Kernels
from muxjax.types import ModelSpec

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

    def warm_up_tables(self) -> None:
        """Compiles and runs every size of update."""
        _, slots, _, columns = self.table_LSKC.shape
        most = batch.delta_entries(max(slots, self.buckets.prefill_rows * columns))
        entries = 1
        while entries <= most:
            self.update(batch.empty_delta(self.layout, entries))
            entries *= 4


class DeviceExecutor:
    """Runs the steps of several models over one arena. See `executor.Executor`."""

    def __init__(self, programs: Mapping[str, Program], blocks_NE: jax.Array):
        self._programs = dict(programs)
        self._blocks_NE = blocks_NE
        self._queue: deque[tuple[Step, BatchShape, jax.Array]] = deque()

    def launch(self, step: Step) -> None:
        program = self._programs[step.model]
        if len(step.delta.slots):
            entries = batch.delta_entries(len(step.delta.slots))
            program.update(batch.pack_delta(step.delta, entries))
        shape = program.buckets.shape(step, program.layout)
        tokens_B = self.run(step.model, batch.pack(step, shape), shape, random=bool((step.sampling["temperature"] > 0).any()))
        tokens_B.copy_to_host_async()
        self._queue.append((step, shape, tokens_B))

    def collect(self, *, wait: bool) -> list[Done]:
        done = []
        while self._queue and ((wait and not done) or _is_ready(self._queue[0][2])):
            step, shape, tokens_B = self._queue.popleft()
            tokens = batch.unpack(np.asarray(tokens_B), step, shape)
            done.append(Done(step_id=step.id, tokens=tokens, at_s=time.monotonic()))
        return done

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


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  (every array has it, the stub does not)
