"""config.json to ModelSpec."""

import json
import math

import pytest

from muxjax.errors import ConfigError
from muxjax.model_spec import RopeScaling
from muxjax.specs.config import read_spec

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}
LLAMA3_ROPE = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 4}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "sliding_window": 32}


@pytest.fixture
def read(tmp_path):
    """Reads a config given as a dictionary, after writing it."""

    def write_and_read(config, generation=None, **options):
        (tmp_path / "config.json").write_text(json.dumps(config))
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(json.dumps(generation))
        return read_spec(tmp_path, **options)

    return write_and_read


def without(config, *names):
    return {name: value for name, value in config.items() if name not in names}


def test_a_llama_config_says_every_number(read):
    spec = read(LLAMA)
    assert (spec.vocab, spec.width, spec.ffn, spec.layers, spec.heads, spec.kv_heads) == (128, 64, 96, 2, 4, 2)
    assert (spec.head_dim, spec.max_len, spec.rope_theta, spec.dtype, spec.eos_ids) == (16, 256, 500000.0, "bfloat16", (2,))
    assert spec.windows == (None, None)
    assert not (spec.qkv_bias or spec.out_bias or spec.mlp_bias or spec.qk_norm or spec.tied)


def test_the_spelling_of_transformers_5_means_the_same(read):
    old = LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    new = without(LLAMA, "torch_dtype", "rope_theta") | {
        "dtype": "bfloat16",
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0},
    }
    assert read(new) == read(old)
    assert read(new).rope_scaling == RopeScaling(kind="linear", factor=2.0)


def test_llama3_scaling_is_read_whole(read):
    spec = read(LLAMA | {"rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE}})
    expected = RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_len=64)
    assert spec.rope_scaling == expected


def test_a_default_rope_type_scales_nothing(read):
    assert read(LLAMA | {"rope_scaling": {"rope_type": "default"}}).rope_scaling is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, (False, False, False)),
        (LLAMA | {"attention_bias": True}, (True, True, False)),
        (LLAMA | {"mlp_bias": True}, (False, False, True)),
        (MISTRAL, (False, False, False)),
        (QWEN2, (True, False, False)),
        (LLAMA | {"architectures": ["Qwen3ForCausalLM"], "attention_bias": True}, (True, True, False)),
    ],
)
def test_each_family_has_its_biases(read, config, expected):
    spec = read(config)
    assert (spec.qkv_bias, spec.out_bias, spec.mlp_bias) == expected


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (MISTRAL, (32, 32)),
        (MISTRAL | {"sliding_window": None}, (None, None)),
        (without(MISTRAL, "sliding_window"), (4096, 4096)),
        (QWEN2 | {"sliding_window": 32}, (None,) * 4),
        (QWEN2 | {"sliding_window": 32, "use_sliding_window": True, "max_window_layers": 3}, (None, None, None, 32)),
        (
            QWEN2 | {"sliding_window": 8, "use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"] * 2},
            (8, None, 8, None),
        ),
        (LLAMA | {"layer_types": ["full_attention"] * 2}, (None, None)),
    ],
)
def test_windows_are_those_of_the_family(read, config, windows):
    assert read(config).windows == windows


def test_qwen3_norms_queries_and_keys_and_has_its_own_head_dim(read):
    spec = read(LLAMA | {"architectures": ["Qwen3ForCausalLM"]})
    assert spec.qk_norm
    assert spec.head_dim == 128


def test_a_config_without_architectures_goes_by_its_model_type(read):
    assert read(without(LLAMA, "architectures") | {"model_type": "llama"}) == read(LLAMA)


def test_chat_models_end_by_the_ids_of_their_generation_config(read):
    assert read(LLAMA | {"eos_token_id": [2, 5]}, generation={"eos_token_id": [7, 2]}).eos_ids == (2, 5, 7)


def test_no_eos_is_no_ids(read):
    assert read(LLAMA | {"eos_token_id": None}).eos_ids == ()
    assert read(without(QWEN2, "eos_token_id")).eos_ids == ()


def test_dtype_and_length_can_be_overridden(read):
    spec = read(LLAMA, dtype="float32", max_len=100)
    assert (spec.dtype, spec.max_len) == ("float32", 100)


def test_a_file_that_names_no_dtype_is_float32(read):
    assert read(without(LLAMA, "torch_dtype")).dtype == "float32"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"architectures": ["DeepseekV32ForCausalLM"]}, "architectures", "DeepseekV32ForCausalLM"),
        ({"architectures": None}, "architectures", "LlamaForCausalLM"),
        ({"vocab_size": None}, "vocab_size", "missing"),
        ({"hidden_size": "64"}, "hidden_size", "'64'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers", "over 0"),
        ({"num_key_value_heads": 3}, "num_attention_heads", "multiple"),
        ({"head_dim": 15}, "head_dim", "even"),
        ({"rms_norm_eps": -1}, "rms_norm_eps", "-1"),
        ({"hidden_act": "gelu"}, "hidden_act", "'silu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config", "bits"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor", "0.5"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor", "0.5"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping", "50.0"),
        ({"rope_scaling": {"type": "ntk", "factor": 4.0}}, "rope_type", "ntk"),
        ({"rope_scaling": {"rope_type": "proportional", "factor": 4.0}}, "rope_type", "default, linear, llama3, yarn, dynamic, longrope"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "rope_type", "full_attention"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor", "missing"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE, "high_freq_factor": 1.0}}, "high_freq_factor", "over"),
        ({"rope_scaling": "linear"}, "rope_scaling", "object"),
        ({"torch_dtype": "float64"}, "torch_dtype", "float64"),
        ({"eos_token_id": "</s>"}, "eos_token_id", "</s>"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings", "true or false"),
        ({"layer_types": ["full_attention"]}, "layer_types", "2 layers"),
        ({"layer_types": ["sliding_attention"] * 2}, "layer_types", "llama"),
        ({"architectures": ["Qwen2ForCausalLM"], "layer_types": ["sliding_attention"] * 2}, "sliding_window", "in use"),
        ({"architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": None}, "num_key_value_heads", "missing"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 0}, "sliding_window", "over 0"),
    ],
)
def test_what_is_not_supported_is_refused_by_file_field_and_value(read, tmp_path, change, field, said):
    with pytest.raises(ConfigError) as refused:
        read(LLAMA | change)
    assert refused.value.field == field
    assert said in str(refused.value)
    assert str(tmp_path / "config.json") in str(refused.value)
    assert field in str(refused.value)


@pytest.mark.parametrize(
    ("options", "field"), [({"dtype": "int8"}, "dtype"), ({"max_len": 257}, "max_model_len"), ({"max_len": 0}, "max_model_len")]
)
def test_an_override_out_of_range_is_refused(read, options, field):
    with pytest.raises(ConfigError) as refused:
        read(LLAMA, **options)
    assert refused.value.field == field


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_spec(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        read_spec(tmp_path)


def test_yarn_stretches_the_positions_of_the_original_length(read):
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    spec = read(QWEN2 | {"rope_scaling": scaling})
    assert spec.max_len == 1024
    assert spec.rope_scaling == RopeScaling(kind="yarn", factor=4.0, original_max_len=256, attention_factor=0.1 * math.log(4) + 1)
    assert read(QWEN2 | {"rope_scaling": scaling}, max_len=1000).max_len == 1000


def test_dynamic_changes_nothing_up_to_the_length_of_the_model(read):
    assert read(LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}) == read(LLAMA)


PHI3 = LLAMA | {"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 64}
GEMMA3 = {"architectures": ["Gemma3ForCausalLM"], "hidden_act": None, "rope_theta": None}
LONGROPE = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}


def test_longrope_is_served_up_to_its_original_length(read, caplog):
    spec = read(PHI3 | {"rope_scaling": LONGROPE})
    assert spec.max_len == 64
    assert spec.rope_scaling == RopeScaling(
        kind="longrope", original_max_len=64, attention_factor=math.sqrt(1 + math.log(4) / math.log(64)), factors=(1.0,) * 8
    )
    assert "64 positions are served" in caplog.text
    assert read(PHI3 | {"rope_scaling": LONGROPE | {"type": "su"}}) == spec
    with pytest.raises(ConfigError, match=r"max_model_len must be 1 to 64, .* got 65"):
        read(PHI3 | {"rope_scaling": LONGROPE}, max_len=65)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rope_scaling": LONGROPE | {"short_factor": [1.0] * 7}}, "short_factor"),
        ({"rope_scaling": LONGROPE | {"long_factor": [1.0] * 7 + [0]}}, "long_factor"),
        ({"rope_scaling": LONGROPE | {"short_mscale": 1.2}}, "short_mscale"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_type"),
        ({"partial_rotary_factor": 0.1}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.7}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
        ({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1]}, "no_rope_layers"),
        ({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 2]}, "no_rope_layers"),
        ({"architectures": ["GraniteForCausalLM"], "residual_multiplier": 0}, "residual_multiplier"),
        (GEMMA3 | {"hidden_act": "silu"}, "hidden_act"),
        (GEMMA3 | {"hidden_activation": "relu"}, "hidden_activation"),
        (GEMMA3 | {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (GEMMA3 | {"rope_parameters": {"rope_type": "default"}}, "rope_parameters"),
        (GEMMA3 | {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2}}}, "rope_parameters"),
        (GEMMA3 | {"rope_local_base_freq": 5, "rope_parameters": {"sliding_attention": {"rope_theta": 6}}}, "rope_theta"),
        (GEMMA3 | {"rope_scaling": {"type": "linear", "factor": 8}}, "rope_scaling"),
        ({"architectures": ["Olmo3ForCausalLM"], "rope_theta": 1e6}, "rope_theta"),
        ({"architectures": ["Olmo3ForCausalLM"], "rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": False}}, "truncate"),
        ({"architectures": ["Exaone4ForCausalLM"], "sliding_window_pattern": "LLLG"}, "sliding_window_pattern"),
        ({"architectures": ["Exaone4ForCausalLM"], "attention_bias": True}, "attention_bias"),
        (GEMMA3 | {"final_logit_softcapping": 0}, "final_logit_softcapping"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": 1}, "architectures": ["LlamaForCausalLM"]}, "truncate"),
    ],
)
def test_what_a_family_cannot_mean_is_refused_by_its_field(read, change, field):
    with pytest.raises(ConfigError) as refused:
        read(PHI3 | change)
    assert refused.value.field == field


def test_gemma_caps_scores_and_logits_where_a_file_does_not_say_and_not_where_it_says_null(read):
    gemma2 = LLAMA | {"architectures": ["Gemma2ForCausalLM"]}
    silent, null = read(gemma2), read(gemma2 | {"attn_logit_softcapping": None, "final_logit_softcapping": None})
    assert (silent.attention_soft_cap, silent.logit_soft_cap) == (50.0, 30.0)
    assert null.attention_soft_cap is null.logit_soft_cap is None
    assert (silent.windows, silent.head_dim, silent.tied, silent.attention_scale) == ((4096, None), 256, True, 1 / 16)


def test_gemma3_rotates_layers_with_a_window_by_a_theta_of_their_own_as_both_versions_of_transformers_spell_it(read):
    base = without(LLAMA, "rope_theta") | {"architectures": ["Gemma3ForCausalLM"], "sliding_window_pattern": 2}
    old = read(base | {"rope_local_base_freq": 5000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}})
    by_kind = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
    }
    assert (old.windows, old.rope_theta, old.local_rope_theta) == ((4096, None), 1e6, 5000.0)
    assert read(base | {"rope_parameters": by_kind}) == old
    assert read(base).local_rope_theta == 10000.0


def test_smollm3_is_tied_and_leaves_every_fourth_layer_unrotated_where_a_file_does_not_say(read):
    spec = read(without(LLAMA, "rope_theta", "num_key_value_heads") | {"architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 9})
    assert (spec.tied, spec.unrotated, spec.rope_theta, spec.kv_heads) == (True, (3, 7), 2e6, 4)
