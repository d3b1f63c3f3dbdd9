"""A model on the devices: weights, block tables, and the compiled programs that run its steps."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from muxjax.buckets import BatchShape, Buckets, ShapeChoice
from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.lora.places import AdapterPlaces
from muxjax.device.offload import OffloadedWeights, offload, onload
from muxjax.device.post_step import PackedControls, PostStep, StepResult, needed_bytes
from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.needs import ProgramNeeds
from muxjax.device.programs.sources import PutAdapterSource, Source, StepSource, TableSource
from muxjax.device.step import StepArrays
from muxjax.engine.device_control import Loaded
from muxjax.engine.executor import Step
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import Params
from muxjax.models.sharding import Devices, device_bytes
from muxjax.pallas.kernels import shares

Programs = Mapping[Source, jax.stages.Compiled]


@dataclass(slots=True, kw_only=True)
class DeviceModel:
    """A model on the devices, which runs one step at a time.

    Args:
      layout: of the heads that one device holds.
      weights: on the devices, or offloaded to the host while the model sleeps.
      table_LSKC: block tables; last_S: the token sampled last in each slot. Both are replaced by the steps.
      post_step: the programs that may follow a step.
      lane: that its steps run on.
      pools: its hidden states may be asked for.
      adapters: places for LoRA adapters; None where there are none.
      steps: the compiled steps, by the shapes that are ready; tables: those that update the tables, by their entries.
      shapes: all that its steps are to have, in the order of their use.
    """

    spec: ModelSpec
    layout: CacheLayout
    buckets: Buckets
    devices: Devices
    weights: Params | OffloadedWeights
    table_LSKC: jax.Array
    last_S: jax.Array
    post_step: PostStep
    lane: int = 0
    pools: bool = False
    adapters: AdapterPlaces | None = None
    steps: dict[BatchShape, jax.stages.Compiled] = field(default_factory=dict)
    tables: dict[int, jax.stages.Compiled] = field(default_factory=dict)
    shapes: tuple[BatchShape, ...] = field(init=False)
    _choice: ShapeChoice = field(init=False)

    def __post_init__(self):
        self.shapes = tuple(self.needs.shapes)
        self._choose_anew()

    @classmethod
    def empty(
        cls,
        spec: ModelSpec,
        params: Params,
        *,
        layout: CacheLayout,
        buckets: Buckets,
        slots: int,
        max_tokens: int,
        devices: Devices,
        lane: int = 0,
        pools: bool = False,
        adapters: AdapterPlaces | None = None,
    ) -> "DeviceModel":
        """A model with empty tables of so many slots. They are bound to the devices, as outputs that replace them: jit looks at that."""
        table_shape = (layout.layers, slots, layout.kv_heads, layout.columns(max_tokens))
        return cls(
            spec=spec,
            layout=layout,
            buckets=buckets,
            devices=devices,
            weights=params,
            table_LSKC=devices.zeros(table_shape, np.int32),
            last_S=devices.zeros((slots,), np.int32),
            post_step=PostStep(spec, slots, devices, pools=pools),
            lane=lane,
            pools=pools,
            adapters=adapters,
        )

    def run(self, packed: np.ndarray, shape: BatchShape, blocks_NE: jax.Array) -> StepArrays:
        """Launches a step; the arena among its arrays is in place of blocks_NE."""
        loras = (self.adapters.loras,) if self.adapters else ()
        arrays = self.steps[shape](self.params, blocks_NE, self.last_S, self.table_LSKC, packed, *loras)
        self.last_S = arrays.last_S
        return arrays

    def follow(self, arrays: StepArrays, packed: np.ndarray, shape: BatchShape, controls: PackedControls) -> StepResult:
        """Launches the programs that a step's rows ask behind it."""
        result, self.last_S = self.post_step.run(self.params, arrays, packed[shape.tokens :], controls)
        return result

    def update_tables(self, packed_U: np.ndarray) -> None:
        """Takes columns over into the tables."""
        self.table_LSKC = self.tables[len(packed_U)](self.table_LSKC, packed_U)

    def place_adapters(self, step: Step) -> None:
        """Brings in what adapters the rows of a step have that is launched next."""
        if self.adapters:
            self.adapters.place(step.slots, step.adapters)

    @property
    def has_tables(self) -> bool:
        """No update has taken the tables, or the places of adapters, and failed."""
        return not any(array.is_deleted() for array in (self.table_LSKC, *(self.adapters.arrays if self.adapters else ())))

    def shape(self, step: Step) -> BatchShape:
        """The smallest shape that is ready and holds a step."""
        return self._choice.shape(step.starts, step.counts, step.decodes, step.sm_share, drafts=step.one_token_rows - step.decodes)

    @property
    def needs(self) -> ProgramNeeds:
        """What its programs are made of."""
        _, slots, _, columns = self.table_LSKC.shape
        return ProgramNeeds(
            spec=self.spec,
            layout=self.layout,
            buckets=self.buckets,
            slots=slots,
            columns=columns,
            tp=self.devices.tp,
            pools=self.pools,
            max_loras=self.adapters.count if self.adapters else 0,
            max_lora_rank=self.adapters.rank if self.adapters else 0,
        )

    def add(self, programs: Programs) -> None:
        """Makes programs ready, those that it needs; a step's come with all that may follow it."""
        for source, program in programs.items():
            if isinstance(source, StepSource):
                self.steps[source.shape] = program
            elif isinstance(source, TableSource):
                self.tables[source.entries] = program
            elif isinstance(source, PutAdapterSource):
                assert self.adapters is not None
                self.adapters.add(program)
            else:
                self.post_step.add(source, program)
        self._choose_anew()

    def forget_steps(self) -> None:
        """The arena has another size, or will have: what runs behind a step knows of no arena, and stays."""
        self.steps = {}
        self._choose_anew()

    @property
    def loaded(self) -> Loaded:
        """What an engine has to know of it."""
        return Loaded(self.spec, self.lane, self.buckets.tokens, self._sm_shares)

    @property
    def _sm_shares(self) -> tuple[int, ...]:
        """Shares that it has programs for, and all multiprocessors; none without programs."""
        there, chosen = sm_shares(self.spec, self.devices), self.buckets.sm_shares
        return tuple(share for share in there if share in (*chosen, there[-1])) if chosen else ()

    def compile(self, library: ProgramLibrary, sources: Iterable[Source]) -> Iterator[None]:
        """Makes programs ready; yields as each is there."""
        for source, program in library.find(sources, self.devices):
            self.add({source: program})
            yield

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
        """Bytes that `onload` will bring back to each device, of weights and places for adapters; 0 if they are there."""
        if not isinstance(self.weights, OffloadedWeights):
            return 0
        return self.weights.device_bytes + (self.adapters.device_bytes if self.adapters else 0)

    def offload(self) -> None:
        """Moves the weights to the host; no step may be in flight. Without effect if they are there."""
        if not isinstance(self.weights, OffloadedWeights):
            self.weights = offload(self.weights)
            if self.adapters:
                self.adapters.delete()

    def onload(self) -> None:
        """Moves the weights back to the devices. Without effect if they are there."""
        if isinstance(self.weights, OffloadedWeights):
            self.weights = onload(self.weights)
            if self.adapters:
                self.adapters.clear()

    @property
    def resident_bytes(self) -> int:
        """Weights, adapters, block tables and counts on one device."""
        return sum(map(device_bytes, self._arrays())) + self.post_step.resident_bytes

    @property
    def temporary_bytes(self) -> int:
        """Most that a step needs while it runs, its logits among it, and what follows it."""
        return max(map(needed_bytes, self.steps.values()), default=0) + self.post_step.temporary_bytes

    def reset(self) -> None:
        """Empties what steps in flight may have left undone."""
        self.last_S = self.devices.zeros(self.last_S.shape, np.int32)
        self.post_step.reset()

    def delete(self) -> None:
        """Frees the devices' memory of weights and tables; the model can run no more."""
        for array in self._arrays():
            array.delete()

    def warm_up_updates(self) -> None:
        """Runs every size of update of the tables once, and of the adapters, of which none is there yet."""
        for entries in sorted(self.tables):
            self.update_tables(batch.empty_delta(self.layout, entries))
        if self.adapters:
            self.adapters.warm_up()

    def _choose_anew(self) -> None:
        """Other shapes are ready."""
        self._choice = ShapeChoice(self.buckets, self.layout, self.steps)

    def _arrays(self) -> list[jax.Array]:
        params = () if isinstance(self.weights, OffloadedWeights) else self.weights
        return [*jax.tree.leaves((params, self.table_LSKC, self.last_S)), *(self.adapters.arrays if self.adapters else ())]


def sm_shares(spec: ModelSpec, devices: Devices) -> tuple[int, ...]:
    """Multiprocessors that a kernel's products with a model's weights can keep to, as of `kernels.shares`."""
    return shares(device_kind=devices.kind, dtype=np.dtype(spec.dtype), multiprocessors=devices.multiprocessors)
