"""Small quantised checkpoints, made with numpy alone, each beside the model in float32 that it stands for."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from muxjax.experts import Experts
from muxjax.model_spec import Latent, ModelSpec
from muxjax.models.safetensors_io import SINGLE
from muxjax.specs.config import to_hf_config
from tests.models.golden import seeded_tensors

DENSE = ModelSpec(
    vocab=96,
    width=256,
    layers=2,
    heads=8,
    kv_heads=2,
    head_dim=32,
    ffn=512,
    max_len=64,
    windows=(None, None),
    dtype="float32",
)
"""Its k and v have half a block of outputs each."""
MIXTURE = replace(DENSE, qk_norm="head", experts=Experts(count=3, per_token=2, ffn=256, layers=(1,)))
LATENT = replace(
    DENSE,
    **{"latent": Latent(rank=128, rotated=32, key=32, value=16), "kv_heads": 1, "head_dim": 160, "rotary_dim": 32, "naming": "deepseek"},
    **{"attention_scale": 64**-0.5, "interleaved": True},
    experts=Experts(count=3, per_token=2, ffn=256, layers=(1,), shared_ffn=256, sigmoid=True, scale=2.5),
)
FUSED = replace(DENSE, naming="phi3")
SPECS = {"dense": DENSE, "mixture": MIXTURE, "fused": FUSED, "latent": LATENT}

Tensors = dict[str, np.ndarray]
BLOCK = 128
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "int32": "I32", "int64": "I64"}


class Form(NamedTuple):
    """A way to store a quantised matrix.

    Args:
      config: what config.json says, of modules that are left as they are.
      store: the tensors of a module's matrix [out, in], by what stands behind its name, and what they stand for in float32.
    """

    config: Callable[[list[str]], dict[str, Any]]
    store: Callable[[np.ndarray], tuple[Tensors, np.ndarray]]


def compressed(strategy: str, **weights) -> Callable[[list[str]], dict[str, Any]]:
    def config(ignored: list[str]) -> dict[str, Any]:
        args = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False, "strategy": strategy, "observer": "minmax"}
        group = {"targets": ["Linear"], "weights": args | weights, "input_activations": {"num_bits": 8, "dynamic": True}}
        return {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": ignored,
            "version": "0.13.0",
        }

    return config


def fine_grained(**extra) -> Callable[[list[str]], dict[str, Any]]:
    return lambda ignored: {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ignored, **extra}


def by_tensor(
    w_OI: np.ndarray, *, name: str = "weight_scale", of_activations: str = "input_scale", shape: tuple[int, ...] = (1,)
) -> tuple[Tensors, np.ndarray]:
    """With a scale of activations beside, as static schemes have."""
    scale = np.float32(np.abs(w_OI).max() / 448)
    stored = (w_OI / scale).astype(ml_dtypes.float8_e4m3fn)
    beside = {name: np.full(shape, scale), of_activations: np.full(shape, 0.5, np.float32)}
    return {"weight": stored, **beside}, stored.astype(np.float32) * scale


def by_channel(w_OI: np.ndarray) -> tuple[Tensors, np.ndarray]:
    """Scales in bfloat16."""
    scale_O1 = (np.abs(w_OI).max(axis=1, keepdims=True) / 440).astype(ml_dtypes.bfloat16)
    stored = (w_OI / scale_O1.astype(np.float32)).astype(ml_dtypes.float8_e4m3fn)
    return {"weight": stored, "weight_scale": scale_O1}, stored.astype(np.float32) * scale_O1.astype(np.float32)


def by_block(name: str) -> Callable[[np.ndarray], tuple[Tensors, np.ndarray]]:
    """Block after block."""

    def store(w_OI: np.ndarray) -> tuple[Tensors, np.ndarray]:
        outputs, inputs = w_OI.shape
        stored, meant = np.zeros(w_OI.shape, ml_dtypes.float8_e4m3fn), np.zeros_like(w_OI)
        scales = np.zeros((-(-outputs // BLOCK), -(-inputs // BLOCK)), np.float32)
        for row, column in np.ndindex(scales.shape):
            block = slice(row * BLOCK, (row + 1) * BLOCK), slice(column * BLOCK, (column + 1) * BLOCK)
            scales[row, column] = np.abs(w_OI[block]).max() / 448
            stored[block] = (w_OI[block] / scales[row, column]).astype(ml_dtypes.float8_e4m3fn)
            meant[block] = stored[block].astype(np.float32) * scales[row, column]
        return {"weight": stored, name: scales}, meant

    return store


GROUP = 64


def packed_config(*, symmetric: bool, **weights) -> Callable[[list[str]], dict[str, Any]]:
    return lambda ignored: (
        compressed("group", num_bits=4, type="int", group_size=GROUP, symmetric=symmetric, **weights)(ignored)
        | {"format": "pack-quantized"}
    )


def gptq_config(**extra) -> Callable[[list[str]], dict[str, Any]]:
    said = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False, "damp_percent": 0.01}
    return lambda ignored: said | extra


def awq_config(ignored: list[str]) -> dict[str, Any]:
    said = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    return said | {"modules_to_not_convert": ignored}


class Int4(NamedTuple):
    """Numbers 0 to 15 of a matrix [out, in], scales and zeros [out, J] of groups of inputs, and each input's group."""

    numbers: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    group_of: np.ndarray

    @property
    def meant(self) -> np.ndarray:
        scales, zeros = self.scales.astype(np.float32), self.zeros.astype(np.float32)
        columns = [scales[:, group] * (self.numbers[:, i] - zeros[:, group]) for i, group in enumerate(self.group_of)]
        return np.stack(columns, axis=1).astype(np.float32)


def in_int4(w_OI: np.ndarray, *, symmetric: bool = False, mixed: bool = False) -> Int4:
    outputs, inputs = w_OI.shape
    group_of = np.arange(inputs) // GROUP
    if mixed:
        group_of = np.random.RandomState(inputs).permutation(group_of)
    numbers, scales, zeros = np.zeros(w_OI.shape, int), *(np.zeros((outputs, inputs // GROUP)) for _ in range(2))
    for group in range(inputs // GROUP):
        part = w_OI[:, group_of == group]
        low, high = part.min(axis=1), part.max(axis=1)
        scale = np.abs(part).max(axis=1) / 7 if symmetric else (high - low) / 15
        scales[:, group] = scale.astype(np.float16)
        zeros[:, group] = 8 if symmetric else np.clip(np.rint(-low / scale), 0, 15)
        numbers[:, group_of == group] = np.clip(np.rint(part / scale[:, None]) + zeros[:, group, None], 0, 15)
    return Int4(numbers, scales.astype(np.float16), zeros.astype(int), group_of)


def words(numbers: np.ndarray, order: tuple[int, ...] = tuple(range(8))) -> np.ndarray:
    """[..., n / 8] int32, whose bits from 4 i on hold the number at order[i] of each eight."""
    each = numbers.reshape(*numbers.shape[:-1], -1, 8).astype(np.int64)
    return sum(each[..., place] << 4 * i for i, place in enumerate(order)).astype(np.uint32).view(np.int32)


def gptq(*, mixed: bool = False, less: int = 1, symmetric: bool = False) -> Callable[[np.ndarray], tuple[Tensors, np.ndarray]]:
    def store(w_OI: np.ndarray) -> tuple[Tensors, np.ndarray]:
        made = in_int4(np.where(np.abs(w_OI) < 1e-3, 1e-3, w_OI), mixed=mixed, symmetric=symmetric)
        made = made._replace(zeros=np.maximum(made.zeros, less))
        tensors = {
            "qweight": np.ascontiguousarray(words(made.numbers).T),
            "qzeros": words(made.zeros.T - less),
            "scales": np.ascontiguousarray(made.scales.T),
            "g_idx": made.group_of.astype(np.int32),
        }
        return tensors, made.meant

    return store


def awq(w_OI: np.ndarray) -> tuple[Tensors, np.ndarray]:
    made, order = in_int4(w_OI), (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {"qweight": words(made.numbers.T, order), "qzeros": words(made.zeros.T, order), "scales": np.ascontiguousarray(made.scales.T)}
    return tensors, made.meant


def packed(*, symmetric: bool, mixed: bool = False) -> Callable[[np.ndarray], tuple[Tensors, np.ndarray]]:
    def store(w_OI: np.ndarray) -> tuple[Tensors, np.ndarray]:
        made = in_int4(w_OI, symmetric=symmetric, mixed=mixed)
        tensors = {
            "weight_packed": words(made.numbers),
            "weight_scale": made.scales.astype(ml_dtypes.bfloat16),
            "weight_shape": np.array(w_OI.shape, np.int64),
        }
        tensors |= {} if symmetric else {"weight_zero_point": np.ascontiguousarray(words(made.zeros.T).T)}
        tensors |= {"weight_g_idx": made.group_of.astype(np.int32)} if mixed else {}
        return tensors, made._replace(scales=tensors["weight_scale"]).meant

    return store


FORMS = {
    "compressed, by tensor": Form(compressed("tensor"), by_tensor),
    "compressed, by channel": Form(compressed("channel"), by_channel),
    "compressed, by block": Form(compressed("block", block_structure=[BLOCK, BLOCK]), by_block("weight_scale")),
    "fine-grained fp8": Form(fine_grained(weight_block_size=[BLOCK, BLOCK], fmt="e4m3"), by_block("weight_scale_inv")),
    "fp8 by tensor": Form(
        fine_grained(activation_scheme="static"),
        partial(by_tensor, name="weight_scale_inv", of_activations="activation_scale", shape=()),
    ),
    "gptq": Form(gptq_config(), gptq()),
    "gptq, symmetric": Form(gptq_config(sym=True, checkpoint_format="gptq"), gptq(symmetric=True)),
    "gptq_v2": Form(gptq_config(checkpoint_format="gptq_v2"), gptq(less=0)),
    "awq": Form(awq_config, awq),
    "packed": Form(packed_config(symmetric=False), packed(symmetric=False)),
    "packed, symmetric": Form(packed_config(symmetric=True, actorder="weight"), packed(symmetric=True)),
}
WIDENED = {
    "gptq by activations": Form(gptq_config(desc_act=True), gptq(mixed=True)),
    "packed by activations": Form(packed_config(symmetric=True, actorder="group"), packed(symmetric=True, mixed=True)),
}
"""Of groups that are no neighbours."""


def make_quantised(
    folder: Path, spec: ModelSpec, form: Form, *, ignored: tuple[str, ...] = ("lm_head",), seed: int = 0
) -> tuple[Path, Path]:
    """Folders of a quantised model and of what it stands for. All matrices of layers are quantised but routers and those `ignored`."""
    stored, meant = {}, {}
    for name, tensor in seeded_tensors(spec, 0).items():
        stored[name] = meant[name] = tensor
        module = name.removesuffix(".weight")
        if module.endswith("_proj") and module not in ignored:
            del stored[name]
            tensors, meant[name] = form.store(tensor)
            stored |= {f"{module}.{suffix}": np.ascontiguousarray(part) for suffix, part in tensors.items()}
    config = to_hf_config(spec)
    quantised = write_model(folder / "quantised", config | {"quantization_config": form.config(list(ignored))}, stored)
    return quantised, write_model(folder / "meant", config, meant)


def write_model(folder: Path, config: dict[str, Any], tensors: Tensors) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / SINGLE, tensors)
    return folder


def write_tensors(path: Path, tensors: Tensors) -> None:
    """As safetensors, of dtypes that its own function for numpy has no name for, too."""
    header, end = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in tensors.values()))
