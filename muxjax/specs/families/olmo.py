"""OLMo 2 and 3: norms of what attention and MLP add instead of what they read, and of all queries and all keys together; windows in 3.

OLMoE: experts, LLaMA's norms, and those of all queries and all keys together."""

from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.experts import expert_count, written_experts
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import NO_WINDOW, every, local_theta, read_windows, same_window, window_of, written_windows

_WINDOW, _PATTERN, _THETA = 4096, 4, 500000.0


def _norms(fields: Fields) -> dict[str, Any]:
    return {"qk_norm": "projection", "pre_norms": False, "post_norms": True, **attention_biases(fields)}


def _olmo2(fields: Fields, layers: int) -> dict[str, Any]:
    return {"windows": same_window(fields, layers, None, family="olmo2"), **_norms(fields)}


def _olmo3(fields: Fields, layers: int) -> dict[str, Any]:
    theta = fields.number("rope_theta", _THETA)
    if theta != _THETA and not fields.child("rope_parameters").values:  # transformers 5 takes it for layers without a window only
        raise fields.wrong("rope_theta", theta, f"{_THETA} where rope_parameters do not give each kind of layer its own")
    return {
        "windows": read_windows(fields, layers, window_of(fields, _WINDOW), every(_PATTERN, layers), family="olmo3"),
        "local_rope_theta": local_theta(fields, _THETA),
        **_norms(fields),
    }


def _olmoe(fields: Fields, layers: int) -> dict[str, Any]:
    """The norms of q and k are made for heads that share out the width."""
    head_dim, usual = fields.get("head_dim"), fields.integer("hidden_size") // fields.integer("num_attention_heads")
    if head_dim not in (None, usual):
        raise fields.wrong("head_dim", head_dim, f"{usual}, hidden_size over num_attention_heads, in an olmoe model")
    experts = Experts(
        count=expert_count(fields, "num_experts", "num_local_experts"),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("intermediate_size"),
        layers=tuple(range(layers)),
        normed=fields.flag("norm_topk_prob"),
    )
    windows = same_window(fields, layers, None, family="olmoe")
    return {"windows": windows, "qk_norm": "projection", "experts": experts, **attention_biases(fields)}


def _written_olmoe(spec: ModelSpec) -> dict[str, Any]:
    names = {"num_experts": "count", "num_experts_per_tok": "per_token", "norm_topk_prob": "normed"}
    return {**_written(spec), **written_experts(spec, names)}


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"attention_bias": spec.qkv_bias}


def _written_windows(spec: ModelSpec) -> dict[str, Any]:
    return {**_written(spec), **written_windows(spec)}


OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    variant=_olmo2,
    written=_written,
    defaults={"rms_norm_eps": 1e-5},
    eos=(50279,),
    only={**NO_WINDOW, "mlp_bias": (False,)},
)
OLMO3 = Family(
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    variant=_olmo3,
    written=_written_windows,
    defaults={"rms_norm_eps": 1e-5},
    eos=(50279,),
    only={"use_sliding_window": (True,), "mlp_bias": (False,)},
    rope_theta=_THETA,
    rope_by_kind=True,
)
OLMOE = Family(
    model_type="olmoe",
    architecture="OlmoeForCausalLM",
    variant=_olmoe,
    written=_written_olmoe,
    defaults={"rms_norm_eps": 1e-5},
    eos=(50279,),
    only={**NO_WINDOW, "mlp_bias": (False,)},
)
