"""What published checkpoints of the served families say in config.json: none is refused for a field that changes nothing."""

import json
import logging

import pytest

from muxjax.specs.config import read_spec
from tests.specs.published_further import FURTHER, LLAMA

LLAMA3_ROPE = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "rope_theta": 1000000.0, "sliding_window": None}
QWEN2 = LLAMA | {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "attention_dropout": 0.0,
    "max_window_layers": 28,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
QWEN3 = QWEN2 | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "rope_scaling": None,
    "sliding_window": None,
}
MIXTURE = LLAMA | {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "num_experts_per_tok": 8,
    "output_router_logits": False,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.01,
}
QWEN_EXPERTS = {
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}
PHI3 = LLAMA | {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
    "embd_pdrop": 0.0,
    "original_max_position_embeddings": 4096,
    "resid_pdrop": 0.0,
}
GEMMA = LLAMA | {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "pad_token_id": 0,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
PUBLISHED = {
    "meta-llama/Llama-2-7b-chat-hf": LLAMA | {"_name_or_path": "x", "pretraining_tp": 1, "rope_scaling": None, "torch_dtype": "float16"},
    "meta-llama/Llama-3.1-8B-Instruct": LLAMA
    | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
        "mlp_bias": False,
        "max_position_embeddings": 131072,
        "pretraining_tp": 1,
        "rope_scaling": LLAMA3_ROPE,
        "rope_theta": 500000.0,
        "transformers_version": "4.42.3",
        "vocab_size": 128256,
    },
    "lmsys/vicuna-7b-v1.5": LLAMA
    | {"pad_token_id": 0, "temperature": 0.9, "top_p": 0.6, "transformers_version": "4.31.0", "max_length": 4096},
    "huggyllama/llama-7b": LLAMA | {"pad_token_id": 0, "max_sequence_length": 2048},
    "codellama/CodeLlama-7b-hf": LLAMA | {"rope_scaling": None, "rope_theta": 1000000, "transformers_version": "4.32.0.dev0"},
    "HuggingFaceTB/SmolLM2-135M-Instruct": LLAMA
    | {
        "is_llama_config": True,
        "pad_token_id": 2,
        "rope_interleaved": False,
        "tie_word_embeddings": True,
        "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    },
    "deepseek-ai/deepseek-coder-6.7b-instruct": LLAMA | {"rope_scaling": {"factor": 4.0, "type": "linear"}, "rope_theta": 100000},
    "01-ai/Yi-6B-Chat": LLAMA | {"pad_token_id": 0, "rope_theta": 5000000.0, "pretraining_tp": 1},
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": LLAMA
    | {"attention_bias": False, "mlp_bias": False, "rope_scaling": LLAMA3_ROPE | {"original_max_position_embeddings": 2048}},
    "unsloth/Llama-3.2-1B-Instruct": LLAMA | {"head_dim": 64, "pad_token_id": 128004, "unsloth_fixed": True, "vocab_size": 128256},
    "tiiuae/Falcon3-7B-Instruct": LLAMA | {"head_dim": 256, "mlp_bias": False, "attention_bias": False, "rope_theta": 1000042},
    "utter-project/EuroLLM-1.7B": LLAMA | {"attention_dropout": 0.0, "pad_token_id": None, "attention_bias": False},
    "mistralai/Mistral-7B-v0.1": MISTRAL | {"sliding_window": 4096, "rope_theta": 10000.0, "transformers_version": "4.34.0.dev0"},
    "mistralai/Mistral-7B-Instruct-v0.3": MISTRAL | {"attention_dropout": 0.0, "transformers_version": "4.42.0.dev0"},
    "mistralai/Mistral-Nemo-Instruct-2407": MISTRAL | {"head_dim": 128, "attention_dropout": 0.0, "max_position_embeddings": 131072},
    "HuggingFaceH4/zephyr-7b-beta": MISTRAL | {"pad_token_id": 2, "_name_or_path": "x", "use_cache": True, "sliding_window": 4096},
    "Qwen/Qwen2-0.5B-Instruct": QWEN2 | {"max_window_layers": 24, "sliding_window": 32768, "tie_word_embeddings": True},
    "Qwen/Qwen2.5-7B": QWEN2 | {"use_mrope": False, "transformers_version": "4.40.1"},
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": QWEN2 | {"sliding_window": 4096, "use_mrope": False, "rope_theta": 10000},
    "Qwen/Qwen3-8B": QWEN3 | {"max_window_layers": 36, "transformers_version": "4.51.0"},
    "transformers 4.56, Qwen3": QWEN3 | {"dtype": "bfloat16", "layer_types": ["full_attention"] * 2, "torch_dtype": None},
    "transformers 5, Qwen3": {name: value for name, value in QWEN3.items() if name not in ("torch_dtype", "rope_theta", "rope_scaling")}
    | {
        "dtype": "bfloat16",
        "layer_types": ["full_attention"] * 2,
        "pad_token_id": None,
        "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
        "transformers_version": "5.24.0",
    },
    "ibm-granite/granite-3.3-8b-instruct": LLAMA
    | {
        "architectures": ["GraniteForCausalLM"],
        "model_type": "granite",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_multiplier": 0.0078125,
        "embedding_multiplier": 12.0,
        "logits_scaling": 16.0,
        "mlp_bias": False,
        "residual_multiplier": 0.22,
        "rope_scaling": None,
        "rope_theta": 10000000.0,
        "tie_word_embeddings": True,
    },
    "HuggingFaceTB/SmolLM3-3B": LLAMA
    | {
        "architectures": ["SmolLM3ForCausalLM"],
        "model_type": "smollm3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "layer_types": ["full_attention"] * 2,
        "max_window_layers": 28,
        "mlp_bias": False,
        "no_rope_layer_interval": 4,
        "no_rope_layers": [1, 1],
        "pretraining_tp": 2,
        "rope_scaling": None,
        "rope_theta": 5000000.0,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_cache": False,
        "use_sliding_window": False,
    },
    "allenai/OLMo-2-1124-7B-Instruct": LLAMA
    | {
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "_name_or_path": "x",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "pad_token_id": 1,
        "rope_scaling": None,
        "rope_theta": 500000,
        "use_cache": False,
    },
    "microsoft/Phi-3-mini-4k-instruct": PHI3 | {"rope_scaling": None, "sliding_window": 2047, "tie_word_embeddings": False},
    "microsoft/Phi-4": PHI3 | {"max_position_embeddings": 16384, "original_max_position_embeddings": 16384, "rope_theta": 250000},
    "microsoft/Phi-4-mini-instruct, cut to its original length": PHI3
    | {
        "auto_map": PHI3["auto_map"] | {"AutoTokenizer": "Xenova/gpt-4o"},
        "full_attn_mod": 1,
        "interpolate_factor": 1,
        "lm_head_bias": False,
        "mlp_bias": False,
        "partial_rotary_factor": 0.75,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 24, "long_factor": [1.5] * 24},
        "sliding_window": 262144,
        "tie_word_embeddings": True,
    },
    "allenai/Olmo-3-7B-Instruct": LLAMA
    | {
        "architectures": ["Olmo3ForCausalLM"],
        "model_type": "olmo3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 65536,
        "rope_scaling": {
            "attention_factor": 1.2079441541679836,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "yarn",
        },
        "rope_theta": 500000,
        "sliding_window": 4096,
    },
    "ByteDance-Seed/Seed-OSS-36B-Instruct": LLAMA
    | {
        "architectures": ["SeedOssForCausalLM"],
        "model_type": "seed_oss",
        "attention_bias": True,
        "attention_dropout": 0.1,
        "attention_out_bias": False,
        "head_dim": 128,
        "mlp_bias": False,
        "pretraining_tp": 1,
        "residual_dropout": 0.1,
        "rope_scaling": {"rope_type": "default"},
        "rope_theta": 10000000.0,
    },
    "LGAI-EXAONE/EXAONE-4.0-32B": LLAMA
    | {
        "architectures": ["Exaone4ForCausalLM"],
        "model_type": "exaone4",
        "attention_dropout": 0.0,
        "head_dim": 128,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 131072,
        "rope_scaling": LLAMA3_ROPE | {"factor": 16.0},
        "rope_theta": 1000000,
        "sliding_window": 4096,
        "sliding_window_pattern": "LLLG",
    },
    "zai-org/GLM-4-9B-0414": LLAMA
    | {
        "architectures": ["Glm4ForCausalLM"],
        "model_type": "glm4",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "head_dim": 128,
        "num_key_value_heads": 2,
        "pad_token_id": 151329,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
    },
    "google/gemma-2b-it": GEMMA
    | {"architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_act": "gelu", "rope_scaling": None},
    "google/gemma-2-2b-it": GEMMA
    | {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 107],
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
    },
    "google/gemma-3-270m-it": GEMMA
    | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "_sliding_window_pattern": 6,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "hidden_act": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": 512,
        "use_bidirectional_attention": False,
    },
    "mistralai/Mixtral-8x7B-Instruct-v0.1": MISTRAL
    | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "attention_dropout": 0.0,
        "num_experts_per_tok": 2,
        "num_local_experts": 8,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.02,
        "transformers_version": "4.36.0.dev0",
    },
    "Qwen/Qwen1.5-MoE-A2.7B-Chat": QWEN2
    | QWEN_EXPERTS
    | {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "max_window_layers": 21,
        "norm_topk_prob": False,
        "shared_expert_intermediate_size": 5632,
        "sliding_window": 32768,
    },
    "Qwen/Qwen3-30B-A3B": QWEN3
    | QWEN_EXPERTS
    | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "max_window_layers": 48, "norm_topk_prob": True},
    "allenai/OLMoE-1B-7B-0924-Instruct": MIXTURE
    | {
        "architectures": ["OlmoeForCausalLM"],
        "model_type": "olmoe",
        "clip_qkv": None,
        "norm_topk_prob": False,
        "num_experts": 64,
        "pad_token_id": 1,
    },
    "ibm-granite/granite-3.1-1b-a400m-instruct": MIXTURE
    | {
        "architectures": ["GraniteMoeForCausalLM"],
        "model_type": "granitemoe",
        "attention_multiplier": 0.015625,
        "embedding_multiplier": 12.0,
        "logits_scaling": 6.0,
        "num_local_experts": 32,
        "residual_multiplier": 0.22,
        "tie_word_embeddings": True,
    },
    "openai/gpt-oss-20b": MIXTURE
    | {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "experts_per_token": 4,
        "head_dim": 64,
        "initial_context_length": 4096,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 131072,
        "num_experts_per_tok": 4,
        "num_local_experts": 32,
        "pad_token_id": 199999,
        "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"], "quant_method": "mxfp4"},
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "torch_dtype": None,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
    },
    "zai-org/GLM-4.5-Air": LLAMA
    | {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": [151329, 151336, 151338],
        "first_k_dense_replace": 1,
        "head_dim": 128,
        "moe_intermediate_size": 1408,
        "n_group": 1,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_experts_per_tok": 8,
        "num_nextn_predict_layers": 1,
        "pad_token_id": 151329,
        "partial_rotary_factor": 0.5,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "routed_scaling_factor": 1.0,
        "topk_group": 1,
        "use_qk_norm": False,
        "vocab_size": 151552,
    },
    "a fine-tune by TRL and PEFT": LLAMA
    | {"_attn_implementation_autoset": True, "gradient_checkpointing": False, "neftune_noise_alpha": 5},
    **FURTHER,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_read_without_a_word(tmp_path, caplog, name):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[name]))
    with caplog.at_level(logging.WARNING):
        spec = read_spec(tmp_path)
    assert spec.width == 256 and spec.dtype in ("bfloat16", "float16", "float32") and spec.eos_ids
    assert not caplog.records
