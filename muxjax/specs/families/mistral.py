"""Mistral, dense: a window in all layers or in none."""

from typing import Any

from muxjax.specs.families.family import Family
from muxjax.specs.families.windows import first_window, same_window, window_of
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec

_WINDOW = 4096


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {"windows": same_window(fields, layers, window_of(fields, _WINDOW), family="mistral")}


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"sliding_window": first_window(spec)}


MISTRAL = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    variant=_variant,
    written=_written,
    needs_kv_heads=True,
    eos=(2,),
    only={"use_sliding_window": (False,), "attention_bias": (False,), "mlp_bias": (False,), "use_qk_norm": (False,)},
    harmless=("max_window_layers",),
)
