"""Microsoft's Phi-3 and Phi-4: q, k and v in one tensor, and gate and up, a part of each head rotated, longrope."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import first_window, same_window, window_of

_CODE = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
"""Published folders hold the code from which transformers' own is ported."""


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {"windows": same_window(fields, layers, window_of(fields, None), family="phi3"), "naming": "phi3"}


def _written(spec: ModelSpec) -> dict[str, Any]:
    original = {} if spec.rope_scaling is None else {"original_max_position_embeddings": spec.rope_scaling.original_max_len}
    turned = 1.0 if spec.rotary_dim is None else spec.rotary_dim / spec.head_dim
    return {"sliding_window": first_window(spec), "partial_rotary_factor": turned, **original}


PHI3 = Family(
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    variant=_variant,
    written=_written,
    defaults={"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
    eos=(32000,),
    only={
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "lm_head_bias": (False,),
        "full_attn_mod": (1,),
        "interpolate_factor": (1,),
        "auto_map": (_CODE, {**_CODE, "AutoTokenizer": "Xenova/gpt-4o"}),
    },
    reads=("partial_rotary_factor",),
    rope_types={"default": "default", "longrope": "longrope", "su": "longrope", "yarn": "longrope"},
)
