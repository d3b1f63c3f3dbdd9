"""Configurations drawn from all fields that are known: what is accepted computes what transformers computes from the same file."""

import importlib.util
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from muxjax.errors import ConfigError
from muxjax.models.weights import load
from muxjax.specs.config import read_spec
from muxjax.specs.known_families import FAMILIES
from muxjax.specs.known_fields import HARMLESS, ONLY
from tests.models.golden import dense_logits, seeded_tensors, worst_row

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("needs torch and transformers, which pin Python: `.ci/run` installs them under 3.11", allow_module_level=True)

from tests.models.torch_reference import TorchModel

SEED = 7
TOKENS = tuple(np.random.RandomState(SEED).randint(0, 48, 24).tolist())
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
SHAPE = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
ROPES = (
    {},
    {"rope_theta": 500.0},
    {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "default"}, "rope_theta": 1000.0},
    {"rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 100.0, **LLAMA3}},
    {"rope_parameters": {"rope_type": "llama3", **LLAMA3}, "original_max_position_embeddings": 16},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 1.0}},
    {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12}, "rope_theta": 100.0},
    {"rope_parameters": {"rope_type": "yarn", "factor": 0.5, "rope_theta": 50.0, "beta_fast": 8, "beta_slow": 0.5, "truncate": False}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "mscale": 1.5, "mscale_all_dim": 0.7}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "mscale": 1.5, "attention_factor": 0.9}},
    {"rope_scaling": {"type": "dynamic", "factor": 3.0}},
)
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.4, 2.5, 4.0], "long_factor": [2.0, 3.0, 5.0, 8.0]}
ROPE_BY_KIND = {
    "full_attention": {"rope_type": "linear", "rope_theta": 200.0, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12}
GEMMA = {
    "hidden_activation": st.just("gelu_pytorch_tanh"),
    "query_pre_attn_scalar": st.sampled_from((3, 24)),
    "attn_logit_softcapping": st.sampled_from((None, 2.0)),
    "final_logit_softcapping": st.sampled_from((None, 5.0)),
}
OWN = {
    "granite": {
        "embedding_multiplier": st.sampled_from((1, 3.5)),
        "attention_multiplier": st.sampled_from((0.2, 1.0)),
        "residual_multiplier": st.sampled_from((0.22, 1)),
        "logits_scaling": st.sampled_from((3, 8.0)),
    },
    "smollm3": {
        "no_rope_layers": st.sampled_from(([1, 0], [0, 0, 1], [1, 1])),
        "no_rope_layer_interval": st.integers(1, 3),
    },
    "olmo3": {
        "rope_theta": st.sampled_from((500.0, 500000.0)),
        "rope_scaling": st.sampled_from((None, YARN)),
        "rope_parameters": st.sampled_from((None, ROPE_BY_KIND, {"full_attention": YARN | {"rope_theta": 90.0}})),
    },
    "seed_oss": {"attention_out_bias": st.booleans(), "residual_dropout": st.just(0.1)},
    "glm4": {"partial_rotary_factor": st.sampled_from((0.25, 0.5, 1.0))},
    "cohere": {"logit_scale": st.sampled_from((0.3, 1.0)), "use_qk_norm": st.booleans(), "layer_norm_eps": st.sampled_from((1e-5, 0.1))},
    "cohere2": {
        "logit_scale": st.sampled_from((0.3, 1.0)),
        "sliding_window_pattern": st.integers(1, 3),
        "layer_norm_eps": st.sampled_from((1e-5, 0.1)),
        "rotary_pct": st.just(1.0),
    },
    "starcoder2": {
        "hidden_act": st.just("gelu_pytorch_tanh"),
        "use_bias": st.booleans(),
        "norm_epsilon": st.sampled_from((1e-5, 0.1)),
        "residual_dropout": st.just(0.1),
        "layer_norm_epsilon": st.just(0.5),
    },
    "internlm2": {"bias": st.booleans()},
    "internlm3": {"bias": st.booleans(), "qkv_bias": st.booleans()},
    "exaone4": {"sliding_window_pattern": st.sampled_from((1, 2, 3))},
    "gemma": {"hidden_act": st.sampled_from(("gelu", "gelu_pytorch_tanh"))},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA
    | {
        "sliding_window_pattern": st.integers(1, 3),
        "rope_local_base_freq": st.sampled_from((100.0, 5000.0)),
        "rope_scaling": st.sampled_from((None, {"rope_type": "linear", "factor": 8.0}, {"type": "linear", "factor": 8.0})),
        "rope_parameters": st.sampled_from((None, ROPE_BY_KIND, {"full_attention": {"rope_type": "default", "rope_theta": 300.0}})),
    },
    "phi3": {
        "partial_rotary_factor": st.sampled_from((0.5, 0.8, 1.0)),
        "rope_scaling": st.sampled_from((None, LONGROPE, LONGROPE | {"attention_factor": 1.3}, LONGROPE | {"rope_type": "su"})),
        "original_max_position_embeddings": st.sampled_from((24, 48)),
    },
}
"""What single families read besides. The lists of longrope fit head_dim 8."""
EXPERTS = {
    "num_experts": st.integers(2, 5),
    "num_experts_per_tok": st.integers(1, 3),
    "moe_intermediate_size": st.just(24),
}
SPARSE = {
    "decoder_sparse_step": st.integers(1, 3),
    "mlp_only_layers": st.sampled_from((None, [], [0], [1], [0, 1])),
    "norm_topk_prob": st.booleans(),
    "router_aux_loss_coef": st.just(0.7),
    "output_router_logits": st.booleans(),
}
LOCAL_EXPERTS = {"num_local_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 3)}
NEEDED = {
    "mixtral": LOCAL_EXPERTS,
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": st.just(20)},
    "qwen3_moe": EXPERTS,
    "olmoe": {"num_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 3)},
    "granitemoe": LOCAL_EXPERTS,
    "granitemoeshared": LOCAL_EXPERTS,
    "gpt_oss": LOCAL_EXPERTS,
    "glm4_moe": {"n_routed_experts": st.integers(2, 5), "num_experts_per_tok": st.integers(1, 3), "moe_intermediate_size": st.just(24)},
}
LATENT = {
    **{"kv_lora_rank": st.sampled_from((12, 16)), "q_lora_rank": st.sampled_from((None, 12)), "qk_nope_head_dim": st.just(8)},
    **{"qk_rope_head_dim": st.sampled_from((4, 8)), "v_head_dim": st.sampled_from((4, 12)), "moe_intermediate_size": st.just(24)},
    **{"n_routed_experts": st.sampled_from((4, 6)), "num_experts_per_tok": st.integers(1, 3), "first_k_dense_replace": st.integers(0, 2)},
}
NEEDED |= {
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT | {"n_group": st.integers(1, 3), "topk_group": st.integers(1, 2)},
}
"""What these families refuse to do without."""
OWN |= {
    "mixtral": {"num_experts": st.integers(2, 5), "router_jitter_noise": st.just(0.5)},
    "qwen2_moe": SPARSE | {"qkv_bias": st.booleans()},
    "qwen3_moe": SPARSE | {"num_local_experts": st.integers(2, 5)},
    "olmoe": {"norm_topk_prob": st.booleans()},
    "granitemoe": OWN["granite"],
    "granitemoeshared": OWN["granite"] | {"shared_intermediate_size": st.sampled_from((0, 20))},
    "gpt_oss": {"num_experts": st.integers(2, 5), "swiglu_limit": st.sampled_from((0.5, 7.0)), "swiglu_alpha": st.just(1.702)},
    "deepseek_v2": {
        "n_group": st.integers(1, 3),
        "topk_group": st.integers(1, 2),
        "topk_method": st.sampled_from(("greedy", "group_limited_greedy")),
        "n_shared_experts": st.integers(1, 2),
        "norm_topk_prob": st.booleans(),
        "routed_scaling_factor": st.sampled_from((1.0, 2.5)),
    },
    "deepseek_v3": {
        "n_shared_experts": st.integers(1, 2),
        "norm_topk_prob": st.booleans(),
        "rope_interleave": st.booleans(),
        "routed_scaling_factor": st.sampled_from((1.0, 2.5)),
        "num_nextn_predict_layers": st.integers(0, 1),
    },
    "glm4_moe": {
        "first_k_dense_replace": st.integers(0, 2),
        "n_group": st.just(1),
        "n_shared_experts": st.integers(1, 2),
        "norm_topk_prob": st.booleans(),
        "num_nextn_predict_layers": st.integers(0, 1),
        "partial_rotary_factor": st.sampled_from((0.25, 0.5, 1.0)),
        "routed_scaling_factor": st.sampled_from((1.0, 2.5)),
        "use_qk_norm": st.booleans(),
    },
}
KINDS = st.lists(st.sampled_from(("full_attention", "sliding_attention")), min_size=2, max_size=2)
READ = {
    "head_dim": st.sampled_from((4, 8, 12)),
    "attention_bias": st.booleans(),
    "mlp_bias": st.booleans(),
    "sliding_window": st.sampled_from((None, 3, 8)),
    "use_sliding_window": st.booleans(),
    "max_window_layers": st.integers(0, 3),
    "layer_types": KINDS,
    "tie_word_embeddings": st.booleans(),
    "rms_norm_eps": st.sampled_from((1e-6, 0.1)),
    "is_causal": st.booleans(),
}
ODD = {
    **dict.fromkeys(
        ("attention_dropout", "hidden_dropout", "resid_pdrop", "temperature", "top_p", "repetition_penalty", "initializer_range"), (0.7,)
    ),
    **dict.fromkeys(
        ("use_cache", "is_decoder", "tie_encoder_decoder", "do_sample", "use_bfloat16", "use_flash_attention_2"), (True, False)
    ),
    **dict.fromkeys(("bos_token_id", "pretraining_tp", "original_max_position_embeddings", "max_length", "seq_length"), (1, 5)),
    "chunk_size_feed_forward": (0, 8),
    "tie_last_hidden_states": (True, False),
}
"""Harmless fields, under values that would show if they were not."""
HARMLESS_NAMES = {name for names in HARMLESS.values() for name in names}


@st.composite
def configs(draw):
    family = draw(st.sampled_from(FAMILIES))
    kv_heads, group = draw(st.sampled_from(((1, 4), (2, 2), (2, 1), (4, 1))))
    config = SHAPE | {"architectures": [family.architecture], "model_type": family.model_type, "torch_dtype": "float32", "head_dim": 8}
    config |= {"num_key_value_heads": kv_heads, "num_attention_heads": kv_heads * group} | draw(st.sampled_from(ROPES))
    needed, own = NEEDED.get(family.model_type, {}), OWN.get(family.model_type, {})
    config |= draw(st.fixed_dictionaries(needed, optional=READ | own))
    odd = {name: draw(st.sampled_from(ODD[name])) for name in draw(st.sets(st.sampled_from(tuple(ODD)), max_size=3))}
    only = draw(st.sampled_from((*((name, value) for name, values in ONLY.items() for value in values), ("nothing", None))))
    if family.norm_eps != "rms_norm_eps":
        config.pop("rms_norm_eps", None)
    if family.head_dim_field != "head_dim":
        config.pop("head_dim")
    return odd | config | ({only[0]: only[1]} if only[0] not in (*config, *GEMMA, *family.reads) else {})


def test_odd_values_are_those_of_harmless_fields():
    assert ODD.keys() <= HARMLESS_NAMES


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(config=configs())
def test_an_accepted_configuration_computes_what_transformers_does(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "config.json").write_text(json.dumps(config))
    try:
        spec = read_spec(folder)
    except ConfigError as error:
        assert error.field in str(error)
        return
    save_file(seeded_tensors(spec, SEED), folder / "model.safetensors", metadata={"format": "pt"})
    theirs = TorchModel(folder)
    assert theirs.mismatched == ()
    try:
        expected = theirs.logits(TOKENS)
    except ValueError as error:  # of a model that has no window in any layer, and could have
        assert set(spec.windows) == {None} and "Could not find a `sliding_window` argument" in str(error)
        return
    assert worst_row(dense_logits(spec, load(folder, spec, progress=False), TOKENS), expected) < 1e-5


def test_a_head_of_its_own_in_a_tied_folder_is_what_transformers_uses(tmp_path):
    config = SHAPE | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32", "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(seeded_tensors(read_spec(tmp_path), SEED), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    theirs = TorchModel(tmp_path).logits(TOKENS)
    spec = read_spec(tmp_path)
    assert worst_row(dense_logits(spec, load(tmp_path, spec, progress=False), TOKENS), theirs) < 1e-5
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["lm_head.weight"]  # what ignoring it would compute, as a near miss
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tied = read_spec(tmp_path)
    assert worst_row(dense_logits(tied, load(tmp_path, tied, progress=False), TOKENS), theirs) > 1e-2
