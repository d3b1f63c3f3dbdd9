"""DeepSeek V2 and V3: attention over latents; experts, in groups in some, beside shared ones, but in the first layers."""

import math
from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import Latent, ModelSpec
from muxjax.specs.fields import MOST_SIZE, Fields
from muxjax.specs.reading.experts import MOST_EXPERTS, expert_count, whole_number, written_experts
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.rope import to_rope_scaling
from muxjax.specs.reading.windows import NO_WINDOW, same_window

_GREEDY, _BY_GROUP = "greedy", "group_limited_greedy"


def _common(fields: Fields, layers: int, family: str) -> dict[str, Any]:
    heads, rotated = fields.integer("num_attention_heads"), fields.integer("qk_rope_head_dim", most=MOST_SIZE)
    latent = Latent(
        rank=fields.integer("kv_lora_rank", most=MOST_SIZE),
        rotated=rotated,
        key=fields.integer("qk_nope_head_dim", most=MOST_SIZE),
        value=fields.integer("v_head_dim", most=MOST_SIZE),
        q_rank=None if fields.get("q_lora_rank") is None else fields.integer("q_lora_rank", most=MOST_SIZE),
    )
    whole = latent.key + rotated
    for name, right in {"num_key_value_heads": heads, "head_dim": rotated, "qk_head_dim": whole}.items():
        if fields.get(name) not in (None, right):
            raise fields.wrong(name, fields.get(name), f"{right} in a {family} model")
    return {
        "windows": same_window(fields, layers, None, family=family),
        "latent": latent,
        "kv_heads": 1,
        "head_dim": latent.rank + rotated,
        "rotary_dim": rotated,
        "attention_scale": whole**-0.5 * _magnitude(fields) ** 2,
        "naming": "deepseek",
        **attention_biases(fields),
    }


def _magnitude(fields: Fields) -> float:
    """By which queries and keys are larger where yarn stretches positions, and says `mscale_all_dim`."""
    rope = fields.child("rope_scaling").values or fields.child("rope_parameters").values
    scale, factor = rope.get("mscale_all_dim"), rope.get("factor")
    return 0.1 * scale * math.log(factor) + 1 if scale and factor and factor > 1 else 1.0


def _experts(fields: Fields, layers: int, **variant: Any) -> Experts:
    ffn = fields.integer("moe_intermediate_size", most=MOST_SIZE)
    return Experts(
        count=expert_count(fields, "n_routed_experts", "num_local_experts", "num_experts"),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=ffn,
        layers=tuple(range(whole_number(fields, "first_k_dense_replace", 0), layers)),
        shared_ffn=ffn * fields.integer("n_shared_experts", most=MOST_EXPERTS),
        scale=fields.number("routed_scaling_factor"),
        **variant,
    )


def _groups(fields: Fields) -> dict[str, int]:
    return {"groups": fields.integer("n_group", most=MOST_EXPERTS), "groups_per_token": fields.integer("topk_group", most=MOST_EXPERTS)}


def _v2(fields: Fields, layers: int) -> dict[str, Any]:
    groups = _groups(fields) if fields.get("topk_method") == _BY_GROUP else {}
    return {**_common(fields, layers, "deepseek_v2"), "interleaved": True, "experts": _experts(fields, layers, normed=False, **groups)}


def _v3(fields: Fields, layers: int) -> dict[str, Any]:
    experts = _experts(fields, layers, sigmoid=True, normed=fields.flag("norm_topk_prob"), **_groups(fields))
    return {**_common(fields, layers, "deepseek_v3"), "interleaved": fields.flag("rope_interleave"), "experts": experts}


def _written(spec: ModelSpec) -> dict[str, Any]:
    if spec.latent is None or spec.experts is None:
        return {}
    names = {"n_routed_experts": "count", "num_experts_per_tok": "per_token", "moe_intermediate_size": "ffn", "n_group": "groups"}
    names |= {"topk_group": "groups_per_token", "routed_scaling_factor": "scale", "norm_topk_prob": "normed"}
    return {
        **written_experts(spec, names),
        **_written_rope(spec, spec.latent),
        "first_k_dense_replace": len(spec.dense_layers),
        "n_shared_experts": spec.experts.shared_ffn // spec.experts.ffn,
        "num_key_value_heads": spec.heads,
        "head_dim": spec.latent.rotated,
        "kv_lora_rank": spec.latent.rank,
        "q_lora_rank": spec.latent.q_rank,
        "qk_rope_head_dim": spec.latent.rotated,
        "qk_nope_head_dim": spec.latent.key,
        "v_head_dim": spec.latent.value,
        "attention_bias": spec.qkv_bias,
    }


def _written_rope(spec: ModelSpec, latent: Latent) -> dict[str, Any]:
    """A spec has in the scale of scores what a file says with the rotary embedding."""
    rope, scale = to_rope_scaling(spec.rope_scaling), spec.attention_scale
    if rope is None or scale is None or rope.get("factor", 1) <= 1:
        return {}
    magnitude = math.sqrt(scale * math.sqrt(latent.key + latent.rotated))
    said = round((magnitude - 1) / (0.1 * math.log(rope["factor"])), 9)
    return {"rope_scaling": rope | ({"mscale_all_dim": said} if said else {})}


def _family(number: int, *, only: dict[str, tuple[object, ...]], harmless: tuple[str, ...] = (), **more: Any) -> Family:
    config, model = f"configuration_deepseek.DeepseekV{number}Config", f"modeling_deepseek.DeepseekV{number}"
    least = {"AutoConfig": config, "AutoModelForCausalLM": f"{model}ForCausalLM"}
    none = {**NO_WINDOW, "mlp_bias": (False,), "use_qk_norm": (False,), "moe_layer_freq": (1,)}
    return Family(
        model_type=f"deepseek_v{number}",
        architecture=f"DeepseekV{number}ForCausalLM",
        head_dim_field="qk_rope_head_dim",
        only={**none, "auto_map": (least, {**least, "AutoModel": f"{model}Model"}), **only},
        harmless=("ep_size", "aux_loss_alpha", "seq_aux", *harmless),
        **more,
    )


_SIZES = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
DEEPSEEK_V2 = _family(
    2,
    variant=_v2,
    written=lambda spec: {**_written(spec), "topk_method": _BY_GROUP if spec.experts and spec.experts.groups > 1 else _GREEDY},
    defaults={**_SIZES, "n_routed_experts": 64, "n_shared_experts": 2, "moe_intermediate_size": 1407, "routed_scaling_factor": 1.0},
    eos=(2,),
    only={"scoring_func": ("softmax",), "topk_method": (_GREEDY, _BY_GROUP), "norm_topk_prob": (False,)},
    harmless=("n_group", "topk_group"),
)
DEEPSEEK_V3 = _family(
    3,
    variant=_v3,
    written=lambda spec: {**_written(spec), "rope_interleave": spec.interleaved},
    defaults={
        **_SIZES,
        **{"n_routed_experts": 256, "n_shared_experts": 1, "moe_intermediate_size": 2048, "num_experts_per_tok": 8},
        **{"first_k_dense_replace": 3, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4},
        "rope_interleave": True,
    },
    eos=(1,),
    only={"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)},
    harmless=("num_nextn_predict_layers", "num_mtp_layers"),
)
"""Without `topk_method: group_limited_greedy` V2 has no groups; what V3 has behind its last layer to predict further tokens is not read."""
