"""Which layers attend within a window."""

from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields

FULL, SLIDING = "full_attention", "sliding_attention"

NO_WINDOW: dict[str, tuple[object, ...]] = {"sliding_window": (), "use_sliding_window": (False,)}
"""Values of a family without windows; see `Family.only`."""


def read_windows(
    fields: Fields, layers: int, window: int | None, usual: list[str], *, family: str, mixed: bool = True
) -> tuple[int | None, ...]:
    """A window for each layer, None for the whole context: by layer_types, or else as usual.

    Args:
      usual: kinds of the layers where a file has no layer_types.
      mixed: a file may give other kinds.
    Raises:
      ConfigError: layer_types is no list of kinds, or one that the family has no part for.
    """
    kinds = fields.get("layer_types", usual)
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in (FULL, SLIDING) for kind in kinds):
        raise fields.wrong("layer_types", kinds, f"{FULL} or {SLIDING} for each of {layers} layers")
    if not mixed and kinds != usual:
        raise fields.wrong("layer_types", kinds, f"{usual[0]} in all layers of this {family} model")
    if window is None and SLIDING in kinds:
        raise fields.wrong("sliding_window", window, f"in use where layer_types has {SLIDING}")
    return tuple(window if kind == SLIDING else None for kind in kinds)


def every(pattern: int, layers: int) -> list[str]:
    """Kinds of layers of which each so many, counted from the first, ends with one of the whole context; the others have a window."""
    return [SLIDING if (layer + 1) % pattern else FULL for layer in range(layers)]


def same_window(fields: Fields, layers: int, window: int | None, *, family: str) -> tuple[int | None, ...]:
    """The same window in all layers.

    Raises:
      ConfigError: layer_types says otherwise.
    """
    usual = [FULL if window is None else SLIDING] * layers
    return read_windows(fields, layers, window, usual, family=family, mixed=False)


def window_of(fields: Fields, default: int | None) -> int | None:
    """Tokens of `sliding_window`; a null there is no window, and the default is that of a file without the field."""
    value = fields.values.get("sliding_window", default)
    fields.get("sliding_window")
    return None if value is None else fields.integer("sliding_window", default)


def first_window(spec: ModelSpec) -> int | None:
    """The window of the layers that have one."""
    return next((window for window in spec.windows if window is not None), None)


def layer_kinds(spec: ModelSpec) -> list[str]:
    """As layer_types names them."""
    return [FULL if window is None else SLIDING for window in spec.windows]


def written_windows(spec: ModelSpec) -> dict[str, Any]:
    """Fields by which a file says them."""
    return {"sliding_window": first_window(spec), "layer_types": layer_kinds(spec)}


def local_theta(fields: Fields, default: float) -> float:
    """Theta of layers with a window, where `rope_parameters` give each kind of layer its own.

    Raises:
      ConfigError: these layers' rotary embedding is stretched, or asks for more.
    """
    rope = fields.child("rope_parameters").child(SLIDING)
    theta, kind = rope.number("rope_theta", default), rope.get("rope_type", "default")
    if kind != "default" or rope.never_asked():
        raise fields.wrong("rope_parameters", dict(rope.values), f"of rope_type default, with no more than a rope_theta, for {SLIDING}")
    return theta
