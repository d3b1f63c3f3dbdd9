"""A model on the devices: weights, block tables, and the compiled programs that run its steps."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.batch import BatchShape
from muxjax.device.offload import OffloadedWeights, offload, onload
from muxjax.device.post_step import PackedControls, PostStep, StepResult, needed_bytes
from muxjax.device.step import lower_step, update_table
from muxjax.models.decoder import Params
from muxjax.models.sharding import SAME, Devices, device_bytes
from muxjax.pallas.kernels import Kernels
from muxjax.types import ModelSpec

COMPILERS = 8
"""Steps compiled at a time: XLA makes the kernels of one step on few threads."""


@dataclass(slots=True, kw_only=True)
class DeviceModel:
    """A model on the devices, which runs one step at a time.

    Args:
      layout: of the heads that one device holds.
      weights: on the devices, or offloaded to the host while the model sleeps.
      table_LSKC: block tables; last_S: the token sampled last in each slot. Both are replaced by the steps.
      post_step: the programs that may follow a step.
      steps: the compiled step of each shape; none before `compile`.
    """

    spec: ModelSpec
    layout: CacheLayout
    kernels: Kernels
    buckets: batch.Buckets
    devices: Devices
    weights: Params | OffloadedWeights
    table_LSKC: jax.Array
    last_S: jax.Array
    post_step: PostStep
    steps: dict[BatchShape, jax.stages.Compiled] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        spec: ModelSpec,
        params: Params,
        *,
        layout: CacheLayout,
        kernels: Kernels,
        buckets: batch.Buckets,
        slots: int,
        max_tokens: int,
        devices: Devices,
    ) -> "DeviceModel":
        """A model with empty tables of so many slots. They are bound to the devices, as outputs that replace them: jit looks at that."""
        sharding = devices.sharding(SAME)
        table_shape = (layout.layers, slots, layout.kv_heads, layout.columns(max_tokens))
        return cls(
            spec=spec,
            layout=layout,
            kernels=kernels,
            buckets=buckets,
            devices=devices,
            weights=params,
            table_LSKC=jnp.zeros(table_shape, jnp.int32, device=sharding),
            last_S=jnp.zeros(slots, jnp.int32, device=sharding),
            post_step=PostStep(spec, slots, devices),
        )

    def run(self, packed: np.ndarray, shape: BatchShape, blocks_NE: jax.Array, controls: PackedControls) -> tuple[StepResult, jax.Array]:
        """Launches a step and the programs that its rows ask behind it: its result, and the arena in place of blocks_NE."""
        outputs = self.steps[shape](self.params, blocks_NE, self.last_S, self.table_LSKC, packed)
        self.last_S = outputs.last_S
        result, self.last_S = self.post_step.run(self.params, outputs, packed[shape.tokens :], controls)
        return result, outputs.blocks_NE

    def update_tables(self, packed_U: np.ndarray) -> None:
        """Takes columns over into the tables."""
        self.table_LSKC = update_table(self.table_LSKC, packed_U)

    def compile(self, blocks_NE: jax.Array | jax.ShapeDtypeStruct, *, greedy: bool = False) -> Iterator[None]:
        """Compiles all programs for such an arena, several at a time; yields as each is there.

        Args:
          greedy: nobody will ask for more than the likeliest tokens.
        """
        # Shapes in place of arrays, which a running step may take.
        params, blocks_NE, last_S, table_LSKC = jax.tree.map(_shape_of, (self.params, blocks_NE, self.last_S, self.table_LSKC))
        shapes = self.buckets.shapes()
        with ThreadPoolExecutor(COMPILERS) as pool:
            steps = {}
            for shape in shapes:
                compiling = lower_step(
                    params,
                    blocks_NE,
                    last_S,
                    table_LSKC,
                    spec=self.spec,
                    layout=self.layout,
                    shape=shape,
                    kernels=self.kernels,
                    mesh=self.devices.mesh,
                )
                steps[pool.submit(compiling)] = shape
            lowered = () if greedy else self.post_step.lower(self.params, self.last_S, shapes)
            post_step = {pool.submit(compiling): key for key, compiling in lowered}
            for done in as_completed([*steps, *post_step]):
                if done in steps:
                    self.steps[steps[done]] = done.result()
                else:
                    self.post_step.keep(post_step[done], done.result())
                yield

    def compiled_for(self, blocks_NE: jax.ShapeDtypeStruct) -> dict[BatchShape, jax.stages.Compiled]:
        """Steps for another arena, while the model goes on serving with its own; what runs behind a step knows of no arena."""
        other = replace(self, steps={})
        for _ in other.compile(blocks_NE, greedy=True):
            pass
        return other.steps

    @property
    def program_count(self) -> int:
        """Programs that `compile` compiles."""
        shapes = self.buckets.shapes()
        return len(shapes) + self.post_step.program_count(shapes)

    @property
    def params(self) -> Params:
        """The weights, which are on the devices."""
        assert not isinstance(self.weights, OffloadedWeights), "a model whose weights are offloaded runs no step"
        return self.weights

    @property
    def is_offloaded(self) -> bool:
        return isinstance(self.weights, OffloadedWeights)

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of weights that `onload` will bring back to each device; 0 if they are there."""
        return self.weights.device_bytes if isinstance(self.weights, OffloadedWeights) else 0

    def offload(self) -> None:
        """Moves the weights to the host; no step may be in flight. Without effect if they are there."""
        if not isinstance(self.weights, OffloadedWeights):
            self.weights = offload(self.weights)

    def onload(self) -> None:
        """Moves the weights back to the devices. Without effect if they are there."""
        if isinstance(self.weights, OffloadedWeights):
            self.weights = onload(self.weights)

    @property
    def resident_bytes(self) -> int:
        """Weights, block tables and counts on one device."""
        return sum(map(device_bytes, self._arrays())) + self.post_step.resident_bytes

    @property
    def temporary_bytes(self) -> int:
        """Most that a step needs while it runs, its logits among it, and what follows it."""
        return max(map(needed_bytes, self.steps.values()), default=0) + self.post_step.temporary_bytes

    def reset(self) -> None:
        """Empties what steps in flight may have left undone."""
        last_S = self.last_S
        self.last_S = jnp.zeros(last_S.shape, last_S.dtype, device=last_S.sharding)
        self.post_step.reset()

    def delete(self) -> None:
        """Frees the devices' memory of weights and tables; the model can run no more."""
        for array in self._arrays():
            array.delete()

    def warm_up_tables(self) -> None:
        """Compiles and runs every size of update."""
        _, slots, _, columns = self.table_LSKC.shape
        most = batch.delta_entries(max(slots, self.buckets.prefill_rows * columns))
        entries = 1
        while entries <= most:
            self.update_tables(batch.empty_delta(self.layout, entries))
            entries *= 4

    def _arrays(self) -> list[jax.Array]:
        params = () if isinstance(self.weights, OffloadedWeights) else self.weights
        return jax.tree.leaves((params, self.table_LSKC, self.last_S))


def _shape_of(array: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
