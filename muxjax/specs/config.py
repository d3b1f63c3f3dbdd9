"""Hugging Face's config.json, as transformers 4 and 5 spell it, to a ModelSpec and back.

Source for the meaning of fields and their defaults: the configuration classes of transformers 5.23.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError
from muxjax.specs.eos import read_eos_ids
from muxjax.specs.fields import Fields
from muxjax.types import ModelSpec, RopeScaling

FAMILIES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
DTYPES = ("bfloat16", "float16", "float32")
ROPE_TYPES = ("default", "linear", "llama3")

_ONLY: dict[str, tuple] = {
    "hidden_act": ("silu", "swish"),
    "partial_rotary_factor": (1,),
    "is_encoder_decoder": (False,),
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "logit_scale": (1,),
    "quantization_config": (),
    "compression_config": (),
    "per_layer_config": (),
}
"""Fields that change the maths, and the values under which they do not; absent or null is right for each."""

_HARMLESS = frozenset(
    {
        *("_name_or_path", "transformers_version", "bos_token_id", "pad_token_id", "use_cache", "return_dict", "torchscript"),
        *("attention_dropout", "initializer_range", "pretraining_tp", "chunk_size_feed_forward", "problem_type", "num_labels"),
        *("id2label", "label2id", "output_attentions", "output_hidden_states"),
    }
)

_BIASES = {
    "llama": {(False, False, False), (True, True, False), (False, False, True), (True, True, True)},
    "mistral": {(False, False, False)},
    "qwen2": {(True, False, False)},
    "qwen3": {(False, False, False), (True, True, False)},
}
"""Biases that each family can have: (qkv, out, mlp)."""

_log = logging.getLogger(__name__)


def read_spec(folder: Path, *, dtype: str = "auto", max_len: int | None = None) -> ModelSpec:
    """The model that a folder's config.json describes.

    Args:
      dtype: of the weights once loaded; "auto" for the one the file names (float32 if it names none).
      max_len: fewer positions than the model was made for; None for all of them.
    Raises:
      ConfigError: a missing field, or one that asks for something not supported; it names file, field, value and choice.
    """
    fields = Fields.load(folder / "config.json")
    family = _family(fields)
    for name, right in _ONLY.items():
        _check_only(fields, name, right)
    try:
        spec = _spec(fields, family, read_eos_ids(fields, folder, vocab=fields.integer("vocab_size")))
    except ConfigError as error:
        raise error if str(folder) in str(error) else ConfigError(f"{fields.where}: {error}", field=error.field) from None
    if unknown := [name for name in fields.never_asked() if name not in _HARMLESS]:
        _log.warning("%s: ignored unknown fields: %s", fields.where, ", ".join(unknown))
    return _overridden(spec, fields, dtype, max_len)


def to_hf_config(spec: ModelSpec) -> dict[str, Any]:
    """A config.json, in the spelling of transformers 4, from which `read_spec` makes the same spec.

    Raises:
      ConfigError: no supported architecture has this combination of variants.
    """
    family = _family_of(spec)
    windowed = [window for window in spec.windows if window is not None]
    config: dict[str, Any] = {
        "architectures": [name for name, known in FAMILIES.items() if known == family],
        "model_type": family,
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": spec.ffn,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.max_len,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "rope_scaling": _rope_scaling_of(spec.rope_scaling),
        "tie_word_embeddings": spec.tied,
        "torch_dtype": spec.dtype,
        "eos_token_id": list(spec.eos_ids) or None,
        "sliding_window": windowed[0] if windowed else None,
    }
    if family in ("llama", "qwen3"):
        config["attention_bias"] = spec.qkv_bias
    if family == "llama":
        del config["sliding_window"]
        config["mlp_bias"] = spec.mlp_bias
    if family in ("qwen2", "qwen3"):
        config["use_sliding_window"] = bool(windowed)
        config["layer_types"] = ["full_attention" if window is None else "sliding_attention" for window in spec.windows]
    return config


def _family(fields: Fields) -> str:
    """By architecture, or by model_type where a file has no architecture."""
    named, model_type = fields.get("architectures"), fields.get("model_type")
    if named is None and model_type in FAMILIES.values():
        return model_type
    if isinstance(named, list) and named and named[0] in FAMILIES:
        return FAMILIES[named[0]]
    raise fields.wrong("architectures", named, "one of " + ", ".join(FAMILIES))


def _check_only(fields: Fields, name: str, right: tuple) -> None:
    value = fields.get(name)
    if value is not None and value not in right:
        raise fields.wrong(name, value, " or ".join([*map(repr, right), "absent"]))


def _spec(fields: Fields, family: str, eos_ids: tuple[int, ...]) -> ModelSpec:
    layers, heads, max_len = (fields.integer(name) for name in ("num_hidden_layers", "num_attention_heads", "max_position_embeddings"))
    theta, scaling = _rope(fields, max_len)
    return ModelSpec(
        vocab=fields.integer("vocab_size"),
        width=fields.integer("hidden_size"),
        layers=layers,
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads if family == "llama" else None),
        head_dim=_head_dim(fields, family),
        ffn=fields.integer("intermediate_size"),
        max_len=max_len,
        windows=_windows(fields, family, layers),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        tied=fields.flag("tie_word_embeddings"),
        dtype=_dtype(fields),
        eos_ids=eos_ids,
        qk_norm=family == "qwen3",
        **_biases(fields, family),
    )


def _head_dim(fields: Fields, family: str) -> int:
    width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_dim = fields.integer("head_dim", 128 if family == "qwen3" else width // heads)
    if head_dim % 2:
        raise fields.wrong("head_dim", head_dim, "even, as rotary embedding turns pairs")
    return head_dim


def _biases(fields: Fields, family: str) -> dict[str, bool]:
    if family == "qwen2":
        return {"qkv_bias": True}
    attention = family in ("llama", "qwen3") and fields.flag("attention_bias")
    return {"qkv_bias": attention, "out_bias": attention, "mlp_bias": family == "llama" and fields.flag("mlp_bias")}


def _windows(fields: Fields, family: str, layers: int) -> tuple[int | None, ...]:
    """By layer_types where Qwen gives them, else from the first windowed layer on."""
    window, first = _window(fields, family)
    usual = ["full_attention" if window is None or layer < first else "sliding_attention" for layer in range(layers)]
    kinds = fields.get("layer_types", usual)
    if not isinstance(kinds, list) or len(kinds) != layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise fields.wrong("layer_types", kinds, f"full_attention or sliding_attention for each of {layers} layers")
    if family in ("llama", "mistral") and kinds != usual:
        raise fields.wrong("layer_types", kinds, f"{usual[0]} in all layers of this {family} model")
    if window is None and "sliding_attention" in kinds:
        raise fields.wrong("sliding_window", window, "in use where layer_types has sliding_attention")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _window(fields: Fields, family: str) -> tuple[int | None, int]:
    """Tokens a windowed layer sees, and the first layer that is windowed unless layer_types says otherwise."""
    if family == "llama":
        return None, 0
    off = fields.values.get("sliding_window", 4096) is None
    window = None if off else fields.integer("sliding_window", 4096)
    if family == "mistral":
        return window, 0
    used, first = fields.flag("use_sliding_window"), fields.get("max_window_layers", 28)
    if not isinstance(first, int) or first < 0:
        raise fields.wrong("max_window_layers", first, "a whole number")
    return (window if used else None), first


def _rope(fields: Fields, max_len: int) -> tuple[float, RopeScaling | None]:
    old, new = fields.child("rope_scaling"), fields.child("rope_parameters")
    rope = old if old.values else new
    _check_only(rope, "partial_rotary_factor", (1,))
    theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES or any(isinstance(value, dict) for value in rope.values.values()):
        raise rope.wrong("rope_type", kind if "rope_type" in rope.values else dict(rope.values), "one of " + ", ".join(ROPE_TYPES))
    if kind == "default":
        return theta, None
    factor = rope.number("factor")
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=factor)
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if low >= high:
        raise rope.wrong("high_freq_factor", high, f"over low_freq_factor={low}")
    original = fields.integer("original_max_position_embeddings", rope.integer("original_max_position_embeddings", max_len))
    return theta, RopeScaling(kind="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_max_len=original)


def _dtype(fields: Fields) -> str:
    old, new = fields.get("torch_dtype"), fields.get("dtype")
    name = str(new or old or "float32").removeprefix("torch.")
    if name not in DTYPES:
        raise fields.wrong("dtype" if new else "torch_dtype", name, "one of " + ", ".join(DTYPES))
    return name


def _overridden(spec: ModelSpec, fields: Fields, dtype: str, max_len: int | None) -> ModelSpec:
    if dtype not in ("auto", *DTYPES):
        raise ConfigError(f"dtype must be auto or one of {', '.join(DTYPES)}, got {dtype!r}", field="dtype")
    if max_len is not None and not 1 <= max_len <= spec.max_len:
        limit = f"1 to {spec.max_len}, the max_position_embeddings of {fields.where}"
        raise ConfigError(f"max_model_len must be {limit}, got {max_len}", field="max_model_len")
    return dataclasses.replace(spec, dtype=spec.dtype if dtype == "auto" else dtype, max_len=max_len or spec.max_len)


def _family_of(spec: ModelSpec) -> str:
    """The first family whose config can say all that the spec does."""
    windows = set(spec.windows)
    speakable = {"llama": windows == {None}, "mistral": len(windows) == 1}
    for family, biases in _BIASES.items():
        norms_fit = spec.qk_norm == (family == "qwen3")
        windows_fit = speakable.get(family, len(windows - {None}) <= 1)
        if norms_fit and windows_fit and (spec.qkv_bias, spec.out_bias, spec.mlp_bias) in biases:
            return family
    raise ConfigError(f"none of {', '.join(FAMILIES)} has the biases, norms and windows of {spec}", field="architectures")


def _rope_scaling_of(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    return {
        "rope_type": scaling.kind,
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_max_len,
    }
