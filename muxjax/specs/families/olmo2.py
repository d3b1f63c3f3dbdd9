"""OLMo 2: norms of what attention and MLP add instead of what they read, and of all queries and all keys together."""

from typing import Any

from muxjax.specs.families.family import Family, attention_biases
from muxjax.specs.families.windows import NO_WINDOW, same_window
from muxjax.specs.fields import Fields


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="olmo2"),
        "projection_norm": True,
        "pre_norms": False,
        "post_norms": True,
        **attention_biases(fields),
    }


OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    variant=_variant,
    written=lambda spec: {"attention_bias": spec.qkv_bias},
    defaults={"rms_norm_eps": 1e-5},
    eos=50279,
    only={**NO_WINDOW, "mlp_bias": (False,)},
)
