"""Small models that read pictures, as transformers makes them; needs torch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

TEXT = {
    **{"hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"vocab_size": 160, "max_position_embeddings": 128, "bos_token_id": None, "pad_token_id": None, "eos_token_id": None},
}
_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
_QWEN_TOWER = {"depth": 2, "hidden_size": 64, "num_heads": 2, "patch_size": 4}
_IDS = {"image_token_id": 151, "video_token_id": 152, "vision_start_token_id": 153, "vision_end_token_id": 154}
_GEMMA = {"head_dim": 32, "sliding_window": 12, "query_pre_attn_scalar": 24}
_MINISTRAL3_ROPE = {
    **{"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32},
    **{"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.4},
}


def _sections(*sections: int, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sections), **more}}


MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Gemma3": (
        "gemma3",
        TEXT | _GEMMA | {"model_type": "gemma3_text"},
        {"vision_config": _TOWER | {"model_type": "siglip_vision_model"}, "mm_tokens_per_image": 4, "image_token_index": 159},
    ),
    "Mistral3": (
        "mistral3",
        TEXT | {"model_type": "mistral", "head_dim": 32, "sliding_window": None},
        {"vision_config": _TOWER | {"model_type": "pixtral"}, "image_token_index": 10},
    ),
    "Mistral3 of Ministral 3": (
        "mistral3",
        TEXT | {"model_type": "ministral3", "head_dim": 32, "rope_parameters": _MINISTRAL3_ROPE},
        {"vision_config": _TOWER | {"model_type": "pixtral"}, "image_token_index": 10},
    ),
    "Qwen2VL": ("qwen2_vl", TEXT | _sections(2, 3, 3), {"vision_config": _QWEN_TOWER | {"embed_dim": 32}, **_IDS}),
    "Qwen2_5_VL": (
        "qwen2_5_vl",
        TEXT | _sections(2, 3, 3),
        {"vision_config": _QWEN_TOWER | {"out_hidden_size": 64, "intermediate_size": 48}, **_IDS},
    ),
    "Qwen3VL": (
        "qwen3_vl",
        TEXT | {"head_dim": 32} | _sections(6, 5, 5, mrope_interleaved=True),
        {
            "vision_config": _QWEN_TOWER | {"out_hidden_size": 64, "intermediate_size": 48, "deepstack_visual_indexes": [0]},
            **_IDS,
        },
    ),
}
"""By the beginning of the architecture's name: model_type, what config.json says of text, and what else."""


def make(name: str, folder: Path, *, tied: bool) -> torch.nn.Module:
    """Writes the folder of a random model, and gives the model."""
    model_type, text, rest = MODELS[name]
    ties = {"tie_word_embeddings": tied}
    config = transformers.AutoConfig.for_model(model_type, text_config=text | ties, **rest, **ties)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name.split()[0]}ForConditionalGeneration")._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms are ones at first, and matrices so small that nothing decides
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def logits(model: torch.nn.Module, tokens: tuple[int, ...]) -> np.ndarray:
    """[T, V] float32, of text alone."""
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()
