"""What does transformers compute for each family? Writes tests/models/goldens (needs torch and transformers).

python -m scripts.make_goldens [names of goldens]
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import CONFIG_MAPPING, AutoConfig

from muxjax.specs.known_families import BY_ARCHITECTURE
from tests.models.golden import FOLDER, make_model
from tests.models.torch_reference import TorchModel

MAX_LEN = 128
REQUESTS = ((3, 64), (17, 64), (40, MAX_LEN - 40))
"""Tokens of prompt and output; the last is as long as can be, and POSITIONS are of it."""
POSITIONS = np.array([0, 1, 7, 11, 12, 15, 16, 17, 40, 64, 100, 126])
SMALLEST_MARGIN = 3e-4
"""Between the two best logits, against the largest: many times what float32 rounding moves them."""

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 160,
    "max_position_embeddings": MAX_LEN,
    "bos_token_id": None,
    "pad_token_id": None,
    "eos_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
MINISTRAL3_ROPE = YARN | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.4}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.1, 1.3, 1.7, 2.5, 4.1],
    "long_factor": [1.0, 1.5, 3.0, 9.0, 20.0, 40.0],
    "attention_factor": 1.2,
}
MULTIPLIERS = {"embedding_multiplier": 1.5, "attention_multiplier": 0.15, "residual_multiplier": 0.7, "logits_scaling": 8.0}
GEMMA = {"head_dim": 32, "sliding_window": 12, "query_pre_attn_scalar": 24, "tie_word_embeddings": False}
LOCAL_AND_GLOBAL = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
ROPE_BY_KIND = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
STRETCHED_GLOBAL = {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 500.0}}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
GLM_EXPERTS = {
    **{"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "first_k_dense_replace": 1},
    **{"n_shared_experts": 2, "routed_scaling_factor": 1.5, "use_qk_norm": True, "attention_bias": True, "num_hidden_layers": 3},
}
LATENT = {
    **{"num_key_value_heads": 4, "kv_lora_rank": 20, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12},
    **{"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "n_shared_experts": 2, "routed_scaling_factor": 1.5},
    **{"first_k_dense_replace": 1, "num_hidden_layers": 3},
}
LATENT_YARN = YARN | {"mscale": 0.9, "mscale_all_dim": 0.7}
LOCAL_EXPERTS = {"num_local_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 40}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("LlamaForCausalLM", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "llama3": ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    "llama3_scaled": ("LlamaForCausalLM", {"rope_parameters": LLAMA3_ROPE, "head_dim": 32}),
    "llama3_tied": ("LlamaForCausalLM", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True, "num_hidden_layers": 3}),
    "llama_linear": ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "llama_biased": ("LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None, "head_dim": 32}),
    "ministral3": ("Ministral3ForCausalLM", {"head_dim": 32, "rope_parameters": MINISTRAL3_ROPE}),
    "mistral_windowed": ("MistralForCausalLM", {"sliding_window": 16, "num_hidden_layers": 3}),
    "qwen2": ("Qwen2ForCausalLM", {"tie_word_embeddings": True, "num_attention_heads": 2, "num_key_value_heads": 1}),
    "qwen2_windowed": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1, "num_hidden_layers": 3},
    ),
    "qwen2_yarn": ("Qwen2ForCausalLM", {"rope_parameters": YARN}),
    "llama_dynamic": ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}),
    "granite": ("GraniteForCausalLM", MULTIPLIERS),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4, "no_rope_layer_interval": 2}),
    "olmo2": ("Olmo2ForCausalLM", {"num_key_value_heads": 4}),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": 20, "num_key_value_heads": 4}),
    "phi3_longrope": ("Phi3ForCausalLM", {"rope_parameters": LONGROPE, "original_max_position_embeddings": MAX_LEN}),
    "gemma": ("GemmaForCausalLM", {"head_dim": 32}),
    "gemma2": ("Gemma2ForCausalLM", GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 6.0, "num_hidden_layers": 3}),
    "gemma3": ("Gemma3ForCausalLM", GEMMA | {"num_hidden_layers": 4, "layer_types": LOCAL_AND_GLOBAL, "rope_parameters": ROPE_BY_KIND}),
    "olmo3": ("Olmo3ForCausalLM", {"sliding_window": 14, "num_hidden_layers": 4, "rope_parameters": STRETCHED_GLOBAL, "head_dim": 32}),
    "seed_oss": ("SeedOssForCausalLM", {"head_dim": 32}),
    "exaone4": ("Exaone4ForCausalLM", {"sliding_window": 14, "sliding_window_pattern": 3, "num_hidden_layers": 3}),
    "glm": ("GlmForCausalLM", {"head_dim": 32, "num_attention_heads": 2}),
    "glm4": ("Glm4ForCausalLM", {"head_dim": 32, "num_attention_heads": 2}),
    "cohere": ("CohereForCausalLM", {"logit_scale": 0.25, "use_qk_norm": True, "tie_word_embeddings": False}),
    "cohere2": (
        "Cohere2ForCausalLM",
        {"sliding_window": 14, "sliding_window_pattern": 3, "num_hidden_layers": 3, "logit_scale": 0.25, "tie_word_embeddings": False},
    ),
    "starcoder2": ("Starcoder2ForCausalLM", {"sliding_window": 20, "tie_word_embeddings": False}),
    "internlm2": ("InternLM2ForCausalLM", {"bias": True, "num_hidden_layers": 3}),
    "internlm3": ("InternLM3ForCausalLM", {"head_dim": 32, "qkv_bias": True, "bias": True}),
    "mixtral": ("MixtralForCausalLM", LOCAL_EXPERTS | {"sliding_window": 20}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        EXPERTS | {"shared_expert_intermediate_size": 48, "num_hidden_layers": 3, "decoder_sparse_step": 2, "norm_topk_prob": False},
    ),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        EXPERTS | {"mlp_only_layers": [1], "num_hidden_layers": 3, "norm_topk_prob": True, "head_dim": 32},
    ),
    "olmoe": ("OlmoeForCausalLM", {"num_experts": 8, "num_experts_per_tok": 3, "intermediate_size": 32}),
    "granitemoe": ("GraniteMoeForCausalLM", MULTIPLIERS | LOCAL_EXPERTS),
    "granitemoeshared": ("GraniteMoeSharedForCausalLM", MULTIPLIERS | LOCAL_EXPERTS | {"shared_intermediate_size": 48}),
    "glm4_moe": ("Glm4MoeForCausalLM", GLM_EXPERTS),
    "gpt_oss": (
        "GptOssForCausalLM",
        LOCAL_EXPERTS | {"head_dim": 32, "sliding_window": 12, "num_hidden_layers": 3, "rope_parameters": YARN},
    ),
    "deepseek_v2": ("DeepseekV2ForCausalLM", LATENT | {"q_lora_rank": None, "rope_parameters": LATENT_YARN}),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        LATENT
        | {"q_lora_rank": 20, "attention_bias": True}
        | {"n_group": 3, "topk_group": 2, "n_routed_experts": 9, "num_experts_per_tok": 3},
    ),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
}


def main(names: Iterable[str]) -> None:
    for name in names or FAMILIES:
        architecture, variant = FAMILIES[name]
        write_config(FOLDER / name, architecture, SMALL | variant)
        expected = next(found for seed in itertools.count(1) if (found := expectations(name, seed)))
        np.savez_compressed(FOLDER / name / "expected.npz", **expected)
        print(f"{name}: seed {expected['seed']}, {len(set(expected['tokens_2'].tolist()))} different tokens")


def write_config(folder: Path, architecture: str, fields: dict[str, Any]) -> None:
    """config.json as this version of transformers writes it, or plainly what it must say where transformers lacks the family."""
    model_type = BY_ARCHITECTURE[architecture].model_type
    said = {"architectures": [architecture], "dtype": "float32"}
    if model_type in CONFIG_MAPPING:
        written = AutoConfig.for_model(model_type, **fields, **said).to_json_string()
    else:
        written = json.dumps({**fields, **said, "model_type": model_type})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(json.loads(written), indent=2) + "\n")


def expectations(name: str, seed: int) -> dict[str, Any] | None:
    """The arrays of a golden (see tests/models/golden.py); None if rounding could decide one of its tokens."""
    with tempfile.TemporaryDirectory() as folder:
        model = TorchModel(make_model(name, Path(folder), seed))
    random = np.random.RandomState(seed)
    arrays: dict[str, Any] = {"seed": np.array(seed), "positions": POSITIONS}
    for i, (length, count) in enumerate(REQUESTS):
        prompt = tuple(random.randint(0, SMALL["vocab_size"], length).tolist())
        tokens = model.greedy(prompt, count, margin=SMALLEST_MARGIN)
        if tokens is None:
            return None
        arrays |= {f"prompt_{i}": np.array(prompt, np.int16), f"tokens_{i}": np.array(tokens, np.int16)}
        if length + count == MAX_LEN:
            arrays["logits"] = model.logits(prompt + tokens)[POSITIONS]
    return arrays


if __name__ == "__main__":
    main(sys.argv[1:])
