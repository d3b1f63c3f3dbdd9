"""IBM's Granite 3: LLaMA's shape with multipliers of embeddings, scores, residuals and logits; dense, or with experts, and a shared one."""

from typing import Any

from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.experts import expert_count, whole_number, written_experts
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import NO_WINDOW, same_window

_MULTIPLIERS = {
    "embed_scale": "embedding_multiplier",
    "attention_scale": "attention_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_divisor": "logits_scaling",
}


_EXPERTS = {"num_local_experts": "count", "num_experts_per_tok": "per_token"}
_SHARED = {"shared_intermediate_size": "shared_ffn"}
_ONLY = {**NO_WINDOW, "use_qk_norm": (False,)}


def _common(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="granite"),
        **attention_biases(fields),
        **{name: fields.number(field, 1.0) for name, field in _MULTIPLIERS.items()},
    }


def _granite(fields: Fields, layers: int) -> dict[str, Any]:
    return {"mlp_bias": fields.flag("mlp_bias"), **_common(fields, layers)}


def _experts(fields: Fields, layers: int, shared_ffn: int = 0) -> dict[str, Any]:
    """A softmax over a token's own experts is one over all of them whose weights are made to add up to 1."""
    experts = Experts(
        count=expert_count(fields, "num_local_experts"),
        per_token=fields.integer("num_experts_per_tok"),
        ffn=fields.integer("intermediate_size"),
        layers=tuple(range(layers)),
        shared_ffn=shared_ffn,
    )
    return {"experts": experts, "naming": "granitemoe", **_common(fields, layers)}


def _written(spec: ModelSpec) -> dict[str, Any]:
    multipliers = {field: getattr(spec, name) for name, field in _MULTIPLIERS.items()}
    return {"attention_bias": spec.qkv_bias, **multipliers}


GRANITE = Family(
    model_type="granite",
    architecture="GraniteForCausalLM",
    variant=_granite,
    written=lambda spec: {**_written(spec), "mlp_bias": spec.mlp_bias},
    eos=(2,),
    only=_ONLY,
)
GRANITE_MOE = Family(
    model_type="granitemoe",
    architecture="GraniteMoeForCausalLM",
    variant=_experts,
    written=lambda spec: {**_written(spec), **written_experts(spec, _EXPERTS)},
    eos=(2,),
    only={**_ONLY, "mlp_bias": (False,)},
)
GRANITE_MOE_SHARED = Family(
    model_type="granitemoeshared",
    architecture="GraniteMoeSharedForCausalLM",
    variant=lambda fields, layers: _experts(fields, layers, whole_number(fields, "shared_intermediate_size", 0)),
    written=lambda spec: {**_written(spec), **written_experts(spec, _EXPERTS | _SHARED)},
    eos=(2,),
    only={**_ONLY, "mlp_bias": (False,)},
)
