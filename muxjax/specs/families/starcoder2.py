"""BigCode's StarCoder2: LayerNorms with biases, an MLP of two matrices with a GELU between, biases everywhere, a window in all layers."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import first_window, same_window, window_of

_GELU = "gelu_pytorch_tanh"


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    biases = dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), fields.flag("use_bias"))
    windows = same_window(fields, layers, window_of(fields, None), family="starcoder2")
    return {"windows": windows, "norm": "layer_biased", "mlp": "gelu", "naming": "starcoder2", **biases}


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"sliding_window": first_window(spec), "use_bias": spec.qkv_bias, "hidden_act": _GELU}


STARCODER2 = Family(
    model_type="starcoder2",
    architecture="Starcoder2ForCausalLM",
    variant=_variant,
    written=_written,
    norm_eps="norm_epsilon",
    defaults={"use_bias": True, "tie_word_embeddings": True, "norm_epsilon": 1e-5, "num_key_value_heads": 2, "hidden_act": _GELU},
    needs_kv_heads=True,
    eos=(50256,),
    only={
        "hidden_act": (_GELU,),
        "activation_function": ("gelu", _GELU),
        "mlp_type": ("default",),
        "norm_type": ("layer_norm",),
        "scale_attn_weights": (True,),
        "use_sliding_window": (True,),
        "use_qk_norm": (False,),
    },
    harmless=("residual_dropout", "layer_norm_epsilon", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"),
)
"""`activation_function` and `layer_norm_epsilon` are leftovers of the first StarCoder, which transformers does not read."""
