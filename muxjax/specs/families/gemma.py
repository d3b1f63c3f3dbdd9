"""Google's Gemma 1, 2 and 3, text: scaled embeddings, norms by 1 and a weight, a GELU; soft caps, windows and norms around in 2 and 3."""

import math
from collections.abc import Callable
from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import ROPE_TYPES, Family, attention_biases
from muxjax.specs.reading.windows import NO_WINDOW, SLIDING, every, local_theta, read_windows, same_window, window_of, written_windows

_GELU = "gelu_pytorch_tanh"
_ONLY = {"hidden_act": (_GELU, "gelu"), "hidden_activation": (_GELU,), "mlp_bias": (False,)}
"""What older files call gelu is the one by tanh."""
_WINDOW, _SCALAR, _PATTERN, _LOCAL_THETA = 4096, 256, 6, 10000.0


def _common(fields: Fields) -> dict[str, Any]:
    scale = math.sqrt(fields.integer("hidden_size"))
    return {"embed_scale": scale, "norm": "rms_offset", "mlp": "geglu", **attention_biases(fields)}


def _around(fields: Fields, layers: int, pattern: int, family: str) -> dict[str, Any]:
    """What 2 and 3 share: of each so many layers, all but the last have a window."""
    return {
        "windows": read_windows(fields, layers, window_of(fields, _WINDOW), every(pattern, layers), family=family),
        "post_norms": True,
        "attention_scale": fields.integer("query_pre_attn_scalar", _SCALAR) ** -0.5,
        "attention_soft_cap": _cap(fields, "attn_logit_softcapping"),
        "logit_soft_cap": _cap(fields, "final_logit_softcapping"),
        **_common(fields),
    }


def _cap(fields: Fields, name: str) -> float | None:
    return None if fields.get(name) is None else fields.number(name)


def _gemma(fields: Fields, layers: int) -> dict[str, Any]:
    return {"windows": same_window(fields, layers, None, family="gemma"), **_common(fields)}


def _gemma2(fields: Fields, layers: int) -> dict[str, Any]:
    return _around(fields, layers, 2, "gemma2")


def _gemma3(fields: Fields, layers: int) -> dict[str, Any]:
    pattern = fields.integer("sliding_window_pattern", _PATTERN)
    return {"qk_norm": "head", "local_rope_theta": _local_theta(fields), **_around(fields, layers, pattern, "gemma3_text")}


def _local_theta(fields: Fields) -> float:
    """`rope_local_base_freq` of transformers 4, an object for layers with a window of transformers 5."""
    outer = fields.number("rope_local_base_freq", _LOCAL_THETA)
    theta = local_theta(fields, outer)
    if fields.get("rope_local_base_freq") is not None and theta != outer:
        raise fields.wrong("rope_theta", theta, f"the {outer} of rope_local_base_freq for {SLIDING}")
    return theta


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"hidden_act": _GELU, "attention_bias": spec.qkv_bias}


def _written_around(spec: ModelSpec) -> dict[str, Any]:
    return {
        **_written(spec),
        "hidden_activation": _GELU,
        **written_windows(spec),
        "query_pre_attn_scalar": round(_scale(spec) ** -2),
        "attn_logit_softcapping": spec.attention_soft_cap,
        "final_logit_softcapping": spec.logit_soft_cap,
    }


def _scale(spec: ModelSpec) -> float:
    return spec.attention_scale or spec.head_dim**-0.5


def _family(
    number: str,
    model_type: str,
    variant: Callable[[Fields, int], dict[str, Any]],
    written: Callable[[ModelSpec], dict[str, Any]],
    *,
    defaults: dict[str, Any] | None = None,
    only: dict[str, tuple[object, ...]] | None = None,
    **more: Any,
) -> Family:
    return Family(
        model_type=model_type,
        architecture=f"Gemma{number}ForCausalLM",
        variant=variant,
        written=written,
        defaults={"tie_word_embeddings": True, **(defaults or {})},
        head_dim=256,
        needs_kv_heads=True,
        eos=(1,),
        only=_ONLY | (only or {}),
        **more,
    )


_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
GEMMA = _family("", "gemma", _gemma, _written, only={**NO_WINDOW, "use_qk_norm": (False,)})
GEMMA2 = _family(
    "2",
    "gemma2",
    _gemma2,
    _written_around,
    defaults=dict(zip(_CAPS, (50.0, 30.0), strict=True)),
    only={"use_sliding_window": (True,), "sliding_window_pattern": (2,), "use_qk_norm": (False,)},
    reads=_CAPS,
)
GEMMA3 = _family(
    "3",
    "gemma3_text",
    _gemma3,
    lambda spec: {**_written_around(spec), "rope_local_base_freq": spec.local_rope_theta},
    only={"use_sliding_window": (True,), "use_qk_norm": (True,)},
    reads=_CAPS,
    harmless=("_sliding_window_pattern",),
    rope_theta=1000000.0,
    rope_by_kind=True,
    rope_types={kind: ROPE_TYPES[kind] for kind in ("default", "linear")},
)
