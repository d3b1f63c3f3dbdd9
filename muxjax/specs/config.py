"""Hugging Face's config.json, as transformers 4 and 5 spell it, to a ModelSpec and back.

Source for the meaning of fields and their defaults: the configuration classes of transformers 5.23.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.specs.eos import read_eos_ids
from muxjax.specs.fields import MOST_SIZE, Fields, shorten
from muxjax.specs.folders import require_model_folder
from muxjax.specs.known_families import BARE, BY_ARCHITECTURE, BY_TYPE, FAMILIES
from muxjax.specs.known_fields import check_values, unknown_names
from muxjax.specs.pooling import read_pooling
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.quantization import StoredQuantization, read_quantization, resident
from muxjax.specs.reading.rope import read_rope, rope_fields, to_rope_scaling
from muxjax.specs.tensor_names import tensor_names
from muxjax.specs.weight_files import equal_bytes, main_dtype, read_headers
from muxjax.specs.with_pictures import WITH_PICTURES, text_fields

DTYPES = ("bfloat16", "float16", "float32")

MOST_LAYERS = 1024
MOST_POSITIONS = 2**27

_log = logging.getLogger(__name__)


def read_spec(
    folder: Path,
    *,
    dtype: str = "auto",
    max_len: int | None = None,
    allow_unknown: bool = False,
    weights: bool = True,
    quantization: str | None = None,
    cache_scales: bool = False,
) -> ModelSpec:
    """The model that a folder's config.json describes.

    Args:
      dtype: of the weights once loaded; "auto" for the one the file names, or else for the one they are stored in.
      max_len: fewer positions than the model was made for; None for all of them.
      allow_unknown: fields that are not known to be harmless are warned of, and not refused.
      weights: what the file leaves open, or says against the weights, is looked up in their headers where they are there.
      quantization: of `quantization.QUANTIZATIONS`, for matrices that are quantised while they are loaded; None for as they are stored.
      cache_scales: scales of keys and values are part of the model, where its weights have some.
    Raises:
      ConfigError: a missing field, or one that asks for something not supported; it names file, field, value and choice.
      CheckpointError: a file of weights that is damaged.
    """
    require_model_folder(folder)
    fields = text_fields(Fields.load(folder / "config.json"))
    family = _family(fields)
    fields = fields.with_defaults(family.defaults)
    check_values(fields, family)
    rope = rope_fields(fields, family)
    stored = _stored_quantization(fields, family)
    try:
        spec = _spec(fields, rope, family, read_eos_ids(fields, folder, family, vocab=_vocab(fields)))
        spec = dataclasses.replace(spec, quantization=resident(spec, stored, quantization))
    except ConfigError as error:
        raise error if str(folder) in str(error) else ConfigError(f"{fields.where}: {error}", field=error.field) from None
    if stored and spec.quantization is None:
        _log.warning("%s: its weights are widened to %s: no kind of matrices can be held as it is stored", fields.where, spec.dtype)
    _check_unknown(fields, unknown_names(fields, family), allow=allow_unknown)
    _check_unknown(rope, rope.never_asked(), allow=allow_unknown)
    spec = _overridden(spec, fields, dtype, max_len)
    if weights:
        spec = _as_stored(spec, fields, folder, dtype)
        spec = dataclasses.replace(spec, cache_scales=cache_scales and _has_cache_scales(spec, folder))
    return spec


def read_stored_quantization(folder: Path) -> StoredQuantization | None:
    """How a folder's config.json says that its weights are quantised; None where they are not, or there is no such file.

    Raises:
      ConfigError: a method or a form that is not read, by its name.
    """
    path = folder / "config.json"
    if not path.exists():
        return None
    fields = text_fields(Fields.load(path))
    return _stored_quantization(fields, _family(fields))


def _stored_quantization(fields: Fields, family: Family) -> StoredQuantization | None:
    return None if "quantization_config" in family.reads else read_quantization(fields)


def to_hf_config(spec: ModelSpec) -> dict[str, Any]:
    """A config.json, in the spelling of transformers 4, from which `read_spec` makes the same spec.

    Raises:
      ConfigError: no supported architecture has this combination of variants.
    """
    for family in FAMILIES:
        config = _common(spec, family) | family.written(spec)
        if _read_back(config, family, spec) == spec:
            return config
    known = ", ".join(BY_ARCHITECTURE)
    raise ConfigError(f"none of {known} has the biases, norms, windows and other variants of {spec}", field="architectures")


def _common(spec: ModelSpec, family: Family) -> dict[str, Any]:
    """What every family's config.json says."""
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": spec.vocab,
        "hidden_size": spec.width,
        "intermediate_size": spec.ffn,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": spec.max_len,
        "hidden_act": "silu",
        family.norm_eps: spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "rope_scaling": to_rope_scaling(spec.rope_scaling),
        "tie_word_embeddings": spec.tied,
        "torch_dtype": spec.dtype,
        "eos_token_id": list(spec.eos_ids) or None,
    }


def _read_back(config: dict[str, Any], family: Family, spec: ModelSpec) -> ModelSpec | None:
    """The spec of a config.json that was made of one, whose length may have been cut; None where the family cannot say such a thing."""
    fields = Fields(where="config.json", values=config)
    try:
        read = _spec(fields, rope_fields(fields, family), family, spec.eos_ids)
    except ConfigError:
        return None
    return dataclasses.replace(read, max_len=spec.max_len)


def _family(fields: Fields) -> Family:
    """By architecture, or by model_type where a file has no architecture."""
    named, model_type = fields.get("architectures"), fields.get("model_type")
    if named is None and isinstance(model_type, str) and model_type in BY_TYPE:
        return BY_TYPE[model_type]
    families = BY_ARCHITECTURE | BARE
    if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str) or named[0] not in families:
        raise fields.wrong("architectures", named, "one of " + ", ".join([*BY_ARCHITECTURE, *WITH_PICTURES]))
    family = families[named[0]]
    if model_type not in (None, family.model_type):
        raise fields.wrong("model_type", model_type, f"{family.model_type}, as architectures has {named[0]}")
    return family


def _vocab(fields: Fields) -> int:
    return fields.integer("vocab_size", most=MOST_SIZE)


def _spec(fields: Fields, rope_object: Fields, family: Family, eos_ids: tuple[int, ...]) -> ModelSpec:
    layers, heads = fields.integer("num_hidden_layers", most=MOST_LAYERS), fields.integer("num_attention_heads", most=MOST_SIZE)
    max_len, head_dim = fields.integer("max_position_embeddings", most=MOST_POSITIONS), _head_dim(fields, family)
    rope = read_rope(fields, rope_object, family, max_len=max_len, head_dim=head_dim)
    common: dict[str, Any] = {
        "vocab": _vocab(fields),
        "width": fields.integer("hidden_size", most=MOST_SIZE),
        "layers": layers,
        "heads": heads,
        "kv_heads": fields.integer("num_key_value_heads", None if family.needs_kv_heads else heads, most=MOST_SIZE),
        "head_dim": head_dim,
        "ffn": fields.integer("intermediate_size", most=MOST_SIZE),
        "max_len": rope.max_len,
        "norm_eps": fields.number(family.norm_eps, 1e-6),
        "rope_theta": rope.theta,
        "rope_scaling": rope.scaling,
        "rotary_dim": rope.rotary_dim,
        "tied": fields.flag("tie_word_embeddings") or fields.get("architectures") in [[name] for name in BARE],
        "dtype": _dtype(fields),
        "eos_ids": eos_ids,
    }
    return ModelSpec(**common | family.variant(fields, layers))


def _head_dim(fields: Fields, family: Family) -> int:
    name, width, heads = family.head_dim_field, fields.integer("hidden_size", most=MOST_SIZE), fields.integer("num_attention_heads")
    if family.head_dim is None and width % heads and fields.get(name) is None:
        raise fields.wrong("hidden_size", width, f"a multiple of num_attention_heads={heads} where there is no {name}")
    head_dim = fields.integer(name, family.head_dim or width // heads, most=MOST_SIZE)
    if heads * head_dim > MOST_SIZE:
        raise fields.wrong(name, head_dim, f"at most {MOST_SIZE} for all of num_attention_heads={heads} together")
    if head_dim % 2:
        raise fields.wrong(name, head_dim, "even, as rotary embedding turns pairs")
    return head_dim


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
        limit = f"1 to {spec.max_len}, the positions that {fields.where} is good for"
        raise ConfigError(f"max_model_len must be {limit}, got {max_len}", field="max_model_len")
    return dataclasses.replace(spec, dtype=spec.dtype if dtype == "auto" else dtype, max_len=max_len or spec.max_len)


def _check_unknown(fields: Fields, names: list[str], *, allow: bool) -> None:
    if names and allow:
        _log.warning("%s: ignored unknown fields: %s", fields.where, ", ".join(names))
    elif names:
        said = ", ".join(f"{name} = {shorten(fields.values[name])}" for name in names)
        way = "allow_unknown_config serves the model without them"
        raise ConfigError(f"{fields.where} has fields that are not known, and may change answers: {said}; {way}", field=names[0])


def _has_cache_scales(spec: ModelSpec, folder: Path) -> bool:
    (name,) = tensor_names(spec)["k_cache_scale"]
    return f"model.layers.0.{name}" in read_headers(folder)


def _as_stored(spec: ModelSpec, fields: Fields, folder: Path, dtype: str) -> ModelSpec:
    """With the dtype that only the weights say, and a head of its own where a tied model has one that differs, as in transformers 5.

    A checkpoint for embeddings may lack the head.
    """
    silent = dtype == "auto" and fields.get("dtype") is None and fields.get("torch_dtype") is None
    is_for_embeddings = read_pooling(folder) is not None
    if not silent and not spec.tied and not is_for_embeddings:
        return spec
    tensors, names = read_headers(folder), tensor_names(spec)
    [head_name], [embedding_name] = names["head"], names["embed"]
    if silent:
        spec = dataclasses.replace(spec, dtype=main_dtype(tensors) or spec.dtype)
    if is_for_embeddings and tensors and head_name not in tensors:
        return dataclasses.replace(spec, tied=True)
    head, embedding = tensors.get(head_name), tensors.get(embedding_name)
    if not spec.tied or head is None or embedding is None or equal_bytes(head, embedding):
        return spec
    _log.warning("%s: tie_word_embeddings is true, but %s differs from %s, and is used", fields.where, head_name, embedding_name)
    return dataclasses.replace(spec, tied=False)
