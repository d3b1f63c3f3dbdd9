"""The loader of a unit's models: from a model's options to its plan, and to its weights on the devices."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.buckets import Buckets
from muxjax.device.lanes.arena import ArenaMemory, OwnArenas, SharedArena
from muxjax.device.lanes.clients import open_lanes
from muxjax.device.lora.places import AdapterPlaces
from muxjax.device.lora.store import AdapterStore
from muxjax.device.model import DeviceModel, sm_shares
from muxjax.device.paged_memory import blocks_shape, kernels_of
from muxjax.device.programs.needs import ProgramNeeds
from muxjax.engine.model.plan import ModelPlan
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.models import weights
from muxjax.models.sharding import OWN, Devices
from muxjax.specs.pooling import read_pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoader:
    """Devices, and what all models of a unit have in common on them.

    Args:
      lanes: the devices, as each lane sees them.
    """

    options: UnitOptions
    lanes: tuple[Devices, ...]
    kv_dtype: np.dtype

    @classmethod
    def of(cls, options: UnitOptions) -> "ModelLoader":
        """The loader for the first devices that JAX sees, in as many lanes as the options say, if they can be had.

        Raises:
          ConfigError: there are fewer devices.
        """
        lanes = open_lanes(options)
        return cls(options=options, lanes=lanes, kv_dtype=_kv_dtype(options, lanes[0].each[0]))

    @classmethod
    def on(cls, devices: Devices, options: UnitOptions) -> "ModelLoader":
        """The loader for those devices, which may be of a topology as long as nothing is loaded."""
        return cls(options=options, lanes=(devices,), kv_dtype=_kv_dtype(options, devices.each[0]))

    @property
    def devices(self) -> Devices:
        """Those of the first lane, which are JAX's own."""
        return self.lanes[0]

    def plan(self, model: ModelOptions) -> ModelPlan:
        """Reads a model's configuration.

        Raises:
          ConfigError: it cannot be read, or not be served on these devices.
          CheckpointError: its weights cannot be read where the configuration leaves a choice to them.
        """
        plan = ModelPlan.read(self.options, model, self.kv_dtype.name)
        self._require_shares(model.name, plan.spec)
        return plan

    def load(self, plan: ModelPlan, *, lane: int = 0, progress: bool) -> DeviceModel:
        """A model's weights and empty tables on the devices of a lane; nothing is compiled yet.

        Raises:
          CheckpointError: the weights do not match.
        """
        model, spec, devices = plan.options, plan.spec, self.lanes[lane].at(self.options.devices_of(plan.options))
        params = jax.block_until_ready(weights.load(model.path, spec, devices, load_format=model.load_format, progress=progress))
        return DeviceModel.empty(
            spec,
            params,
            layout=plan.layout,
            buckets=self._buckets(plan),
            slots=model.max_num_seqs,
            max_tokens=spec.max_len,
            devices=devices,
            lane=lane,
            pools=read_pooling(model.path, model.pooling) is not None,
            adapters=_places(model, spec, devices) if model.lora_places else None,
        )

    def needs(self, plan: ModelPlan) -> ProgramNeeds:
        """What a model's programs will be made of."""
        return ProgramNeeds(
            spec=plan.spec,
            layout=plan.layout,
            buckets=self._buckets(plan),
            slots=plan.options.max_num_seqs,
            columns=plan.layout.columns(plan.spec.max_len),
            tp=self.devices_of(plan).tp,
            pools=read_pooling(plan.options.path, plan.options.pooling) is not None,
            max_loras=plan.options.lora_places,
            max_lora_rank=plan.options.max_lora_rank if plan.options.lora_places else 0,
        )

    def devices_of(self, plan: ModelPlan) -> Devices:
        """Those that hold a model, as the first lane sees them."""
        return self.devices.at(self.options.devices_of(plan.options))

    def _require_shares(self, model: str, spec: ModelSpec) -> None:
        *there, _ = sm_shares(spec, self.devices) or [0]
        missing = set(self.options.sm_shares).difference(there)
        if missing:
            has = f"may be some of {', '.join(map(str, there))}" if there else "must be none: no kernel keeps to a share"
            raise ConfigError(f"sm_shares {has} for {model} in {spec.dtype} on {self.devices.kind}, got {min(missing)}", field="sm_shares")

    def _sm_shares(self, plan: ModelPlan) -> tuple[int, ...]:
        """Multiprocessors that a model's long prefills may keep to, beside all of them. A wish for a share comes to nothing where no kernel
        keeps to one, or no lane runs beside the model's."""
        wish = plan.options.prefill_share
        if wish is None:
            return self.options.sm_shares
        there = sm_shares(plan.spec, self.devices) if self.options.most_lanes > 1 else ()
        return next_less(there, wish)

    def _buckets(self, plan: ModelPlan) -> Buckets:
        kernels = kernels_of(plan.spec, device_kind=self.devices.kind, dtype=self.kv_dtype)
        return Buckets.of(
            plan.layout,
            slots=plan.options.most_decode_rows,
            max_tokens=plan.spec.max_len,
            token_budget=self.options.max_num_batched_tokens,
            prefill_rows=self.options.max_num_prefill_seqs,
            ragged=kernels.ragged,
            sm_shares=self._sm_shares(plan),
        )

    def arena(self, total_blocks: int) -> jax.ShapeDtypeStruct:
        """The arena of so many head blocks a device, without its memory."""
        return self.devices.joined(self.pool(total_blocks), OWN)

    def pool(self, total_blocks: int) -> jax.ShapeDtypeStruct:
        """What one device has of it."""
        return blocks_shape(total_blocks, self.options.block_bytes, self.kv_dtype, self.devices.each[0])

    def make_arena(self, total_blocks: int) -> ArenaMemory:
        """The arena's memory.

        Raises:
          MemoryError: there is not so much in one piece.
        """
        whole, firsts = self.arena(total_blocks), [lane.each[0] for lane in self.lanes]
        if len(firsts) > 1 and firsts[0].platform == "gpu":
            return SharedArena(whole, firsts)
        return OwnArenas(*(jax.ShapeDtypeStruct(whole.shape, whole.dtype, sharding=lane.sharding(OWN)) for lane in self.lanes))


def next_less(there: Sequence[int], wish: float) -> tuple[int, ...]:
    """The one of the shares that there are that comes nearest to a wish from below, or the least; none for a wish for all.

    Args:
      there: multiprocessors, ascending, all of them last.
      wish: a part of them.
    """
    fewer = there[:-1]
    if wish >= 1 or not fewer:
        return ()
    return (max((share for share in fewer if share <= wish * there[-1]), default=fewer[0]),)


def _places(model: ModelOptions, spec: ModelSpec, devices: Devices) -> AdapterPlaces:
    store = AdapterStore(spec, most_rank=model.max_lora_rank, idle=model.max_cpu_loras)
    return AdapterPlaces(spec, devices, store, count=model.lora_places, rank=model.max_lora_rank, slots=model.max_num_seqs)


def _kv_dtype(options: UnitOptions, device: jax.Device) -> np.dtype:
    return jnp.dtype(options.kv_dtype_on(cpu=device.platform == "cpu"))
