"""Where the models of a unit are made: from a model's options to what the devices keep of it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.device.batch import Buckets
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape
from muxjax.engine.grammar import Grammars
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.models import weights
from muxjax.models.sharding import OWN, Devices
from muxjax.pallas.kernels import best
from muxjax.specs.config import read_spec
from muxjax.specs.tokens import tokenizer_text
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
    """What all models of a unit have in common."""

    options: UnitOptions
    devices: Devices
    kv_dtype: np.dtype

    @classmethod
    def of(cls, options: UnitOptions) -> "ModelLoader":
        """Raises ConfigError: there are fewer devices."""
        devices = Devices.first(options.tensor_parallel_size)
        return cls(options=options, devices=devices, kv_dtype=_kv_dtype(options, devices.each[0]))

    def plan(self, model: ModelOptions) -> ModelPlan:
        """Raises ConfigError: its configuration cannot be read, or not be served on these devices."""
        spec = read_spec(model.path, dtype=model.dtype, max_len=model.max_model_len)
        try:
            own = spec.share(self.devices.tp)
        except ConfigError as error:
            raise ConfigError(f"{model.name}: {error}", field=error.field) from error
        layout = CacheLayout.of(own, element_bytes=self.kv_dtype.itemsize, block_bytes=self.options.block_bytes)
        tables = model.max_num_seqs * (layout.columns(spec.max_len) * layout.column_blocks * 4 + spec.vocab * 2)
        weights_bytes = own.params * jnp.dtype(spec.dtype).itemsize
        return ModelPlan(options=model, spec=spec, layout=layout, resident_bytes=weights_bytes + tables)

    def load(self, plan: ModelPlan, *, progress: bool) -> DeviceModel:
        """Its weights and empty tables, on the devices; nothing is compiled yet.

        Raises:
          CheckpointError: the weights do not match.
        """
        model, spec = plan.options, plan.spec
        params = jax.block_until_ready(weights.load(model.path, spec, self.devices, load_format=model.load_format, progress=progress))
        kernels = best(device_kind=self.devices.each[0].device_kind, dtype=self.kv_dtype, head_dim=spec.head_dim)
        buckets = Buckets.of(
            plan.layout,
            slots=model.max_num_seqs,
            max_tokens=spec.max_len,
            token_budget=self.options.max_num_batched_tokens,
            prefill_rows=PREFILL_ROWS,
            ragged=kernels.ragged,
        )
        sizes = {"slots": model.max_num_seqs, "max_tokens": spec.max_len}
        return DeviceModel.of(spec, plan.layout, kernels, buckets, params, **sizes, devices=self.devices)

    def arena(self, total_blocks: int) -> jax.ShapeDtypeStruct:
        """Of so many head blocks a device."""
        return self.devices.joined(blocks_shape(total_blocks, self.options.block_bytes, self.kv_dtype, self.devices.each[0]), OWN)

    def config(self, plan: ModelPlan) -> ModelConfig:
        """What a unit must know of it."""
        model, spec = plan.options, plan.spec
        return ModelConfig(
            name=model.name,
            layout=plan.layout,
            slots=model.max_num_seqs,
            max_tokens=spec.max_len,
            vocab=spec.vocab,
            grammars=Grammars.of(tokenizer_text(model.path), where=model.path, vocab=spec.vocab, eos_ids=spec.eos_ids),
            rate=model.rate,
            weight=model.weight,
            token_cost=spec.params,
        )


def compiled_for(program: DeviceModel, arena: jax.ShapeDtypeStruct) -> DeviceModel:
    """The same model with steps for another arena, while the one given goes on serving with its own."""
    other = replace(program, steps={})
    for _ in other.compile(arena, greedy=True):  # what runs behind a step knows of no arena
        pass
    return other


def _kv_dtype(options: UnitOptions, device: jax.Device) -> np.dtype:
    if options.kv_dtype != "auto":
        return np.dtype(options.kv_dtype)
    return np.dtype(np.float32 if device.platform == "cpu" else jnp.bfloat16)
