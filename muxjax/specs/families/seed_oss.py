"""ByteDance's Seed-OSS: LLaMA's shape, with biases of q, k and v, and of the output apart."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import NO_WINDOW, same_window


def _variant(fields: Fields, layers: int) -> dict[str, Any]:
    return {
        "windows": same_window(fields, layers, None, family="seed_oss"),
        "qkv_bias": fields.flag("attention_bias"),
        "out_bias": fields.flag("attention_out_bias"),
        "mlp_bias": fields.flag("mlp_bias"),
    }


def _written(spec: ModelSpec) -> dict[str, Any]:
    return {"attention_bias": spec.qkv_bias, "attention_out_bias": spec.out_bias, "mlp_bias": spec.mlp_bias}


SEED_OSS = Family(
    model_type="seed_oss",
    architecture="SeedOssForCausalLM",
    variant=_variant,
    written=_written,
    defaults={"attention_bias": True},
    head_dim=128,
    needs_kv_heads=True,
    eos=(2,),
    only={**NO_WINDOW, "use_qk_norm": (False,)},
    harmless=("residual_dropout",),
)
