"""Cohere's Command R and R7B: attention and MLP read the same LayerNorm and are added at once; in the second, layers without a window are
not rotated."""

from typing import Any

import numpy as np

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import NO_WINDOW, every, read_windows, same_window, window_of, written_windows

_WINDOW, _PATTERN, _LOGIT_SCALE = 4096, 4, 0.0625


def _common(fields: Fields) -> dict[str, Any]:
    """A divisor is rounded as logits are, so that a file's scale and it are each other's inverse."""
    divisor = float(np.float32(1 / fields.number("logit_scale", _LOGIT_SCALE)))
    return {"norm": "layer", "parallel": True, "interleaved": True, "logit_divisor": divisor, **attention_biases(fields)}


def _cohere(fields: Fields, layers: int) -> dict[str, Any]:
    norm = "own" if fields.flag("use_qk_norm") else None
    return {"windows": same_window(fields, layers, None, family="cohere"), "qk_norm": norm, **_common(fields)}


def _cohere2(fields: Fields, layers: int) -> dict[str, Any]:
    pattern = fields.integer("sliding_window_pattern", _PATTERN)
    if fields.integer("layer_switch", pattern) != pattern:
        raise fields.wrong("layer_switch", fields.get("layer_switch"), f"the same as sliding_window_pattern={pattern}")
    windows = read_windows(fields, layers, window_of(fields, _WINDOW), every(pattern, layers), family="cohere2")
    unrotated = tuple(layer for layer, window in enumerate(windows) if window is None)
    return {"windows": windows, "unrotated": unrotated, **_common(fields)}


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"logit_scale": 1 / spec.logit_divisor, "attention_bias": spec.qkv_bias}


def _family(number: str, **more: Any) -> Family:
    return Family(
        model_type=f"cohere{number}",
        architecture=f"Cohere{number}ForCausalLM",
        norm_eps="layer_norm_eps",
        eos=(255001,),
        reads=("logit_scale",),
        **more,
    )


_DEFAULTS = {"tie_word_embeddings": True, "layer_norm_eps": 1e-5}
COHERE = _family(
    "",
    variant=_cohere,
    written=lambda spec: {**_written(spec), "use_qk_norm": spec.qk_norm == "own"},
    defaults=_DEFAULTS,
    rope_theta=500000.0,
    only={**NO_WINDOW, "mlp_bias": (False,), "rope_interleaved": (True,)},
)
COHERE2 = _family(
    "2",
    variant=_cohere2,
    written=lambda spec: {**_written(spec), **written_windows(spec)},
    defaults=_DEFAULTS,
    only={
        "mlp_bias": (False,),
        "use_qk_norm": (False,),
        "use_sliding_window": (True,),
        "rope_interleaved": (True,),
        "position_embedding_type": ("rope_gptj",),
        "order_of_interleaved_layers": ("local_attn_first",),
        "rotary_pct": (1,),
        "use_gated_activation": (True,),
        "use_parallel_block": (True,),
        "use_embedding_sharing": (True,),
    },
    harmless=("use_parallel_embedding",),
)
