"""What config.json may hold beside what is read: harmless, refused by name, or let through by the switch."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.specs.config import read_spec
from muxjax.specs.known_families import FAMILIES
from muxjax.specs.known_fields import HARMLESS, ONLY
from tests.specs.test_config import LLAMA, LLAMA3_ROPE, MISTRAL, QWEN2, without
from tests.specs.test_experts import MOE_FIELDS

GRANITE, OLMO2, PHI3 = (LLAMA | {"architectures": [f"{name}ForCausalLM"]} for name in ("Granite", "Olmo2", "Phi3"))
QWEN3 = LLAMA | {"architectures": ["Qwen3ForCausalLM"]}
LISTED = [name for names in HARMLESS.values() for name in names]
NUMBERS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size")
READ = (
    *(*NUMBERS, "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings"),
    *("torch_dtype", "dtype", "eos_token_id", "architectures", "model_type", "attention_bias", "mlp_bias", "layer_types"),
    *("sliding_window", "use_sliding_window", "max_window_layers", "no_rope_layers", "no_rope_layer_interval"),
    *("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"),
    *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"),
    *("shared_expert_intermediate_size", "shared_intermediate_size", "n_shared_experts", "first_k_dense_replace", "decoder_sparse_step"),
    *("mlp_only_layers", "routed_scaling_factor", "qkv_bias"),
    *("query_pre_attn_scalar", "sliding_window_pattern", "rope_local_base_freq", "hidden_activation", "attention_out_bias"),
)


@pytest.fixture
def read(tmp_path):
    def write_and_read(config, **options):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return read_spec(tmp_path, **options)

    return write_and_read


def refusal(read, config, **options) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        read(config, **options)
    return refused.value


def test_a_name_stands_in_one_list():
    assert len(set(LISTED)) == len(LISTED)
    assert not set(LISTED) & {*ONLY, *READ}


def test_harmless_fields_change_nothing_and_are_not_warned_of(read, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(LLAMA | dict.fromkeys(LISTED, 7)) == read(LLAMA)
    assert not caplog.records


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("auto_map", {"AutoConfig": "a.B"}, r"auto_map=.* is not supported: code of a checkpoint's own is not run"),
        ("clip_qkv", 8.0, r"clip_qkv=8\.0 is not supported: no model that needs it is served"),
    ],
)
def test_what_no_value_is_right_for_is_told_with_what_to_do(read, field, value, said):
    with pytest.raises(ConfigError, match=said):
        read(LLAMA | {field: value})


def test_what_is_not_known_is_refused_by_name_and_served_without_by_the_switch(read, caplog):
    config = LLAMA | {"zeta_multiplier": 1, "alpha": {"beta": 2}, "nothing": None}
    error = refusal(read, config)
    assert error.field == "alpha"
    assert "config.json has fields that are not known" in str(error)
    assert refusal(read, LLAMA | {"residual_multiplier": 0.5}).field == "residual_multiplier"  # which another family reads
    assert "alpha = {'beta': 2}, zeta_multiplier = 1; allow_unknown_config serves" in str(error)
    with caplog.at_level(logging.WARNING):
        assert read(config, allow_unknown=True) == read(LLAMA)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["alpha, zeta_multiplier"]


@pytest.mark.parametrize("kind", [{"rope_type": "linear", "factor": 2.0}, {"rope_type": "llama3", **LLAMA3_ROPE}, {"rope_type": "default"}])
def test_what_is_not_known_of_the_rotary_embedding_is_refused_too(read, kind):
    config = LLAMA | {"rope_scaling": {**kind, "attention_factor": 1.5}}
    assert refusal(read, config).field == "attention_factor"
    assert "rope_scaling" in str(refusal(read, config))
    assert read(config, allow_unknown=True) == read(LLAMA | {"rope_scaling": kind})


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (LLAMA | {"is_causal": False}, "is_causal"),
        (QWEN3 | {"is_causal": 0}, "is_causal"),
        (QWEN2 | {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (LLAMA | {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        (LLAMA | {"rope_interleaved": True}, "rope_interleaved"),
        (LLAMA | {"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}, "auto_map"),
        (LLAMA | {"quantization": {"bits": 4}}, "quantization"),
        (LLAMA | {"clip_qkv": 8.0}, "clip_qkv"),
        (LLAMA | {"sliding_window": 32}, "sliding_window"),
        (LLAMA | {"use_sliding_window": True}, "use_sliding_window"),
        (MISTRAL | {"use_sliding_window": True}, "use_sliding_window"),
        (MISTRAL | {"attention_bias": True}, "attention_bias"),
        (QWEN2 | {"attention_bias": False}, "attention_bias"),
        (QWEN2 | {"mlp_bias": True}, "mlp_bias"),
        (QWEN3 | {"mlp_bias": True}, "mlp_bias"),
        (QWEN2 | {"use_qk_norm": True}, "use_qk_norm"),
        (QWEN3 | {"use_qk_norm": False}, "use_qk_norm"),
        (LLAMA | {"model_type": "mistral"}, "model_type"),
        (QWEN2 | {"model_type": "qwen3"}, "model_type"),
        (LLAMA | {"architectures": ["LlamaForCausalLM", "MistralForCausalLM"]}, "architectures"),
        (LLAMA | {"architectures": [["LlamaForCausalLM"]]}, "architectures"),
        (LLAMA | {"dtype": "float16"}, "dtype"),
        (LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "rope_theta"),
        (LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}}, "rope_parameters"),
        (LLAMA | {"rope_scaling": {"rope_type": "linear", "type": "default", "factor": 2}}, "rope_type"),
        (
            LLAMA | {"rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE}, "original_max_position_embeddings": 32},
            "original_max_position_embeddings",
        ),
        (LLAMA | {"num_attention_heads": 6}, "hidden_size"),
        (GRANITE | {"sliding_window": 8}, "sliding_window"),
        (OLMO2 | {"mlp_bias": True}, "mlp_bias"),
        (PHI3 | {"attention_bias": True}, "attention_bias"),
        (PHI3 | {"lm_head_bias": True}, "lm_head_bias"),
        (PHI3 | {"auto_map": {"AutoModelForCausalLM": "modeling_phi3.Mine"}}, "auto_map"),
    ],
)
def test_what_changes_the_maths_or_contradicts_is_refused_whatever_the_switch(read, config, field):
    for allow in (False, True):
        assert refusal(read, config, allow_unknown=allow).field == field


@pytest.mark.parametrize(
    "config",
    [
        LLAMA | {"is_causal": True, "sliding_window": None, "use_sliding_window": False, "pruned_heads": {}, "max_window_layers": 28},
        MISTRAL | {"attention_bias": False, "use_sliding_window": False},
        QWEN2 | {"attention_bias": True, "use_mrope": False},
        LLAMA | {"model_type": "llama", "dtype": "torch.bfloat16"},
        LLAMA | {"rope_parameters": {"rope_type": "default", "type": "default", "rope_theta": 5e5, "partial_rotary_factor": 1.0}},
        LLAMA | {"num_attention_heads": 6, "head_dim": 16},
    ],
)
def test_the_same_fields_are_served_under_values_that_ask_for_nothing(read, config):
    assert isinstance(read(config), ModelSpec)


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("num_hidden_layers", 1_000_000, "1024"),
        ("vocab_size", 10**30, "4194304"),
        ("hidden_size", 2**40, "4194304"),
        ("intermediate_size", 1e300, "4194304"),
        ("head_dim", 2**22, "4194304 for all of num_attention_heads=4"),
        ("max_position_embeddings", 2**40, "134217728"),
    ],
)
def test_absurd_sizes_are_refused_at_once_with_the_limit(read, field, value, most):
    error = refusal(read, LLAMA | {field: value})
    assert error.field == field
    assert f"at most {most}" in str(error)


def test_a_field_that_stands_twice_is_refused(tmp_path):
    text = json.dumps(LLAMA)
    (tmp_path / "config.json").write_text(text[:-1] + ', "hidden_size": 128}')
    with pytest.raises(ConfigError, match="'hidden_size' stands twice, as 64 and as 128"):
        read_spec(tmp_path)
    (tmp_path / "config.json").write_text(text[:-1] + ', "hidden_size": 64}')
    assert read_spec(tmp_path).width == 64


@pytest.mark.parametrize("text", ["[" * 100_000, '{"architectures": ' * 100_000, '{"hidden_size": ' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_deep_nesting_is_refused_in_words(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json cannot be read as JSON: it is nested too deeply"):
        read_spec(tmp_path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from((-1, 0, 1, 2, 10**9, 1e400, "silu", "llama")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*READ, "rope_type", "type", "factor", "x")), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    family=st.sampled_from(
        [LLAMA | {"architectures": [family.architecture]} | MOE_FIELDS.get(family.model_type, {}) for family in FAMILIES]
    ),
    change=st.dictionaries(st.sampled_from((*READ, *ONLY, "unheard_of")), JSON, min_size=1, max_size=3),
)
def test_any_values_of_fields_make_a_spec_or_a_refusal_that_names_a_field(read, family, change):
    try:
        spec = read(family | change)
    except ConfigError as error:
        assert error.field
        assert "config.json" in str(error)
    else:
        assert spec == read(without(family | change, "unheard_of"))
        assert change.get("unheard_of") is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_a_null_is_no_other_default_than_a_field_left_out(read, family):
    config = LLAMA | MOE_FIELDS.get(family.model_type, {}) | {"architectures": [family.architecture], "intermediate_size": 8}
    silent = without(config, *family.defaults)
    for field in ("rms_norm_eps", "tie_word_embeddings", "attention_bias", "qkv_bias", "norm_topk_prob"):
        if field in family.defaults:
            assert read(silent | {field: None}) == read(silent)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0])
def test_a_rotated_part_among_rope_parameters_stands_for_the_default(read, factor):
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": factor}
    spec = read(without(LLAMA, "rope_theta") | {"architectures": ["Glm4ForCausalLM"], "rope_parameters": rope})
    assert (spec.rotary_dim or spec.head_dim) == factor * spec.head_dim
