"""Zhipu's GLM-4-0414, dense: half of each head rotated, neighbour by neighbour, norms before and after, gate and up in one tensor."""

from typing import Any

from muxjax.specs.families.family import Family
from muxjax.specs.families.windows import NO_WINDOW, same_window
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="glm4"),
        "qkv_bias": fields.flag("attention_bias"),
        "post_norms": True,
        "interleaved": True,
        "naming": "glm4",
    }


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"attention_bias": spec.qkv_bias, "partial_rotary_factor": (spec.rotary_dim or spec.head_dim) / spec.head_dim}


GLM4 = Family(
    model_type="glm4",
    architecture="Glm4ForCausalLM",
    variant=_variant,
    written=_written,
    defaults={"attention_bias": True, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-7},
    head_dim=128,
    needs_kv_heads=True,
    eos=(151329, 151336, 151338),
    only={**NO_WINDOW, "mlp_bias": (False,), "use_qk_norm": (False,), "rope_interleaved": (True,)},
    reads=("partial_rotary_factor",),
)
