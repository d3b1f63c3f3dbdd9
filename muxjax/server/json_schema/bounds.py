"""Bounds of numbers as grammars hold them: in floats, which have not every integer beyond 2**53, and without the least one of 64 bits."""

import math
from collections.abc import Mapping
from typing import Any

_INWARD = {"minimum": math.inf, "exclusiveMinimum": math.inf, "maximum": -math.inf, "exclusiveMaximum": -math.inf}
_LEAST = -(2**63)


def held_bounds(schema: Mapping[str, Any]) -> dict[str, int]:
    """Bounds of the schema, each as the next within that can be held: no answer is beyond it, and a few up to it are left out."""
    bounds = {key: value for key in _INWARD if type(value := schema.get(key)) is int and abs(value) > 2**53}
    return {key: _rounded(value, _INWARD[key]) for key, value in bounds.items()}


def _rounded(value: int, towards: float) -> int:
    try:
        nearest = float(value)
    except OverflowError:
        return value
    is_beyond = nearest < value if towards > 0 else nearest > value
    return int(math.nextafter(nearest, towards)) if is_beyond or (value == _LEAST and towards > 0) else int(nearest)
