"""SmolLM3: LLaMA's shape, with some layers, every fourth, without rotary embedding."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import FULL, SLIDING, first_window, layer_kinds, read_windows, window_of

_INTERVAL = 4


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    unrotated = _unrotated(fields, layers)
    window = window_of(fields, None) if fields.flag("use_sliding_window") else None
    usual = [SLIDING if window is not None and layer in unrotated else FULL for layer in range(layers)]
    return {
        "windows": read_windows(fields, layers, window, usual, family="smollm3"),
        "unrotated": unrotated,
        "mlp_bias": fields.flag("mlp_bias"),
        **attention_biases(fields),
    }


def _unrotated(fields: Fields, layers: int) -> tuple[int, ...]:
    """`no_rope_layers` has a 1 for each layer that has rotary embedding."""
    interval = fields.integer("no_rope_layer_interval", _INTERVAL)
    rotated = fields.get("no_rope_layers", [int((layer + 1) % interval != 0) for layer in range(layers)])
    if not isinstance(rotated, list) or len(rotated) < layers or any(value not in (0, 1) for value in rotated):
        raise fields.wrong("no_rope_layers", rotated, f"0 or 1 for each of {layers} layers")
    return tuple(layer for layer in range(layers) if not rotated[layer])


def _written(spec: ModelSpec) -> dict[str, Any]:
    window = first_window(spec)
    return {
        "no_rope_layers": [int(layer not in spec.unrotated) for layer in range(spec.layers)],
        "sliding_window": window,
        "use_sliding_window": window is not None,
        "layer_types": layer_kinds(spec),
        "attention_bias": spec.qkv_bias,
        "mlp_bias": spec.mlp_bias,
    }


SMOLLM3 = Family(
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    variant=_variant,
    written=_written,
    defaults={"tie_word_embeddings": True, "num_key_value_heads": 4},
    rope_theta=2000000.0,
    eos=(128001,),
    only={"use_qk_norm": (False,)},
    harmless=("max_window_layers",),
)
