"""Small random models of transformers, and what their own `generate` makes of prompts."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SIZES = {
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def save_model(folder: Path, model_type: str, **variant) -> PreTrainedModel:
    """A model in float32, with biases that are not zero, which the folder has then too."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SIZES, "head_dim": 8, **variant})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight), alpha=0.2)
    model.save_pretrained(folder)
    return model


def greedy(model: PreTrainedModel, prompt: list[int], tokens: int) -> list[int]:
    """Of transformers, one request alone."""
    ids = torch.tensor([prompt])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
    return made[0, len(prompt) :].tolist()
