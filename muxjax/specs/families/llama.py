"""LLaMA 1 to 3, and the many that are of its shape."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family, attention_biases
from muxjax.specs.reading.windows import NO_WINDOW, same_window


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="llama"),
        "mlp_bias": fields.flag("mlp_bias"),
        **attention_biases(fields),
    }


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"attention_bias": spec.qkv_bias, "mlp_bias": spec.mlp_bias}


LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    variant=_variant,
    written=_written,
    eos=(2,),
    only={**NO_WINDOW, "use_qk_norm": (False,)},
    harmless=("max_window_layers",),
)
