"""quantization_config of a config.json: how a checkpoint holds its matrices, and which of them devices hold so too.

Source: `FineGrainedFP8Config`, `GPTQConfig` and `AwqConfig` of transformers 5.24; `QuantizationConfig`, `QuantizationScheme` and
`QuantizationArgs` of compressed-tensors 0.13.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.quantization import FP8, INT4, WEIGHTS_AND_ACTIVATIONS, Quantization
from muxjax.specs.fields import Fields, shorten
from muxjax.specs.known_fields import check_only
from muxjax.specs.tensor_names import tensor_names
from muxjax.specs.weight_files import full_name, other_names

_NAMES = ("quantization_config", "compression_config", "quantization")
_WHOLE = "give the folder of the model in bfloat16 that it was made of, which `quantization: fp8` makes as small as one in fp8"
_BLOCK = 128
_FLOAT, _PACKED = "float-quantized", "pack-quantized"
_PATTERN = "re:"
_OF_MAKING_GPTQ = (
    *("sym", "static_groups", "true_sequential", "damp_percent", "dataset", "tokenizer", "quantizer", "meta", "model_name_or_path"),
    *("model_file_base_name", "model_seqlen", "block_name_to_quantize", "module_name_preceding_first_block", "batch_size", "pad_token_id"),
    *("use_cuda_fp16", "use_exllama", "exllama_config", "max_input_length", "cache_block_outputs", "disable_exllama", "backend", "hyb_act"),
    *("act_group_aware", "mse", "parallel_packing", "damp_auto_increment"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuantization:
    """How a checkpoint holds the matrices that it has quantised.

    Args:
      form: FP8; or of int4 "gptq", "gptq_v2" (whose zeros are stored as they are), "awq" or "pack-quantized".
      group: inputs that share a scale, as in FP8 as many outputs do; None where each output has one, or each matrix.
      leaves: whether the module of that name is not quantised.
      has_zeros: each scale has a number beside it that stands for 0.
      by_activations: a group's inputs are no neighbours, but of similar activations.
    """

    form: str
    group: int | None
    leaves: Callable[[str], bool]
    has_zeros: bool = False
    by_activations: bool = False


def resident(spec: ModelSpec, stored: StoredQuantization | None, wish: str | None) -> Quantization | None:
    """How devices hold a model: as it is stored, in kinds of matrices that are all quantised, in groups of neighbours, while others are
    widened as they are loaded; or as it is wished where nothing is.

    Args:
      wish: of `quantization.QUANTIZATIONS`, or None.

    Raises:
      ConfigError: the wish is none that is known, or against what is stored, or the model has experts that cannot be quantised.
    """
    if stored is None and wish and spec.experts and not _experts_are_apart(spec):
        raise ConfigError(f"quantization={wish} is not supported for experts that lie in one tensor of a layer", field="quantization")
    rounds_prompts = wish == WEIGHTS_AND_ACTIVATIONS
    if stored is None:
        return Quantization(kinds=quantisable(spec), rounds_prompts=rounds_prompts) if wish else None
    if wish and stored.form != FP8:
        raise ConfigError(
            f"quantization={wish} is for weights that are not quantised yet, and these are in int4 ({stored.form})", field="quantization"
        )
    if rounds_prompts and stored.group is not None:
        raise ConfigError(
            f"quantization={wish} is for a scale of each output, and these weights have scales of blocks", field="quantization"
        )
    if stored.by_activations:
        return None
    kinds = tuple(kind for kind in quantisable(spec) if not any(map(stored.leaves, _modules(spec, kind))))
    dtype = FP8 if stored.form == FP8 else INT4
    how = Quantization(kinds=kinds, group=stored.group, dtype=dtype, has_zeros=stored.has_zeros, rounds_prompts=rounds_prompts)
    return how if kinds else None


def quantisable(spec: ModelSpec) -> tuple[str, ...]:
    """Kinds of matrices that can be held quantised: those of a layer but its router, what attention makes of latents, and experts that
    lie in one tensor."""
    attention = () if spec.latent else ("qkv", "o")
    mlp = ("gate_up" if spec.is_gated else "up", "down") if spec.dense_layers else ()
    experts = ("expert_gate_up", "expert_down") if spec.experts and _experts_are_apart(spec) else ()
    shared = ("shared_gate_up", "shared_down") if experts and spec.experts and spec.experts.shared_ffn else ()
    return (*attention, *mlp, *experts, *shared)


def _experts_are_apart(spec: ModelSpec) -> bool:
    """Each expert has tensors of its own."""
    return "{}" in tensor_names(spec)["expert_down"][0]


def read_quantization(fields: Fields) -> StoredQuantization | None:
    """What a config.json says of it; None where nothing is quantised.

    Raises:
      ConfigError: a method or a form that is not read, by its name.
    """
    said = [name for name in _NAMES if fields.get(name) is not None]
    if not said:
        return None
    config = fields.child(said[0])
    method = config.get("quant_method")
    if not isinstance(method, str) or method not in _READERS:
        why = f"quant_method must be one of {', '.join(_READERS)}; {_why_not(method)}"
        raise ConfigError(f"{fields.where}: {said[0]}={shorten(config.values)} is not supported: {why}", field=said[0])
    stored = _READERS[method](config)
    check_unknown(config)
    return stored


def check_unknown(config: Fields) -> None:
    """
    Raises:
      ConfigError: a field that nobody has read.
    """
    if names := config.never_asked():
        raise config.wrong(names[0], config.values[names[0]], "left out: it is not known, and may change answers")


def _why_not(method: object) -> str:
    tools = {"bitsandbytes": "bitsandbytes quantises while its own programs load", "marlin": "its order of numbers is for one kernel"}
    return f"{tools[method]}: {_WHOLE}" if isinstance(method, str) and method in tools else _WHOLE


def _fine_grained(config: Fields) -> StoredQuantization:
    """float8_e4m3fn, with a scale for each block as DeepSeek and Qwen publish it, or without a word of blocks for each matrix. That
    others quantise activations too changes nothing here."""
    block = config.get("weight_block_size")
    if block not in (None, [_BLOCK, _BLOCK]):
        raise config.wrong("weight_block_size", block, f"[{_BLOCK}, {_BLOCK}] or left out")
    for name, right in (("fmt", ("e4m3", "float8_e4m3fn")), ("dequantize", (False,)), ("scale_fmt", ("float", "ue8m0"))):
        check_only(config, name, right)
    config.get("activation_scheme")
    left = _names(config, "modules_to_not_convert") + _names(config, "ignored_layers")
    return StoredQuantization(form=FP8, group=_BLOCK if block else None, leaves=_has_parts(left))


def _compressed(config: Fields) -> StoredQuantization:
    """Of compressed-tensors: one group of modules that are all quantised alike."""
    form = config.get("format")
    if form not in (_FLOAT, _PACKED):
        raise config.wrong("format", form, f"{_FLOAT} or {_PACKED}; {_WHOLE}")
    for name, right in (
        ("quantization_status", ("compressed",)),
        ("sparsity_config", ({}, {"format": "dense"})),
        ("transform_config", ({},)),
    ):
        check_only(config, name, right)
    for name in ("version", "kv_cache_scheme", "global_compression_ratio"):  # scales of a cache in 8 bits are for programs that have one
        config.get(name)
    groups = config.child("config_groups")
    if len(groups.values) != 1:
        raise config.wrong("config_groups", sorted(groups.values), "one group")
    group = groups.child(next(iter(groups.values)))
    check_only(group, "targets", (["Linear"],))
    check_only(group, "format", (form,))
    for name in ("input_activations", "output_activations"):
        group.get(name)
    weights = (_compressed_fp8 if form == _FLOAT else _compressed_int4)(group.child("weights"))
    check_unknown(group)
    return StoredQuantization(leaves=_is_or_matches(config, _names(config, "ignore")), **weights)


def _compressed_fp8(weights: Fields) -> dict[str, Any]:
    _check(weights, num_bits=(8,), type=("float",), symmetric=(True,), strategy=("tensor", "channel", "block"), actorder=(), group_size=())
    block = [_BLOCK, _BLOCK] if weights.get("strategy") == "block" else None
    if block != (said := weights.get("block_structure")):
        raise weights.wrong("block_structure", said, f"[{_BLOCK}, {_BLOCK}] for the strategy block alone")
    return {"form": FP8, "group": _BLOCK if block else None}


def _compressed_int4(weights: Fields) -> dict[str, Any]:
    _check(weights, num_bits=(4,), type=("int",), strategy=("group", "channel"), actorder=("weight", "static", "group", "dynamic"))
    check_only(weights, "block_structure", ())
    return {
        "form": _PACKED,
        "group": weights.integer("group_size") if weights.get("strategy") == "group" else None,
        "has_zeros": weights.get("symmetric") is False,
        "by_activations": weights.get("actorder") in ("group", "dynamic"),
    }


def _check(weights: Fields, **only: tuple[object, ...]) -> None:
    for name, right in {**only, "dynamic": (False,)}.items():
        check_only(weights, name, right)
    for name in ("block_structure", "group_size", "symmetric", "observer", "observer_kwargs", "scale_dtype", "zp_dtype"):
        weights.get(name)
    check_unknown(weights)


def _gptq(config: Fields) -> StoredQuantization:
    """In int4, every module of a layer. How it was found, and what programs make of it, changes nothing."""
    for name, right in (
        ("bits", (4,)),
        ("checkpoint_format", ("gptq", "gptq_v2")),
        ("pack_dtype", ("int32",)),
        ("format", ("gptq", "gptq_v2")),
        ("is_marlin_format", (False,)),
        ("lm_head", (False,)),
        ("dynamic", ({},)),
        ("modules_in_block_to_quantize", ()),
    ):
        check_only(config, name, right)
    for name in _OF_MAKING_GPTQ:
        config.get(name)
    form = config.get("checkpoint_format") or config.get("format", "gptq")
    return StoredQuantization(
        form=form,
        group=_group_size(config, "group_size"),
        leaves=lambda module: False,
        has_zeros=True,
        by_activations=config.flag("desc_act"),
    )


def _awq(config: Fields) -> StoredQuantization:
    """In int4, in the order of AutoAWQ's GEMM."""
    for name, right in (("bits", (4,)), ("w_bit", (4,)), ("version", ("gemm", "GEMM")), ("backend", ("autoawq",)), ("do_fuse", (False,))):
        check_only(config, name, right)
    for name in ("exllama_config", "fuse_max_seq_len", "modules_to_fuse"):
        config.get(name)
    group = _group_size(config, "group_size" if config.get("group_size") is not None else "q_group_size")
    if config.get("zero_point", True) is not True:
        raise config.wrong("zero_point", config.get("zero_point"), "true")
    return StoredQuantization(form="awq", group=group, leaves=_has_parts(_names(config, "modules_to_not_convert")), has_zeros=True)


def _group_size(config: Fields, name: str) -> int | None:
    """Of a group; None for -1, which is all inputs."""
    return None if config.get(name) == -1 else config.integer(name)


_READERS: Mapping[str, Callable[[Fields], StoredQuantization]] = {
    "compressed-tensors": _compressed,
    "fp8": _fine_grained,
    "gptq": _gptq,
    "awq": _awq,
}


def _names(config: Fields, field: str) -> tuple[str, ...]:
    names = config.get(field, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise config.wrong(field, names, "a list of names")
    return tuple(names)


def _has_parts(names: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether one of the names is a module's, or some of its parts one after another."""
    left = frozenset(map(full_name, names))

    def leaves(module: str) -> bool:
        parts = module.split(".")
        return any(".".join(parts[first:stop]) in left for first in range(len(parts)) for stop in range(first + 1, len(parts) + 1))

    return leaves


def _is_or_matches(config: Fields, names: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether one of the names is a module's, or behind `re:` a pattern that it begins like."""
    left = frozenset(map(full_name, names))
    try:
        patterns = [re.compile(name.removeprefix(_PATTERN)) for name in names if name.startswith(_PATTERN)]
    except re.error as error:
        raise config.wrong("ignore", names, f"names, or patterns behind {_PATTERN} that can be read ({error})") from error

    def leaves(module: str) -> bool:
        return module in left or any(pattern.match(name) for pattern in patterns for name in (module, *other_names(module)))

    return leaves


def _modules(spec: ModelSpec, kind: str) -> Iterator[str]:
    """Full names of all modules whose matrices are of that kind."""
    layers = spec.dense_layers if kind in ("gate_up", "up", "down") else tuple(range(spec.layers))
    if spec.experts and kind.startswith(("expert", "shared")):
        layers = spec.experts.layers
    count = spec.experts.count if spec.experts else 1
    for layer in layers:
        for name in tensor_names(spec)[kind]:
            for expert in range(count if "{}" in name else 1):
                yield f"model.layers.{layer}.{name.format(expert).removesuffix('.weight')}"
