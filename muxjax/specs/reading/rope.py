"""Rotary embedding of a config.json: `rope_scaling` of transformers 4, `rope_parameters` of transformers 5."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from muxjax.model_spec import RopeScaling
from muxjax.specs.fields import Fields
from muxjax.specs.known_fields import check_only
from muxjax.specs.reading.family import Family
from muxjax.specs.reading.windows import FULL, SLIDING

_log = logging.getLogger(__name__)
_BETA_FAST, _BETA_SLOW = 32.0, 1.0
_QUERY_BETA = "llama_4_scaling_beta"


class Rope(NamedTuple):
    """How positions turn heads.

    Args:
      rotary_dim: numbers of a head that are turned; None for all.
      max_len: positions that this is good for.
    """

    theta: float
    scaling: RopeScaling | None
    rotary_dim: int | None
    max_len: int


def rope_fields(fields: Fields, family: Family) -> Fields:
    """The object that says how positions turn heads, of layers without a window where others have their own; empty where there is none.

    Raises:
      ConfigError: the two spellings are both there, and differ.
    """
    old, new = fields.child("rope_scaling"), fields.child("rope_parameters")
    if family.rope_by_kind and new.values:
        if old.values or not new.values.keys() <= {FULL, SLIDING}:
            raise fields.wrong("rope_parameters", dict(new.values), f"objects for {FULL} and {SLIDING}, without rope_scaling")
        old = new.child(FULL)
    if family.rope_by_kind and old.values and "rope_type" not in old.values:  # transformers 5 would take it for the default
        raise fields.wrong("rope_scaling", dict(old.values), "an object with a rope_type")
    if family.rope_by_kind:
        check_only(old, "truncate", (True,))  # of which transformers 5 asks elsewhere
        return old
    if old.values and new.values and old.values != new.values:
        raise fields.wrong("rope_parameters", dict(new.values), f"the same as rope_scaling={dict(old.values)}, or one of them left out")
    return old if old.values else new


def read_rope(fields: Fields, rope: Fields, family: Family, *, max_len: int, head_dim: int) -> Rope:
    """
    Args:
      max_len: positions of the model, whatever is stretched.
    Raises:
      ConfigError: a kind that is not served, a number that it lacks, or two fields that contradict each other.
    """
    theta, rotary_dim, kind = _theta(fields, rope, family.rope_theta), _rotary_dim(fields, rope, family, head_dim), _kind(rope, family)
    named = rope.get("original_max_position_embeddings")
    if kind in _STRETCHED:
        original = fields.integer("original_max_position_embeddings", rope.integer("original_max_position_embeddings", max_len))
        if named is not None and named != original:
            raise rope.wrong("original_max_position_embeddings", named, f"the {original} that stands outside")
        scaling = _STRETCHED[kind](rope, original, max_len / original, rotary_dim or head_dim)
        if family.grows_queries:
            check_only(rope, "max_position_embeddings", (max_len,))
            scaling = replace(scaling, query_beta=rope.number(_QUERY_BETA))
        return Rope(theta, scaling, rotary_dim, _most_positions(fields, scaling, max_len))
    factor = rope.number("factor") if kind != "default" else 1.0
    return Rope(theta, RopeScaling(kind="linear", factor=factor) if kind == "linear" else None, rotary_dim, max_len)


def to_rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """The object from which `read_rope` makes the same scaling."""
    if scaling is None:
        return None
    original = {"original_max_position_embeddings": scaling.original_max_len}
    of_kind = {
        "linear": {"factor": scaling.factor},
        "llama3": {
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            **original,
        },
        "yarn": {
            "factor": scaling.factor,
            "attention_factor": scaling.attention_factor,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            "truncate": scaling.beta_whole,
            **({_QUERY_BETA: scaling.query_beta} if scaling.query_beta else {}),
            **original,
        },
        "longrope": {
            "short_factor": list(scaling.factors),
            "long_factor": list(scaling.factors),
            "attention_factor": scaling.attention_factor,
            **original,
        },
    }
    return {"rope_type": scaling.kind, **of_kind[scaling.kind]}


def _theta(fields: Fields, rope: Fields, default: float) -> float:
    outer = fields.number("rope_theta", default)
    theta = rope.number("rope_theta", outer)
    if fields.get("rope_theta") is not None and theta != outer:
        raise rope.wrong("rope_theta", theta, f"the {outer} that stands outside")
    return theta


def _rotary_dim(fields: Fields, rope: Fields, family: Family, head_dim: int) -> int | None:
    name = "partial_rotary_factor"
    if name not in family.reads:
        check_only(rope, name, (1,))
        return None
    outer = fields.number(name, 1.0)
    turned = rope.number(name, outer)
    if fields.get(name) not in (None, family.defaults.get(name)) and turned != outer:  # a default is said by nobody
        raise rope.wrong(name, turned, f"the {outer} that stands outside")
    rotary_dim = int(head_dim * turned)
    if not 2 <= rotary_dim <= head_dim or rotary_dim % 2:
        raise rope.wrong(name, turned, f"a part of head_dim={head_dim} that is even, as rotary embedding turns pairs")
    return None if rotary_dim == head_dim else rotary_dim


def _kind(rope: Fields, family: Family) -> str:
    named, old = rope.get("rope_type"), rope.get("type")
    if named is not None and old is not None and named != old:
        raise rope.wrong("rope_type", named, f"the same as type={old!r}")
    kind = named or old or "default"
    if not isinstance(kind, str) or kind not in family.rope_types or any(isinstance(value, dict) for value in rope.values.values()):
        wrong = kind if "rope_type" in rope.values else dict(rope.values)
        raise rope.wrong("rope_type", wrong, "one of " + ", ".join(family.rope_types))
    return family.rope_types[kind]


def _llama3(rope: Fields, original: int, stretch: float, size: int) -> RopeScaling:
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if low >= high:
        raise rope.wrong("high_freq_factor", high, f"over low_freq_factor={low}")
    factor = rope.number("factor")
    return RopeScaling(kind="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_max_len=original)


def _yarn(rope: Fields, original: int, stretch: float, size: int) -> RopeScaling:
    factor, truncate = rope.number("factor"), rope.get("truncate", True)
    if not isinstance(truncate, bool):
        raise rope.wrong("truncate", truncate, "true or false")
    scales = [rope.number(name, 1.0) for name in ("mscale", "mscale_all_dim") if rope.get(name) is not None]
    top, bottom = scales if len(scales) == 2 else (1.0, 0.0)
    usual = (_magnitude(factor, top) / _magnitude(factor, bottom)) if factor > 1 else 1.0
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_max_len=original,
        attention_factor=rope.number("attention_factor", usual),
        beta_fast=rope.number("beta_fast", _BETA_FAST),
        beta_slow=rope.number("beta_slow", _BETA_SLOW),
        beta_whole=truncate,
    )


def _magnitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0


def _longrope(rope: Fields, original: int, stretch: float, size: int) -> RopeScaling:
    """The short factors: those of a text no longer than the original length."""
    factors = {name: rope.get(name) for name in ("short_factor", "long_factor")}
    for name, values in factors.items():
        numbers = isinstance(values, list) and all(isinstance(value, int | float) and 0 < value < math.inf for value in values)
        if not numbers or len(values) != size // 2:
            raise rope.wrong(name, values, f"{size // 2} numbers over 0, one for each pair that is turned")
    factor = rope.number("factor", stretch)
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    attention_factor = rope.number("attention_factor", usual)
    short = tuple(float(value) for value in factors["short_factor"])
    return RopeScaling(kind="longrope", original_max_len=original, attention_factor=attention_factor, factors=short)


_STRETCHED: dict[str, Callable[[Fields, int, float, int], RopeScaling]] = {"llama3": _llama3, "yarn": _yarn, "longrope": _longrope}
"""Kinds that know of an original length: from it, the times that the model's length is of it, and the numbers of a head that are turned."""


def _most_positions(fields: Fields, scaling: RopeScaling, max_len: int) -> int:
    """Yarn stretches the original length. Longrope's factors beyond it are others for all positions of a text, the cached ones too."""
    if scaling.kind == "yarn":
        return max(max_len, int(scaling.factor * scaling.original_max_len))
    if scaling.kind == "longrope" and scaling.original_max_len < max_len:
        served = scaling.original_max_len
        _log.warning("%s: %d positions are served, the original ones of longrope, and not all %d", fields.where, served, max_len)
        return served
    return max_len
