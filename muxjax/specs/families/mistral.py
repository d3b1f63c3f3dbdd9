"""Mistral and Ministral, dense: a window in all layers, in none, or in those that layer_types names."""

from typing import Any

from muxjax.specs.families.family import Family
from muxjax.specs.families.windows import FULL, SLIDING, first_window, layer_kinds, read_windows, window_of
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec

_WINDOW = 4096


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    """transformers 5 takes a Mistral with layer_types for a Ministral."""
    window = window_of(fields, _WINDOW)
    usual = [FULL if window is None else SLIDING] * layers
    return {"windows": read_windows(fields, layers, window, usual, family="mistral")}


def _written(spec: ModelSpec) -> dict[str, Any]:
    mixed = {"layer_types": layer_kinds(spec)} if len(set(spec.windows)) > 1 else {}
    return {"sliding_window": first_window(spec), **mixed}


def _family(name: str) -> Family:
    return Family(
        model_type=name.lower(),
        architecture=f"{name}ForCausalLM",
        variant=_variant,
        written=_written,
        needs_kv_heads=True,
        eos=(2,),
        only={"use_sliding_window": (False,), "attention_bias": (False,), "mlp_bias": (False,), "use_qk_norm": (False,)},
        harmless=("max_window_layers",),
    )


MISTRAL, MINISTRAL = _family("Mistral"), _family("Ministral")
