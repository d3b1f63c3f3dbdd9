"""The loader of a unit's models: from a model's options to its plan, and to its weights on the devices."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.device.batch import Buckets
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape, make_blocks
from muxjax.device.programs.needs import ProgramNeeds
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.models import weights
from muxjax.models.sharding import OWN, Devices
from muxjax.pallas.kernels import best
from muxjax.specs.config import read_spec
from muxjax.types import ModelSpec

PREFILL_ROWS = 8
"""Most sequences of one prefill step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """A model before its weights are read.

    Args:
      layout: of one device's share of the heads.
      resident_bytes: of its weights and tables on one device, nearly.
    """

    options: ModelOptions
    spec: ModelSpec
    layout: CacheLayout
    resident_bytes: int

    @property
    def name(self) -> str:
        return self.options.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoader:
    """Devices, and what all models of a unit have in common on them."""

    options: UnitOptions
    devices: Devices
    kv_dtype: np.dtype

    @classmethod
    def of(cls, options: UnitOptions) -> "ModelLoader":
        """The loader for the first devices that JAX sees.

        Raises:
          ConfigError: there are fewer than the options say.
        """
        return cls.on(Devices.first(options.tensor_parallel_size), options)

    @classmethod
    def on(cls, devices: Devices, options: UnitOptions) -> "ModelLoader":
        """The loader for those devices, which may be of a topology as long as nothing is loaded."""
        return cls(options=options, devices=devices, kv_dtype=_kv_dtype(options, devices.each[0]))

    def plan(self, model: ModelOptions) -> ModelPlan:
        """Reads a model's configuration.

        Raises:
          ConfigError: it cannot be read, or not be served on these devices.
          CheckpointError: its weights cannot be read where the configuration leaves a choice to them.
        """
        spec = read_spec(
            model.path,
            dtype=model.dtype,
            max_len=model.max_model_len,
            allow_unknown=model.allow_unknown_config,
            weights=model.load_format != "dummy",
        )
        try:
            own = spec.share(self.devices.tp)
        except ConfigError as error:
            raise ConfigError(f"{model.name}: {error}", field=error.field) from error
        layout = layout_of(self.options, spec, self.kv_dtype)
        table_bytes = model.max_num_seqs * (layout.columns(spec.max_len) * layout.column_blocks * 4 + spec.vocab * 2)
        weights_bytes = own.params * jnp.dtype(spec.dtype).itemsize
        return ModelPlan(options=model, spec=spec, layout=layout, resident_bytes=weights_bytes + table_bytes)

    def load(self, plan: ModelPlan, *, progress: bool) -> DeviceModel:
        """A model's weights and empty tables on the devices; nothing is compiled yet.

        Raises:
          CheckpointError: the weights do not match.
        """
        model, spec = plan.options, plan.spec
        params = jax.block_until_ready(weights.load(model.path, spec, self.devices, load_format=model.load_format, progress=progress))
        return DeviceModel.empty(
            spec,
            params,
            layout=plan.layout,
            buckets=self._buckets(plan),
            slots=model.max_num_seqs,
            max_tokens=spec.max_len,
            devices=self.devices,
        )

    def needs(self, plan: ModelPlan) -> ProgramNeeds:
        """What a model's programs will be made of."""
        return ProgramNeeds(
            spec=plan.spec,
            layout=plan.layout,
            buckets=self._buckets(plan),
            slots=plan.options.max_num_seqs,
            columns=plan.layout.columns(plan.spec.max_len),
            tp=self.devices.tp,
        )

    def _buckets(self, plan: ModelPlan) -> Buckets:
        kernels = best(device_kind=self.devices.each[0].device_kind, dtype=self.kv_dtype, head_dim=plan.spec.head_dim)
        return Buckets.of(
            plan.layout,
            slots=plan.options.max_num_seqs,
            max_tokens=plan.spec.max_len,
            token_budget=self.options.max_num_batched_tokens,
            prefill_rows=PREFILL_ROWS,
            ragged=kernels.ragged,
        )

    def arena(self, total_blocks: int) -> jax.ShapeDtypeStruct:
        """The arena of so many head blocks a device, without its memory."""
        part = blocks_shape(total_blocks, self.options.block_bytes, self.kv_dtype, self.devices.each[0])
        return self.devices.joined(part, OWN)

    def make_arena(self, total_blocks: int) -> jax.Array:
        """The arena of so many head blocks a device, zeroed."""
        parts = (
            make_blocks(total_blocks, block_bytes=self.options.block_bytes, dtype=self.kv_dtype, device=device)
            for device in self.devices.each
        )
        return self.devices.join(parts, OWN)


def layout_of(options: UnitOptions, spec: ModelSpec, kv_dtype: np.dtype) -> CacheLayout:
    """Head blocks of one device's share of a model's heads."""
    own = spec.share(options.tensor_parallel_size)
    return CacheLayout.of(own, element_bytes=kv_dtype.itemsize, block_bytes=options.block_bytes)


def _kv_dtype(options: UnitOptions, device: jax.Device) -> np.dtype:
    if options.kv_dtype != "auto":
        return np.dtype(options.kv_dtype)
    return np.dtype(np.float32 if device.platform == "cpu" else jnp.bfloat16)
