"""What further published checkpoints say in config.json, at a small size; those that are like LLaMA stand in the test."""

_TINY_EXTRAS = {"num_hidden_layers": 2, "vocab_size": 32000, "hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 4}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    **_TINY_EXTRAS,
    "num_key_value_heads": 4,
}
DEEPSEEK = {
    **{"attention_bias": False, "attention_dropout": 0.0, "aux_loss_alpha": 0.001, "ep_size": 1, "kv_lora_rank": 512},
    **{"moe_layer_freq": 1, "pretraining_tp": 1, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rope_theta": 10000},
    **{"seq_aux": True, "v_head_dim": 128},
}
YARN = {
    "max_position_embeddings": 163840,
    "rope_scaling": {
        **{"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707},
        **{"original_max_position_embeddings": 4096, "type": "yarn"},
    },
}


def deepseek_code(version):
    config, model = f"configuration_deepseek.DeepseekV{version}Config", f"modeling_deepseek.DeepseekV{version}"
    return {"AutoConfig": config, "AutoModel": f"{model}Model", "AutoModelForCausalLM": f"{model}ForCausalLM"}


FURTHER = {
    "CohereLabs/c4ai-command-r-plus": LLAMA
    | {
        "architectures": ["CohereForCausalLM"],
        "model_type": "cohere",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 5,
        "eos_token_id": 255001,
        "layer_norm_eps": 1e-05,
        "rms_norm_eps": None,
        "logit_scale": 0.8333333333333334,
        "model_max_length": 131072,
        "pad_token_id": 0,
        "rope_theta": 75000000.0,
        "tie_word_embeddings": None,
        "use_qk_norm": True,
        "vocab_size": 256000,
    },
    "CohereLabs/c4ai-command-r7b-12-2024": LLAMA
    | {
        "architectures": ["Cohere2ForCausalLM"],
        "model_type": "cohere2",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 5,
        "cache_implementation": "hybrid",
        "eos_token_id": 255001,
        "head_dim": 64,
        "layer_norm_eps": 1e-05,
        "rms_norm_eps": None,
        "layer_switch": 4,
        "logit_scale": 0.25,
        "order_of_interleaved_layers": "local_attn_first",
        "pad_token_id": 0,
        "position_embedding_type": "rope_gptj",
        "rope_scaling": None,
        "rope_theta": 50000,
        "rotary_pct": 1.0,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
        "tie_word_embeddings": None,
        "use_embedding_sharing": True,
        "use_gated_activation": True,
        "use_parallel_block": True,
        "use_parallel_embedding": True,
        "vocab_size": 256000,
    },
    "bigcode/starcoder2-3b": LLAMA
    | {
        "activation_function": "gelu",
        "architectures": ["Starcoder2ForCausalLM"],
        "model_type": "starcoder2",
        "attention_dropout": 0.1,
        "residual_dropout": 0.1,
        "embedding_dropout": 0.1,
        "attention_softmax_in_fp32": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_epsilon": 1e-05,
        "mlp_type": "default",
        "norm_epsilon": 1e-05,
        "rms_norm_eps": None,
        "norm_type": "layer_norm",
        "num_key_value_heads": 2,
        "rope_theta": 999999.4420358813,
        "scale_attention_softmax_in_fp32": True,
        "scale_attn_weights": True,
        "sliding_window": 4096,
        "tie_word_embeddings": None,
        "use_bias": True,
    },
    "internlm/internlm2_5-7b-chat": LLAMA
    | {
        "architectures": ["InternLM2ForCausalLM"],
        "attn_implementation": "eager",
        "auto_map": {
            "AutoConfig": "configuration_internlm2.InternLM2Config",
            "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
            "AutoModel": "modeling_internlm2.InternLM2ForCausalLM",
        },
        "bias": False,
        "model_type": "internlm2",
        "pad_token_id": 2,
        "pretraining_tp": 1,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "rope_theta": 1000000,
    },
    "internlm/internlm3-8b-instruct": LLAMA
    | {
        "architectures": ["InternLM3ForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_internlm3.InternLM3Config",
            "AutoModel": "modeling_internlm3.InternLM3Model",
            "AutoModelForCausalLM": "modeling_internlm3.InternLM3ForCausalLM",
        },
        "attention_dropout": 0.0,
        "bias": False,
        "qkv_bias": False,
        "head_dim": 128,
        "model_type": "internlm3",
        "num_key_value_heads": 2,
        "pad_token_id": 2,
        "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"},
        "rope_theta": 50000000,
    },
    "deepseek-ai/DeepSeek-V2-Lite-Chat": LLAMA
    | DEEPSEEK
    | YARN
    | {
        **{"architectures": ["DeepseekV2ForCausalLM"], "auto_map": deepseek_code(2), "model_type": "deepseek_v2"},
        **{"moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "q_lora_rank": None},
        **{"norm_topk_prob": False, "scoring_func": "softmax", "topk_method": "greedy", "n_group": 1, "topk_group": 1},
        **{"first_k_dense_replace": 1, "routed_scaling_factor": 1.0},
    },
    "deepseek-ai/DeepSeek-V3": LLAMA
    | DEEPSEEK
    | YARN
    | {
        **{"architectures": ["DeepseekV3ForCausalLM"], "auto_map": deepseek_code(3), "model_type": "deepseek_v3"},
        **{"moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "q_lora_rank": 1536},
        **{"norm_topk_prob": True, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 8, "topk_group": 4},
        **{"first_k_dense_replace": 1, "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1},
        "intermediate_size": 768,
        "quantization_config": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
        },
    },
    "moonshotai/Moonlight-16B-A3B-Instruct": LLAMA
    | DEEPSEEK
    | {
        **{"architectures": ["DeepseekV3ForCausalLM"], "auto_map": deepseek_code(3), "model_type": "deepseek_v3"},
        **{"moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "q_lora_rank": None},
        **{"norm_topk_prob": True, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1},
        **{"first_k_dense_replace": 1, "routed_scaling_factor": 2.446, "num_nextn_predict_layers": 0, "rope_theta": 50000.0},
    },
    "google/gemma-3-4b-it": {
        **{"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16"},
        **{"boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144, "mm_tokens_per_image": 256},
        **{"eos_token_id": [1, 106], "initializer_range": 0.02, "transformers_version": "4.50.0.dev0"},
        "text_config": {
            **{"hidden_size": 256, "intermediate_size": 704, "model_type": "gemma3_text", "num_hidden_layers": 2},
            **{"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        },
        "vision_config": {"hidden_size": 1152, "image_size": 896, "model_type": "siglip_vision_model", "vision_use_head": False},
    },
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": {
        **{"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "torch_dtype": "bfloat16"},
        **{"image_token_index": 10, "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2},
        **{"vision_feature_layer": -1, "transformers_version": "4.50.0.dev0"},
        "text_config": {
            **{"attention_dropout": 0.0, "head_dim": 128, "hidden_act": "silu", "initializer_range": 0.02, "model_type": "mistral"},
            **{"max_position_embeddings": 131072, "num_key_value_heads": 4, "rms_norm_eps": 1e-05, "rope_theta": 1000000000.0},
            **{"sliding_window": None, "use_cache": True, **_TINY_EXTRAS},
        },
        "vision_config": {"model_type": "pixtral", "patch_size": 14},
    },
    "mistralai/Ministral-3-8B-Instruct-2512": {
        **{"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "dtype": "bfloat16"},
        **{"image_token_index": 10, "multimodal_projector_bias": False, "projector_hidden_act": "gelu", "spatial_merge_size": 2},
        **{"vision_feature_layer": -1, "transformers_version": "5.0.0.dev0", "vision_config": {"model_type": "pixtral"}},
        "quantization_config": {
            **{"activation_scheme": "static", "dequantize": False, "quant_method": "fp8", "weight_block_size": None},
            **{"modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector", "lm_head"]},
        },
        "text_config": {
            **{"attention_dropout": 0.0, "head_dim": 128, "hidden_act": "silu", "initializer_range": 0.02, "model_type": "ministral3"},
            **{"max_position_embeddings": 262144, "num_key_value_heads": 4, "rms_norm_eps": 1e-05, "sliding_window": None},
            "rope_parameters": {
                **{"beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0, "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0},
                **{"original_max_position_embeddings": 16384, "rope_theta": 1000000.0, "rope_type": "yarn", "type": "yarn"},
            },
            **{"tie_word_embeddings": False, "use_cache": True, **_TINY_EXTRAS},
        },
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        **{"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "torch_dtype": "bfloat16"},
        **{"attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 2, "vision_start_token_id": 151652},
        **{"vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655, "video_token_id": 151656},
        **{"hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 128000, "max_window_layers": 28},
        **{"num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768},
        **{"tie_word_embeddings": False, "use_cache": True, "use_sliding_window": False, "transformers_version": "4.41.2"},
        **{"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vision_config": {"depth": 32}, **_TINY_EXTRAS},
    },
    "Qwen/Qwen3-VL-4B-Instruct": {
        **{"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": True},
        **{"image_token_id": 151655, "video_token_id": 151656, "vision_end_token_id": 151653, "vision_start_token_id": 151652},
        "text_config": {
            **{"attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643, "dtype": "bfloat16", "eos_token_id": 2},
            **{"head_dim": 128, "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 262144},
            **{"model_type": "qwen3_vl_text", "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 5000000},
            **{"rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}},
            **{"tie_word_embeddings": True, "use_cache": True, **_TINY_EXTRAS},
        },
        "vision_config": {"depth": 24, "deepstack_visual_indexes": [5, 11, 17]},
    },
}
