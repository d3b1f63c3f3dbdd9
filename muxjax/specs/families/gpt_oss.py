"""OpenAI's GPT-OSS: experts with biases and a clamped SwiGLU, attention sinks, a window in every other layer."""

from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.experts import expert_count, written_experts
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import FULL, SLIDING, read_windows, window_of, written_windows

_WINDOW, _PACKING = 128, "mxfp4"


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    """Without a word of the rotary embedding transformers would stretch it, by yarn. Experts are unpacked while they are loaded."""
    if fields.get("rope_scaling") is None and fields.get("rope_parameters") is None:
        raise fields.wrong("rope_scaling", None, "there, if only to say that it is default")
    packing = fields.child("quantization_config").get("quant_method", _PACKING)
    if packing != _PACKING:
        raise fields.wrong("quantization_config", packing, f"of quant_method {_PACKING}, or absent")
    experts = Experts(
        count=expert_count(fields, "num_local_experts", "num_experts"),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("intermediate_size"),
        layers=tuple(range(layers)),
        biases=True,
        clamp=fields.number("swiglu_limit", 7.0),
    )
    usual = [FULL if layer % 2 else SLIDING for layer in range(layers)]
    return {
        "windows": read_windows(fields, layers, window_of(fields, _WINDOW), usual, family="gpt_oss"),
        "sinks": True,
        "experts": experts,
        "naming": "gpt_oss",
        **attention_biases(fields),
    }


def _written(spec: ModelSpec) -> dict[str, Any]:
    names = {"num_local_experts": "count", "num_experts_per_tok": "per_token", "swiglu_limit": "clamp"}
    rope = {} if spec.rope_scaling else {"rope_scaling": {"rope_type": "default"}}
    return {"attention_bias": spec.qkv_bias, **rope, **written_windows(spec), **written_experts(spec, names)}


GPT_OSS = Family(
    model_type="gpt_oss",
    architecture="GptOssForCausalLM",
    variant=_variant,
    written=_written,
    defaults={"rms_norm_eps": 1e-5, "attention_bias": True},
    rope_theta=150000.0,
    head_dim=64,
    needs_kv_heads=True,
    only={"mlp_bias": (False,), "use_qk_norm": (False,), "use_sliding_window": (True,), "swiglu_alpha": (1.702,)},
    reads=("quantization_config",),
    harmless=("initial_context_length", "experts_per_token"),
)
