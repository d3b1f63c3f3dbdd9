"""What the devices keep of one model: weights, block tables, and its compiled programs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.batch import BatchShape
from muxjax.device.post_step import Packed, PostStep, StepResult, needed_bytes
from muxjax.device.step import lower_step, update_table
from muxjax.models.decoder import Params
from muxjax.models.sharding import SAME, Devices, device_bytes
from muxjax.pallas.kernels import Kernels
from muxjax.types import ModelSpec

COMPILERS = 8
"""Steps compiled at a time: XLA makes the kernels of one step on few threads."""


@dataclass(slots=True, kw_only=True)
class DeviceModel:
    """What the devices keep of one model.

    Args:
      layout: of the heads that one device holds.
      table_LSKC: block tables; last_S: the token sampled last in each slot. Both are replaced by the steps.
      steps: the compiled step of each shape; none before `compile`.
      behind: what may follow a step.
    """

    spec: ModelSpec
    layout: CacheLayout
    kernels: Kernels
    buckets: batch.Buckets
    params: Params
    table_LSKC: jax.Array
    last_S: jax.Array
    devices: Devices
    post_step: PostStep
    steps: dict[BatchShape, jax.stages.Compiled] = field(default_factory=dict)

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
    ) -> "DeviceModel":
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
            post_step=PostStep(spec, slots, devices),
        )

    @property
    def program_count(self) -> int:
        """That `compile` compiles."""
        shapes = self.buckets.shapes()
        return len(shapes) + self.post_step.program_count(shapes)

    def compile(self, blocks_NE: jax.Array | jax.ShapeDtypeStruct, *, greedy: bool = False) -> Iterator[None]:
        """Compiles everything for such an arena, several programs at a time; yields as each is there.

        Args:
          greedy: nobody will ask for more than the likeliest tokens.
        """
        given = jax.tree.map(_shape_of, (self.params, blocks_NE, self.last_S, self.table_LSKC))  # a running step may take the arrays
        kept = {"spec": self.spec, "layout": self.layout, "kernels": self.kernels, "mesh": self.devices.mesh}
        shapes = self.buckets.shapes()
        with ThreadPoolExecutor(COMPILERS) as pool:
            steps = {pool.submit(lower_step(*given, shape=shape, **kept)): shape for shape in shapes}
            lowered = () if greedy else self.post_step.lower(self.params, self.last_S, shapes)
            post_step = {pool.submit(compiling): key for key, compiling in lowered}
            for done in as_completed([*steps, *post_step]):
                if done in steps:
                    self.steps[steps[done]] = done.result()
                else:
                    self.post_step.keep(post_step[done], done.result())
                yield

    @property
    def resident_bytes(self) -> int:
        """Weights, block tables and counts on one device."""
        own = sum(device_bytes(leaf) for leaf in jax.tree.leaves((self.params, self.table_LSKC, self.last_S)))
        return own + self.post_step.resident_bytes

    @property
    def temporary_bytes(self) -> int:
        """Most that a step needs while it runs, its logits among it, and what follows it."""
        return max(map(needed_bytes, self.steps.values()), default=0) + self.post_step.temporary_bytes

    def run(self, packed: np.ndarray, shape: BatchShape, blocks_NE: jax.Array, asked: Packed) -> tuple[StepResult, jax.Array]:
        """Launches a step and what is asked behind it: what comes of it, and the arena that replaces the one given."""
        given = self.params, blocks_NE, self.last_S, self.table_LSKC, packed
        tokens_B, logits_BV, hidden_TM, blocks_NE, self.last_S = self.steps[shape](*given)
        made = tokens_B, logits_BV, hidden_TM
        result, self.last_S = self.post_step.run(self.params, made, self.last_S, packed[shape.tokens :], asked)
        return result, blocks_NE

    def update(self, packed_U: np.ndarray) -> None:
        """Takes columns over into the tables."""
        self.table_LSKC = update_table(self.table_LSKC, packed_U)

    def forget(self) -> None:
        """What steps in flight may have left undone is empty again."""
        old = self.last_S
        self.last_S = jnp.zeros(old.shape, old.dtype, device=old.sharding)
        self.post_step.forget()

    def warm_up_tables(self) -> None:
        """Compiles and runs every size of update."""
        _, slots, _, columns = self.table_LSKC.shape
        most = batch.delta_entries(max(slots, self.buckets.prefill_rows * columns))
        entries = 1
        while entries <= most:
            self.update(batch.empty_delta(self.layout, entries))
            entries *= 4


def _shape_of(array: jax.Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
