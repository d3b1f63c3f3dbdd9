"""InternLM 2, which transformers lacks, as the LLaMA that computes the same: renamed, with q, k and v taken apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

MODEL_TYPE = "internlm2"
_NAMES = {
    "output.weight": "lm_head.weight",
    "tok_embeddings": "embed_tokens",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}


def read_config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def as_llama(folder: Path, into: Path) -> Path:
    """Writes a folder of LLaMA's, with the same weights."""
    config = read_config(folder)
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": config.get("bias", False)}
    (into / "config.json").write_text(json.dumps({name: value for name, value in config.items() if name != "bias"} | llama))
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
    tensors: dict[str, np.ndarray] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "wqkv" in name:
            tensors |= _apart(name, tensor, kv_heads, heads // kv_heads)
            continue
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        tensors[name] = tensor
    save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    return into


def _apart(name: str, tensor: np.ndarray, kv_heads: int, group: int) -> dict[str, np.ndarray]:
    """Rows of each kv head: those of its query heads, then of k, then of v."""
    by_head = tensor.reshape(kv_heads, group + 2, -1, *tensor.shape[1:])
    parts = {"q": by_head[:, :group], "k": by_head[:, group], "v": by_head[:, group + 1]}
    flat = {part: np.ascontiguousarray(rows.reshape(-1, *tensor.shape[1:])) for part, rows in parts.items()}
    return {name.replace("attention.wqkv", f"self_attn.{part}_proj"): rows for part, rows in flat.items()}
