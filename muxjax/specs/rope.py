"""Rotary embedding of a config.json: `rope_scaling` of transformers 4, `rope_parameters` of transformers 5."""

from typing import Any

from muxjax.errors import ConfigError
from muxjax.specs.fields import Fields
from muxjax.specs.known_fields import check_only
from muxjax.types import RopeScaling

ROPE_TYPES = ("default", "linear", "llama3")
_DEFAULT_THETA = 10000.0


def rope_fields(fields: Fields) -> Fields:
    """The object that says how positions turn heads; empty where there is none.

    Raises:
      ConfigError: the two spellings are both there, and differ.
    """
    old, new = fields.child("rope_scaling"), fields.child("rope_parameters")
    if old.values and new.values and old.values != new.values:
        raise fields.wrong("rope_parameters", dict(new.values), f"the same as rope_scaling={dict(old.values)}, or one of them absent")
    return old if old.values else new


def read_rope(fields: Fields, rope: Fields, max_len: int) -> tuple[float, RopeScaling | None]:
    """Theta, and how frequencies are stretched.

    Raises:
      ConfigError: a kind that is not served, a number that it lacks, or two fields that contradict each other.
    """
    check_only(rope, "partial_rotary_factor", (1,))
    theta, kind = _theta(fields, rope), _kind(rope)
    original = rope.get("original_max_position_embeddings")
    if kind == "default":
        return theta, None
    factor = rope.number("factor")
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=factor)
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if low >= high:
        raise rope.wrong("high_freq_factor", high, f"over low_freq_factor={low}")
    outer = fields.integer("original_max_position_embeddings", rope.integer("original_max_position_embeddings", max_len))
    if original is not None and original != outer:
        raise rope.wrong("original_max_position_embeddings", original, f"the {outer} that stands outside")
    return theta, RopeScaling(kind="llama3", factor=factor, low_freq_factor=low, high_freq_factor=high, original_max_len=outer)


def to_rope_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    """The object from which `read_rope` makes the same scaling."""
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


def _theta(fields: Fields, rope: Fields) -> float:
    outer = fields.number("rope_theta", _DEFAULT_THETA)
    theta = rope.number("rope_theta", outer)
    if fields.get("rope_theta") is not None and theta != outer:
        raise rope.wrong("rope_theta", theta, f"the {outer} that stands outside")
    return theta


def _kind(rope: Fields) -> str:
    named, old = rope.get("rope_type"), rope.get("type")
    if named is not None and old is not None and named != old:
        raise rope.wrong("rope_type", named, f"the same as type={old!r}")
    kind = named or old or "default"
    if kind not in ROPE_TYPES or any(isinstance(value, dict) for value in rope.values.values()):
        raise _unsupported(rope, kind)
    return kind


def _unsupported(rope: Fields, kind: object) -> ConfigError:
    return rope.wrong("rope_type", kind if "rope_type" in rope.values else dict(rope.values), "one of " + ", ".join(ROPE_TYPES))
