"""IBM's Granite 3, dense: LLaMA's shape with multipliers of embeddings, scores, residuals and logits."""

from typing import Any

from muxjax.specs.families.family import Family, attention_biases
from muxjax.specs.families.windows import NO_WINDOW, same_window
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec

_MULTIPLIERS = {
    "embed_scale": "embedding_multiplier",
    "attention_scale": "attention_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_divisor": "logits_scaling",
}


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="granite"),
        "mlp_bias": fields.flag("mlp_bias"),
        **attention_biases(fields),
        **{name: fields.number(field, 1.0) for name, field in _MULTIPLIERS.items()},
    }


def _written(spec: ModelSpec) -> dict[str, Any]:
    multipliers = {field: getattr(spec, name) for name, field in _MULTIPLIERS.items()}
    return {"attention_bias": spec.qkv_bias, "mlp_bias": spec.mlp_bias, **multipliers}


GRANITE = Family(
    model_type="granite",
    architecture="GraniteForCausalLM",
    variant=_variant,
    written=_written,
    eos=(2,),
    only={**NO_WINDOW, "use_qk_norm": (False,)},
)
