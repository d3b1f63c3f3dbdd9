"""Hugging Face's config.json, as transformers 4 and 5 spell it, to a ModelSpec and back.

Source for the meaning of fields and their defaults: the configuration classes of transformers 5.23.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError
from muxjax.specs.eos import read_eos_ids
from muxjax.specs.fields import Fields, shorten
from muxjax.specs.folders import require_model_folder
from muxjax.specs.known_fields import check_values, unknown_names
from muxjax.specs.pooling import read_pooling
from muxjax.specs.rope import read_rope, rope_fields, to_rope_scaling
from muxjax.specs.weight_files import equal_bytes, main_dtype, read_headers
from muxjax.types import ModelSpec

FAMILIES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
WITHOUT_HEAD = {"LlamaModel": "llama", "MistralModel": "mistral", "Qwen2Model": "qwen2", "Qwen3Model": "qwen3"}
"""Decoders alone, as checkpoints for embeddings have them: the embedding stands for the head, which nobody asks."""
DTYPES = ("bfloat16", "float16", "float32")
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"

MOST_LAYERS = 1024
MOST_SIZE = 2**22
"""Largest width, head, FFN or vocabulary: some sixteen times the largest that is published."""
MOST_POSITIONS = 2**27

_BIASES = {
    "llama": {(False, False, False), (True, True, False), (False, False, True), (True, True, True)},
    "mistral": {(False, False, False)},
    "qwen2": {(True, False, False)},
    "qwen3": {(False, False, False), (True, True, False)},
}
"""Biases that each family can have: (qkv, out, mlp)."""

_log = logging.getLogger(__name__)


def read_spec(
    folder: Path, *, dtype: str = "auto", max_len: int | None = None, allow_unknown: bool = False, weights: bool = True
) -> ModelSpec:
    """The model that a folder's config.json describes.

    Args:
      dtype: of the weights once loaded; "auto" for the one the file names, or else for the one they are stored in.
      max_len: fewer positions than the model was made for; None for all of them.
      allow_unknown: fields that are not known to be harmless are warned of, and not refused.
      weights: what the file leaves open, or says against the weights, is looked up in their headers where they are there.
    Raises:
      ConfigError: a missing field, or one that asks for something not supported; it names file, field, value and choice.
      CheckpointError: a file of weights that is damaged.
    """
    require_model_folder(folder)
    fields = Fields.load(folder / "config.json")
    family = _family(fields)
    check_values(fields, family)
    rope = rope_fields(fields)
    try:
        spec = _spec(fields, rope, family, read_eos_ids(fields, folder, family=family, vocab=_vocab(fields)))
    except ConfigError as error:
        raise error if str(folder) in str(error) else ConfigError(f"{fields.where}: {error}", field=error.field) from None
    _check_unknown(fields, unknown_names(fields, family), allow=allow_unknown)
    _check_unknown(rope, rope.never_asked(), allow=allow_unknown)
    spec = _overridden(spec, fields, dtype, max_len)
    return _as_stored(spec, fields, folder, dtype) if weights else spec


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
        "rope_scaling": to_rope_scaling(spec.rope_scaling),
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
    families = FAMILIES | WITHOUT_HEAD
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str) or named[0] not in families:
        raise fields.wrong("architectures", named, "one of " + ", ".join(FAMILIES))
    family = families[named[0]]
    if model_type not in (None, family):
        raise fields.wrong("model_type", model_type, f"{family}, as architectures has {named[0]}")
    return family


def _vocab(fields: Fields) -> int:
    return fields.integer("vocab_size", most=MOST_SIZE)


def _spec(fields: Fields, rope: Fields, family: str, eos_ids: tuple[int, ...]) -> ModelSpec:
    layers, heads = fields.integer("num_hidden_layers", most=MOST_LAYERS), fields.integer("num_attention_heads", most=MOST_SIZE)
    max_len = fields.integer("max_position_embeddings", most=MOST_POSITIONS)
    theta, scaling = read_rope(fields, rope, max_len)
    attention_bias = family in ("llama", "qwen3") and fields.flag("attention_bias")
    return ModelSpec(
        vocab=_vocab(fields),
        width=fields.integer("hidden_size", most=MOST_SIZE),
        layers=layers,
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads if family == "llama" else None, most=MOST_SIZE),
        head_dim=_head_dim(fields, family),
        ffn=fields.integer("intermediate_size", most=MOST_SIZE),
        max_len=max_len,
        windows=_windows(fields, family, layers),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        tied=fields.flag("tie_word_embeddings") or fields.get("architectures") in [[name] for name in WITHOUT_HEAD],
        dtype=_dtype(fields),
        eos_ids=eos_ids,
        qk_norm=family == "qwen3",
        qkv_bias=family == "qwen2" or attention_bias,
        out_bias=attention_bias,
        mlp_bias=family == "llama" and fields.flag("mlp_bias"),
    )


def _head_dim(fields: Fields, family: str) -> int:
    width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if family != "qwen3" and width % heads and fields.get("head_dim") is None:
        raise fields.wrong("hidden_size", width, f"a multiple of num_attention_heads={heads} where there is no head_dim")
    head_dim = fields.integer("head_dim", 128 if family == "qwen3" else width // heads, most=MOST_SIZE)
    if heads * head_dim > MOST_SIZE:
        raise fields.wrong("head_dim", head_dim, f"at most {MOST_SIZE} for all of num_attention_heads={heads} together")
    if head_dim % 2:
        raise fields.wrong("head_dim", head_dim, "even, as rotary embedding turns pairs")
    return head_dim


def _windows(fields: Fields, family: str, layers: int) -> tuple[int | None, ...]:
    """By layer_types where Qwen gives them, else from the first windowed layer on."""
    window, first = _window(fields, family)
    usual = ["full_attention" if window is None or layer < first else "sliding_attention" for layer in range(layers)]
    kinds = fields.get("layer_types", usual)
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
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


def _dtype(fields: Fields) -> str:
    old, new = (str(value).removeprefix("torch.") for value in (fields.get("torch_dtype", ""), fields.get("dtype", "")))
    if old and new and old != new:
        raise fields.wrong("dtype", new, f"the same as torch_dtype={old!r}")
    name = new or old or "float32"
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


def _check_unknown(fields: Fields, names: list[str], *, allow: bool) -> None:
    if names and allow:
        _log.warning("%s: ignored unknown fields: %s", fields.where, ", ".join(names))
    elif names:
        said = ", ".join(f"{name} = {shorten(fields.values[name])}" for name in names)
        way = "allow_unknown_config serves the model without them"
        raise ConfigError(f"{fields.where} has fields that are not known, and may change answers: {said}; {way}", field=names[0])


def _as_stored(spec: ModelSpec, fields: Fields, folder: Path, dtype: str) -> ModelSpec:
    """With the dtype that only the weights say, and a head of its own where a tied model has one that differs, as in transformers 5.

    A checkpoint for embeddings may lack the head.
    """
    silent = dtype == "auto" and fields.get("dtype") is None and fields.get("torch_dtype") is None
    is_for_embeddings = read_pooling(folder) is not None
    if not silent and not spec.tied and not is_for_embeddings:
        return spec
    tensors = read_headers(folder)
    if silent:
        spec = dataclasses.replace(spec, dtype=main_dtype(tensors) or spec.dtype)
    if is_for_embeddings and tensors and HEAD not in tensors:
        return dataclasses.replace(spec, tied=True)
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    if not spec.tied or head is None or embedding is None or equal_bytes(head, embedding):
        return spec
    _log.warning("%s: tie_word_embeddings is true, but %s differs from %s, and is used", fields.where, HEAD, EMBEDDING)
    return dataclasses.replace(spec, tied=False)


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
