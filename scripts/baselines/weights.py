"""Weights of a decoder on the device: random ones, or those of a folder's safetensors."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from muxjax.model_spec import ModelSpec
from muxjax.specs.weight_files import weight_files
from scripts.baselines.decoder import Layer, Weights

Read = Callable[[Sequence[str], tuple[int, ...]], Tensor]
"""Of tensors' names as checkpoints have them, and the shape that they have together, one under the other."""

EMBED, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


def load(folder: Path, spec: ModelSpec, device: torch.device, *, load_format: str = "auto") -> Weights:
    """In the model's dtype.

    Args:
      load_format: "auto" reads the folder's weights, "dummy" makes random ones on the device and reads none.
    Raises:
      ValueError: the folder has no weights, or one of another shape.
    """
    dtype = getattr(torch, spec.dtype)
    if load_format == "dummy":
        return _weights(spec, _dummy(spec, dtype, device))
    files = weight_files(folder)
    if not files:
        raise ValueError(f"{folder} holds no safetensors; random weights are --load-format dummy")
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt", device=str(device))) for file in files]
        holders = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)

        def read(names: Sequence[str], shape: tuple[int, ...]) -> Tensor:
            parts = [holders[name].get_tensor(name).to(dtype) for name in names]
            whole = torch.cat(parts) if len(parts) > 1 else parts[0]
            if whole.shape != shape:
                raise ValueError(f"{' and '.join(names)} must make {list(shape)}, got {list(whole.shape)}")
            return whole

        return _weights(spec, read)


def _dummy(spec: ModelSpec, dtype: torch.dtype, device: torch.device) -> Read:
    """Scaled so that activations keep their size through the layers."""
    torch.manual_seed(0)

    def read(names: Sequence[str], shape: tuple[int, ...]) -> Tensor:
        if "norm" in names[0]:
            return torch.ones(shape, dtype=dtype, device=device)
        inputs = shape[-1] if len(shape) > 1 else spec.width
        residual = (2 * spec.layers) ** -0.5 if names[0].endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        limit = (3 / inputs) ** 0.5 * residual
        return torch.empty(shape, dtype=dtype, device=device).uniform_(-limit, limit)

    return read


def _weights(spec: ModelSpec, read: Read) -> Weights:
    embed = read([EMBED], (spec.vocab, spec.width))
    return Weights(
        embed=embed,
        layers=tuple(_layer(spec, read, f"model.layers.{i}") for i in range(spec.layers)),
        norm=read([NORM], (spec.width,)),
        head=embed if spec.tied else read([HEAD], (spec.vocab, spec.width)),
    )


def _layer(spec: ModelSpec, read: Read, prefix: str) -> Layer:
    width, q_width, kv_width = spec.width, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim

    def norm(name: str, size: int = width) -> Tensor:
        return read([f"{prefix}.{name}.weight"], (size,))

    def projection(module: str, names: str, out: int, into: int) -> Tensor:
        return read([f"{prefix}.{module}.{name}_proj.weight" for name in names.split()], (out, into))

    def bias(there: bool, module: str, names: str, out: int) -> Tensor | None:
        return read([f"{prefix}.{module}.{name}_proj.bias" for name in names.split()], (out,)) if there else None

    return Layer(
        attention_norm=norm("input_layernorm"),
        qkv=projection("self_attn", "q k v", q_width + 2 * kv_width, width),
        qkv_bias=bias(spec.qkv_bias, "self_attn", "q k v", q_width + 2 * kv_width),
        q_norm=norm("self_attn.q_norm", spec.head_dim) if spec.qk_norm == "head" else None,
        k_norm=norm("self_attn.k_norm", spec.head_dim) if spec.qk_norm == "head" else None,
        out=projection("self_attn", "o", width, q_width),
        out_bias=bias(spec.out_bias, "self_attn", "o", width),
        ffn_norm=norm("post_attention_layernorm"),
        gate_up=projection("mlp", "gate up", 2 * spec.ffn, width),
        gate_up_bias=bias(spec.mlp_bias, "mlp", "gate up", 2 * spec.ffn),
        down=projection("mlp", "down", width, spec.ffn),
        down_bias=bias(spec.mlp_bias, "mlp", "down", width),
    )
