"""Zhipu's GLM-4, dense: half of each head rotated, neighbour by neighbour, gate and up in one tensor; norms before and after in GLM-4-0414.

GLM-4.5: half of each head rotated, experts by sigmoids but in the first layers, and a shared one."""

from dataclasses import replace
from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import MOST_SIZE, Fields
from muxjax.specs.reading.experts import MOST_EXPERTS, expert_count, whole_number, written_experts
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import NO_WINDOW, same_window


def _glm(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="glm"),
        "qkv_bias": fields.flag("attention_bias"),
        "interleaved": True,
        "naming": "glm4",
    }


def _glm4(fields: Fields, layers: int) -> dict[str, Any]:
    return _glm(fields, layers) | {"post_norms": True}


def _moe(fields: Fields, layers: int) -> dict[str, Any]:
    ffn = fields.integer("moe_intermediate_size", most=MOST_SIZE)
    experts = Experts(
        count=expert_count(fields, "n_routed_experts", "num_local_experts"),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=ffn,
        layers=tuple(range(whole_number(fields, "first_k_dense_replace", 1), layers)),
        shared_ffn=ffn * fields.integer("n_shared_experts", 1, most=MOST_EXPERTS),
        sigmoid=True,
        normed=fields.flag("norm_topk_prob"),
        scale=fields.number("routed_scaling_factor", 1.0),
    )
    return {
        "windows": same_window(fields, layers, None, family="glm4_moe"),
        "qkv_bias": fields.flag("attention_bias"),
        "qk_norm": "head" if fields.flag("use_qk_norm") else None,
        "experts": experts,
        "naming": "glm4_moe",
    }


def _written_moe(spec: ModelSpec) -> dict[str, Any]:
    names = {"n_routed_experts": "count", "num_experts_per_tok": "per_token", "moe_intermediate_size": "ffn"}
    names |= {"norm_topk_prob": "normed", "routed_scaling_factor": "scale"}
    shared = {"n_shared_experts": spec.experts.shared_ffn // spec.experts.ffn} if spec.experts else {}
    dense = {"first_k_dense_replace": len(spec.dense_layers), "use_qk_norm": spec.qk_norm == "head"}
    return {**_written(spec), **dense, **shared, **written_experts(spec, names)}


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"attention_bias": spec.qkv_bias, "partial_rotary_factor": (spec.rotary_dim or spec.head_dim) / spec.head_dim}


GLM = Family(
    model_type="glm",
    architecture="GlmForCausalLM",
    variant=_glm,
    written=_written,
    defaults={"attention_bias": True, "partial_rotary_factor": 0.5, "rms_norm_eps": 1.5625e-7},
    head_dim=128,
    needs_kv_heads=True,
    eos=(151329, 151336, 151338),
    only={**NO_WINDOW, "mlp_bias": (False,), "use_qk_norm": (False,), "rope_interleaved": (True,)},
    reads=("partial_rotary_factor",),
)
GLM4 = replace(GLM, model_type="glm4", architecture="Glm4ForCausalLM", variant=_glm4)
GLM4_MOE = Family(
    model_type="glm4_moe",
    architecture="Glm4MoeForCausalLM",
    variant=_moe,
    written=_written_moe,
    defaults={"norm_topk_prob": True, "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5},
    needs_kv_heads=True,
    only={**NO_WINDOW, "mlp_bias": (False,), "n_group": (1,), "topk_group": (1,)},
    reads=("partial_rotary_factor",),
    harmless=("num_nextn_predict_layers", "num_mtp_layers"),
)
"""What predicts further tokens lies in a checkpoint behind the last layer, and is not read."""
