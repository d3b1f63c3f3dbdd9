"""InternLM 2 and 3: LLaMA's shape; in 2 under names of its own, with q, k and v in one tensor, one kv head after the other."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import NO_WINDOW, same_window


def _internlm2(fields: Fields, layers: int) -> dict[str, Any]:
    head_dim, usual = fields.get("head_dim"), fields.integer("hidden_size") // fields.integer("num_attention_heads")
    if head_dim not in (None, usual):
        raise fields.wrong("head_dim", head_dim, f"{usual}, hidden_size over num_attention_heads, in an internlm2 model")
    biases = dict.fromkeys(("qkv_bias", "out_bias"), fields.flag("bias"))
    return {"windows": same_window(fields, layers, None, family="internlm2"), "naming": "internlm2", **biases}


def _internlm3(fields: Fields, layers: int) -> dict[str, Any]:
    """The output's bias goes by `bias` in the checkpoints' own code, and by `qkv_bias` in transformers: so all have one, or none."""
    has_bias, same = _flag(fields, "qkv_bias", "attention_bias"), _flag(fields, "bias", "mlp_bias")
    if same != has_bias:
        raise fields.wrong("bias", same, f"the same as qkv_bias={has_bias}")
    biases = dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), has_bias)
    return {"windows": same_window(fields, layers, None, family="internlm3"), **biases}


def _flag(fields: Fields, name: str, other: str) -> bool:
    """By the checkpoints' name or by transformers'."""
    both = [fields.flag(each) for each in (name, other) if fields.get(each) is not None]
    if len(set(both)) > 1:
        raise fields.wrong(name, fields.get(name), f"the same as {other}={fields.get(other)}")
    return any(both)


def _code(number: int, *, alone: str) -> tuple[dict[str, str], ...]:
    """What `auto_map` says of code that computes what LLaMA's does."""
    config, model = f"configuration_internlm{number}.InternLM{number}Config", f"modeling_internlm{number}.InternLM{number}"
    least = {"AutoConfig": config, "AutoModelForCausalLM": f"{model}ForCausalLM"}
    return least, {**least, "AutoModel": f"{model}{alone}"}


INTERNLM2 = Family(
    model_type="internlm2",
    architecture="InternLM2ForCausalLM",
    variant=_internlm2,
    written=lambda spec: {"bias": spec.qkv_bias},
    eos=(2,),
    only={
        **NO_WINDOW,
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "use_qk_norm": (False,),
        "auto_map": _code(2, alone="ForCausalLM"),
    },
)


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"qkv_bias": spec.qkv_bias, "bias": spec.mlp_bias}


INTERNLM3 = Family(
    model_type="internlm3",
    architecture="InternLM3ForCausalLM",
    variant=_internlm3,
    written=_written,
    defaults={"num_key_value_heads": 2, "rms_norm_eps": 1e-5},
    head_dim=128,
    eos=(2,),
    only={**NO_WINDOW, "use_qk_norm": (False,), "auto_map": _code(3, alone="Model")},
)
