"""What families with experts say of them in config.json, and what is refused."""

import json

import pytest

from muxjax.errors import ConfigError
from muxjax.specs.config import read_spec
from muxjax.specs.known_families import BY_TYPE
from tests.specs.test_config import LLAMA, without

MOE_FIELDS = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoeshared": {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 40},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_scaling": {"rope_type": "default"}},
    "glm4_moe": {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {"num_key_value_heads": 4},
}
"""What the families with experts must say of them."""
MAY_LACK = ("shared_intermediate_size", "num_key_value_heads")


@pytest.fixture
def read(tmp_path):
    def write_and_read(config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return read_spec(tmp_path)

    return write_and_read


def moe(model_type: str, **fields):
    """A config.json of a family with experts."""
    return LLAMA | {"architectures": [BY_TYPE[model_type].architecture]} | MOE_FIELDS[model_type] | fields


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({}, (0, 1, 2, 3, 4)),
        ({"decoder_sparse_step": 2}, (1, 3)),
        ({"mlp_only_layers": [0, 4]}, (1, 2, 3)),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [1]}, (3,)),
    ],
)
def test_a_qwen_says_which_layers_have_experts(read, fields, layers):
    spec = read(moe("qwen3_moe", num_hidden_layers=5, **fields))
    assert spec.experts and spec.experts.layers == layers
    assert len(spec.dense_layers) == 5 - len(layers)


@pytest.mark.parametrize(("first", "layers"), [(None, (1, 2)), (0, (0, 1, 2)), (2, (2,)), (9, ())])
def test_the_first_layers_of_a_glm_are_dense(read, first, layers):
    experts = read(moe("glm4_moe", num_hidden_layers=3, first_k_dense_replace=first)).experts
    assert experts and experts.layers == layers


@pytest.mark.parametrize(
    ("config", "field"),
    [
        *((without(moe(name), field), field) for name, fields in MOE_FIELDS.items() for field in fields if field not in MAY_LACK),
        (moe("mixtral", num_experts_per_tok=5), "num_experts_per_tok"),
        (moe("mixtral", num_experts=8), "num_experts"),
        (moe("qwen2_moe", num_experts=0), "num_experts"),
        (moe("qwen2_moe", num_experts=10**6), "num_experts"),
        (moe("qwen2_moe", num_local_experts=4), "num_local_experts"),
        (moe("qwen2_moe", use_sliding_window=True), "use_sliding_window"),
        (moe("qwen3_moe", decoder_sparse_step=0), "decoder_sparse_step"),
        (moe("qwen3_moe", mlp_only_layers=[True]), "mlp_only_layers"),
        (moe("qwen3_moe", mlp_only_layers=3), "mlp_only_layers"),
        (moe("qwen3_moe", moe_intermediate_size=2**40), "moe_intermediate_size"),
        (moe("olmoe", clip_qkv=8.0), "clip_qkv"),
        (moe("olmoe", head_dim=32), "head_dim"),
        (moe("granitemoeshared", shared_intermediate_size=-1), "shared_intermediate_size"),
        (moe("gpt_oss", swiglu_alpha=1.5), "swiglu_alpha"),
        (moe("gpt_oss", swiglu_limit=0), "swiglu_limit"),
        (moe("gpt_oss", quantization_config={"quant_method": "awq"}), "quantization_config"),
        (moe("mixtral", quantization_config={"quant_method": "mxfp4"}), "quantization_config"),
        (moe("glm4_moe", n_group=2), "n_group"),
        (moe("glm4_moe", topk_group=2), "topk_group"),
        (moe("glm4_moe", first_k_dense_replace=-1), "first_k_dense_replace"),
        (moe("deepseek_v3", num_key_value_heads=2), "num_key_value_heads"),
        (moe("deepseek_v3", head_dim=16), "head_dim"),
        (moe("deepseek_v3", qk_head_dim=100), "qk_head_dim"),
        (moe("deepseek_v3", n_group=7), "n_group"),
        (moe("deepseek_v3", n_routed_experts=8, num_experts_per_tok=2), "n_group"),
        (moe("deepseek_v3", topk_group=9), "n_group"),
        (moe("deepseek_v3", num_experts_per_tok=200), "num_experts_per_tok"),
        (moe("deepseek_v3", scoring_func="softmax"), "scoring_func"),
        (moe("deepseek_v3", kv_lora_rank=0), "kv_lora_rank"),
        (moe("deepseek_v3", qk_rope_head_dim=7), "qk_rope_head_dim"),
        (moe("deepseek_v2", topk_method="noaux_tc"), "topk_method"),
        (moe("deepseek_v2", topk_method="group_limited_greedy"), "n_group"),
        (moe("deepseek_v2", norm_topk_prob=True), "norm_topk_prob"),
        (moe("glm4_moe", n_shared_experts=0), "n_shared_experts"),
    ],
)
def test_what_nobody_can_compute_of_experts_is_refused_by_name(read, config, field):
    with pytest.raises(ConfigError) as refused:
        read(config)
    assert refused.value.field == field and "config.json" in str(refused.value)


@pytest.mark.parametrize("architecture", ["DeepseekV32ForCausalLM", "GraniteMoeHybridForCausalLM", "PhimoeForCausalLM"])
def test_other_mixtures_are_refused_by_their_architecture(read, architecture):
    with pytest.raises(ConfigError, match=architecture) as refused:
        read(moe("mixtral") | {"architectures": [architecture]})
    assert refused.value.field == "architectures"
