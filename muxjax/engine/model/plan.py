"""The plan of a model: what it takes of a device, told from its shape alone, before its weights are read or where no device is."""

from dataclasses import dataclass

from muxjax.cache.layout import CacheLayout
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.model_spec import ModelSpec
from muxjax.quantization import FP8, INT4
from muxjax.specs.adapter import adapter_params
from muxjax.specs.config import read_spec
from muxjax.units import show_count

ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_SHOWN = {FP8: "FP8", INT4: "int4"}
CPU_CACHE_BYTES = 2**30
"""Of the arena of a CPU, unless it is told otherwise."""
_TEMPORARIES_FRAC = 0.05
"""Share of a device's memory that is kept for what steps need while they run; `device.memory.MemoryPlan` checks what they do need."""
_GRAIN_BYTES = 2**30
"""Grain of the arena's size, which is part of every program: one compiled before should fit again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """A model before its weights are read.

    Args:
      layout: of one device's share of the heads.
      resident_bytes: of its weights, places for adapters and tables on one device, nearly.
    """

    options: ModelOptions
    spec: ModelSpec
    layout: CacheLayout
    resident_bytes: int

    @classmethod
    def read(cls, unit: UnitOptions, model: ModelOptions, kv_dtype: str) -> "ModelPlan":
        """Reads a model's configuration.

        Raises:
          ConfigError: it cannot be read, or not be shared out.
          CheckpointError: its weights cannot be read where the configuration leaves a choice to them.
        """
        spec = read_spec(model.path, **model.reading)
        try:
            own = spec.share(len(unit.devices_of(model)))
        except ConfigError as error:
            raise ConfigError(f"{model.name}: {error}", field=error.field) from error
        layout = layout_of(unit, model, spec, kv_dtype)
        table_bytes = model.max_num_seqs * (layout.columns(spec.max_len) * layout.column_blocks * 4 + spec.vocab * 2)
        item_bytes = ITEM_BYTES[spec.dtype]
        weight_bytes = int(own.weight_bytes(item_bytes)) + model.lora_places * adapter_params(own, model.max_lora_rank) * item_bytes
        return cls(options=model, spec=spec, layout=layout, resident_bytes=weight_bytes + table_bytes)

    @property
    def name(self) -> str:
        return self.options.name


def show_params(spec: ModelSpec) -> str:
    """Number of parameters, and of those that compute a token where they are fewer, for people."""
    active = "" if spec.active_params == spec.params else f", {show_count(spec.active_params)} active"
    return f"{show_count(spec.params)} parameters{active}"


def show_dtypes(spec: ModelSpec, layout: CacheLayout) -> str:
    """Dtype of the weights, of matrices that are quantised, and of the cache where it is not the unit's, for people."""
    matrices = f", matrices in {_SHOWN[spec.quantization.dtype]}" if spec.quantization else ""
    return f"{spec.dtype}{matrices}{', FP8 cache' if layout.is_fp8 else ''}"


def layout_of(unit: UnitOptions, model: ModelOptions, spec: ModelSpec, kv_dtype: str) -> CacheLayout:
    """Head blocks of one device's share of a model's heads, in an arena of that dtype.

    Raises:
      ConfigError: a head fills no block, or no word of the arena.
    """
    own, word_bytes = spec.share(len(unit.devices_of(model))), ITEM_BYTES[kv_dtype]
    if not model.has_fp8_cache:
        return CacheLayout.of(own, element_bytes=word_bytes, block_bytes=unit.block_bytes)
    require(spec.latent is None, "kv_cache_dtype", model.kv_cache_dtype, "auto for a model whose cache is of latents")
    whole = f"auto for heads of {spec.head_dim}, which is no multiple of the {word_bytes} bytes of {kv_dtype}"
    require(spec.head_dim % word_bytes == 0, "kv_cache_dtype", model.kv_cache_dtype, whole)
    return CacheLayout.of(own, element_bytes=1, block_bytes=unit.block_bytes)


def cache_room_bytes(limit_bytes: int, used_bytes: int) -> int:
    """Bytes that the arena may take of a device beside what is used of it; 0 or less where there is no room."""
    free = int(limit_bytes * (1 - _TEMPORARIES_FRAC)) - used_bytes
    return free - free % _GRAIN_BYTES if free > _GRAIN_BYTES else free
