"""What checkpoints call the tensors of a decoder: by kind, as `models/tensors.py` declares them."""

from collections.abc import Mapping

from muxjax.model_spec import ModelSpec

Names = Mapping[str, tuple[str, ...]]
"""Of each kind the names of its tensors, in a layer where it belongs to one: one for each of the matrices side by side, or one that holds
them all; with {} for an expert's number where each expert has tensors of its own."""


def tensor_names(spec: ModelSpec) -> Names:
    """Of all kinds that a model may have. Where there are norms before and after, only the MLP's names say on which side they stand."""
    names = _BY_FAMILY[spec.naming]
    if spec.naming == "llama" and spec.pre_norms and spec.post_norms:
        return {**names, "mlp_norm": ("pre_feedforward_layernorm.weight",)}
    return names


def _of(module: str, *parts: str) -> tuple[str, ...]:
    return tuple(f"{module}.{part}.weight" for part in parts)


_LLAMA: Names = {
    "embed": ("model.embed_tokens.weight",),
    "norm": ("model.norm.weight",),
    "head": ("lm_head.weight",),
    "qkv": _of("self_attn", "q_proj", "k_proj", "v_proj"),
    "q_norm": ("self_attn.q_norm.weight",),
    "k_norm": ("self_attn.k_norm.weight",),
    "sinks": ("self_attn.sinks",),
    "k_cache_scale": ("self_attn.k_scale",),
    "v_cache_scale": ("self_attn.v_scale",),
    "o": ("self_attn.o_proj.weight",),
    "gate_up": _of("mlp", "gate_proj", "up_proj"),
    "down": ("mlp.down_proj.weight",),
    "attn_norm": ("input_layernorm.weight",),
    "mlp_norm": ("post_attention_layernorm.weight",),
    "attn_post_norm": ("post_attention_layernorm.weight",),
    "mlp_post_norm": ("post_feedforward_layernorm.weight",),
    "router": ("mlp.gate.weight",),
    "choice_bias": ("mlp.gate.e_score_correction_bias",),
    "expert_gate_up": _of("mlp.experts.{}", "gate_proj", "up_proj"),
    "expert_down": ("mlp.experts.{}.down_proj.weight",),
    "shared_gate_up": _of("mlp.shared_expert", "gate_proj", "up_proj"),
    "shared_down": ("mlp.shared_expert.down_proj.weight",),
    "shared_gate": ("mlp.shared_expert_gate.weight",),
}
_SHARED_EXPERTS: Names = {
    "shared_gate_up": _of("mlp.shared_experts", "gate_proj", "up_proj"),
    "shared_down": ("mlp.shared_experts.down_proj.weight",),
}
_BY_FAMILY: Mapping[str, Names] = {
    "llama": _LLAMA,
    "phi3": {**_LLAMA, "qkv": ("self_attn.qkv_proj.weight",), "gate_up": ("mlp.gate_up_proj.weight",)},
    "glm4": {
        **_LLAMA,
        "gate_up": ("mlp.gate_up_proj.weight",),
        "attn_post_norm": ("post_self_attn_layernorm.weight",),
        "mlp_post_norm": ("post_mlp_layernorm.weight",),
    },
    "starcoder2": {**_LLAMA, "up": ("mlp.c_fc.weight",), "down": ("mlp.c_proj.weight",)},
    "internlm2": {
        **_LLAMA,
        "embed": ("model.tok_embeddings.weight",),
        "head": ("output.weight",),
        "qkv": ("attention.wqkv.weight",),
        "o": ("attention.wo.weight",),
        "gate_up": _of("feed_forward", "w1", "w3"),
        "down": ("feed_forward.w2.weight",),
        "attn_norm": ("attention_norm.weight",),
        "mlp_norm": ("ffn_norm.weight",),
    },
    "gpt_oss": {
        **_LLAMA,
        "router": ("mlp.router.weight",),
        "expert_gate_up": ("mlp.experts.gate_up_proj",),
        "expert_down": ("mlp.experts.down_proj",),
    },
    "mixtral": {
        **_LLAMA,
        "router": ("block_sparse_moe.gate.weight",),
        "expert_gate_up": _of("block_sparse_moe.experts.{}", "w1", "w3"),
        "expert_down": ("block_sparse_moe.experts.{}.w2.weight",),
    },
    "glm4_moe": {
        **_LLAMA,
        **_SHARED_EXPERTS,
    },
    "deepseek": {
        **_LLAMA,
        "q": ("self_attn.q_proj.weight",),
        "q_a": ("self_attn.q_a_proj.weight",),
        "q_a_norm": ("self_attn.q_a_layernorm.weight",),
        "q_b": ("self_attn.q_b_proj.weight",),
        "kv_a": ("self_attn.kv_a_proj_with_mqa.weight",),
        "kv_a_norm": ("self_attn.kv_a_layernorm.weight",),
        "kv_b": ("self_attn.kv_b_proj.weight",),
        **_SHARED_EXPERTS,
    },
    "granitemoe": {
        **_LLAMA,
        "router": ("block_sparse_moe.router.layer.weight",),
        "expert_gate_up": ("block_sparse_moe.input_linear.weight",),
        "expert_down": ("block_sparse_moe.output_linear.weight",),
        "shared_gate_up": ("shared_mlp.input_linear.weight",),
        "shared_down": ("shared_mlp.output_linear.weight",),
    },
}
"""By `ModelSpec.naming`."""
