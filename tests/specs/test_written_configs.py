"""A ModelSpec to the config.json of a family that can say it, and back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import ConfigError
from muxjax.experts import Experts
from muxjax.model_spec import Latent, ModelSpec, RopeScaling
from muxjax.specs.config import read_spec, to_hf_config
from tests.specs.test_config import LLAMA


def read(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    return read_spec(folder)


@st.composite
def specs(draw):
    """Specs that some family can say."""
    family = draw(st.sampled_from(("llama", "mistral", "qwen2", "qwen3")))
    layers, kv_heads = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    bias, window = draw(st.booleans()), draw(st.integers(1, 99))
    mixed = draw(st.lists(st.sampled_from((None, window)), min_size=layers, max_size=layers))
    windows = {"llama": [None] * layers, "mistral": [draw(st.sampled_from((None, window)))] * layers}.get(family, mixed)
    scalings = (
        None,
        RopeScaling(kind="linear", factor=2.0),
        RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1, high_freq_factor=4, original_max_len=32),
    )
    return ModelSpec(
        vocab=draw(st.integers(100, 500)),
        width=64,
        layers=layers,
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 64)),
        ffn=draw(st.integers(1, 200)),
        max_len=draw(st.integers(1, 4096)),
        windows=tuple(windows),
        norm_eps=draw(st.sampled_from((1e-5, 1e-6))),
        rope_theta=draw(st.sampled_from((10000.0, 500000.0))),
        rope_scaling=draw(st.sampled_from(scalings)),
        qkv_bias={"qwen2": True, "mistral": False}.get(family, bias),
        out_bias=family in ("llama", "qwen3") and bias,
        mlp_bias=family == "llama" and draw(st.booleans()),
        qk_norm="head" if family == "qwen3" else None,
        tied=draw(st.booleans()),
        dtype=draw(st.sampled_from(("bfloat16", "float16", "float32"))),
        eos_ids=tuple(draw(st.lists(st.integers(0, 99), unique=True, max_size=3))),
    )


GEMMA2_VARIANT = {
    "embed_scale": 8.0,
    "norm": "rms_offset",
    "mlp": "geglu",
    "post_norms": True,
    "windows": (16, None),
    "attention_scale": 168**-0.5,
    "attention_soft_cap": 50.0,
    "logit_soft_cap": 30.0,
}
ALL = Experts(count=6, per_token=2, ffn=96, layers=(0, 1))
LATENT = Latent(rank=24, rotated=8, key=12, value=10)
LATENT_VARIANT = {"latent": LATENT, "kv_heads": 1, "head_dim": 32, "rotary_dim": 8, "naming": "deepseek"}
VARIANTS = {
    "gpt_oss": {"experts": replace(ALL, biases=True, clamp=7.0), "naming": "gpt_oss", "sinks": True, "windows": (8, None)},
    "mixtral": {"experts": ALL, "naming": "mixtral", "windows": (8, 8)},
    "qwen2_moe": {"experts": replace(ALL, layers=(1,), ffn=8, shared_ffn=40, shared_gate=True, normed=False), "qkv_bias": True},
    "qwen2_moe, no biases": {"experts": replace(ALL, layers=(), ffn=8, shared_ffn=40, shared_gate=True)},
    "qwen3_moe": {"experts": replace(ALL, ffn=8, normed=False), "qk_norm": "head", "windows": (8, 8), "qkv_bias": True, "out_bias": True},
    "olmoe": {"experts": ALL, "qk_norm": "projection"},
    "granitemoe": {"experts": ALL, "naming": "granitemoe", "embed_scale": 12.0, "logit_divisor": 4.0, "attention_scale": 0.1},
    "granitemoeshared": {"experts": replace(ALL, shared_ffn=40), "naming": "granitemoe", "attention_scale": 1.0},
    "glm4_moe": {
        "experts": replace(ALL, layers=(1,), ffn=8, shared_ffn=16, sigmoid=True, scale=2.5),
        "naming": "glm4_moe",
        "rotary_dim": 8,
        "qk_norm": "head",
    },
    "granite": {"embed_scale": 12.0, "residual_scale": 0.22, "attention_scale": 0.0078125, "logit_divisor": 49.0, "tied": True},
    "smollm3": {"unrotated": (1,), "mlp_bias": True},
    "smollm3, windowed": {"unrotated": (0, 1), "windows": (None, 8)},
    "olmo2": {"qk_norm": "projection", "pre_norms": False, "post_norms": True, "qkv_bias": True, "out_bias": True},
    "phi3": {"naming": "phi3", "windows": (2047, 2047)},
    "phi3, part of each head turned": {
        "naming": "phi3",
        "rotary_dim": 12,
        "rope_scaling": RopeScaling(kind="longrope", original_max_len=256, attention_factor=1.19, factors=(1.0, 1.2, 1.4, 2.0, 3.0, 4.0)),
    },
    "olmo3": {
        "qk_norm": "projection",
        "pre_norms": False,
        "post_norms": True,
        "windows": (8, None),
        "local_rope_theta": 500000.0,
        "rope_scaling": RopeScaling(kind="yarn", factor=8.0, original_max_len=32, attention_factor=1.2),
    },
    "glm4": {"naming": "glm4", "rotary_dim": 8, "interleaved": True, "post_norms": True, "qkv_bias": True},
    "cohere": {"norm": "layer", "parallel": True, "interleaved": True, "qk_norm": "own", "logit_divisor": 16.0, "tied": True},
    "cohere2": {
        **{"norm": "layer", "parallel": True, "interleaved": True, "logit_divisor": float(np.float32(1 / 0.3)), "tied": True},
        **{"windows": (8, None), "unrotated": (1,)},
    },
    "starcoder2": {
        **{"norm": "layer_biased", "mlp": "gelu", "naming": "starcoder2", "windows": (8, 8)},
        **{"qkv_bias": True, "out_bias": True, "mlp_bias": True},
    },
    "internlm2": {"naming": "internlm2", "qkv_bias": True, "out_bias": True},
    "deepseek_v2": LATENT_VARIANT
    | {
        "experts": replace(ALL, layers=(1,), ffn=8, shared_ffn=16, scale=1.5, normed=False, groups=3, groups_per_token=2),
        "rope_scaling": RopeScaling(kind="yarn", factor=8.0, original_max_len=32, attention_factor=1.0),
        "attention_scale": 20**-0.5 * (0.1 * 0.707 * math.log(8.0) + 1) ** 2,
        "interleaved": True,
    },
    "deepseek_v3": LATENT_VARIANT
    | {
        "experts": replace(ALL, layers=(0, 1), ffn=8, shared_ffn=8, sigmoid=True, scale=2.5, groups=2, groups_per_token=1),
        "latent": replace(LATENT, q_rank=20),
        "attention_scale": 20**-0.5,
        "qkv_bias": True,
        "out_bias": True,
    },
    "seed_oss": {"qkv_bias": True, "mlp_bias": True},
    "exaone4": {"qk_norm": "head", "pre_norms": False, "post_norms": True, "windows": (8, None), "unrotated": (1,)},
    "gemma": {"embed_scale": 8.0, "norm": "rms_offset", "mlp": "geglu", "tied": True},
    "gemma2": GEMMA2_VARIANT,
    "gemma3_text": GEMMA2_VARIANT
    | {"qk_norm": "head", "local_rope_theta": 5000.0, "attention_soft_cap": None, "rope_scaling": RopeScaling(kind="linear", factor=8.0)},
    "llama": {"rope_scaling": RopeScaling(kind="yarn", factor=4.0, original_max_len=64, attention_factor=1.1, beta_whole=False)},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_family_says_its_variants_and_reads_them_again(tmp_path, name):
    spec = replace(read(tmp_path, LLAMA), **VARIANTS[name])
    config = to_hf_config(spec)
    assert config["model_type"] == name.partition(",")[0]
    assert read(tmp_path, config) == spec


@given(spec=specs())
def test_a_spec_survives_the_way_to_a_config_and_back(tmp_path_factory, spec):
    assert read(tmp_path_factory.mktemp("config"), to_hf_config(spec)) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"out_bias": True, "qk_norm": "head"},
        {"qk_norm": "head", "mlp_bias": True},
        {"windows": (8, 16)},
        {"unrotated": (0,), "qk_norm": "head"},
    ],
)
def test_a_spec_that_no_family_has_is_refused(tmp_path, change):
    with pytest.raises(ConfigError, match="LlamaForCausalLM"):
        to_hf_config(replace(read(tmp_path, LLAMA), **change))
