"""The one JSON encoder of what the server says: numbers that JSON does not know, which no client could read, are null."""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

_quick = msgspec.json.Encoder().encode
_NOT_QUICK = (TypeError, ValueError, OverflowError)
"""Of integers of more than 64 bits, halves of surrogates, and keys that are no text."""


def encode(value: object, *, default: Callable[[Any], Any] | None = None) -> str:
    """Compact JSON; NaN and infinities are null.

    Args:
      default: in place of what JSON cannot say; then all beyond ASCII is escaped, for logs.
    """
    if default is None:
        try:
            return _quick(value).decode()
        except _NOT_QUICK:
            pass
    write = partial(json.dumps, separators=(",", ":"), allow_nan=False, default=default)
    try:
        return write(value)
    except ValueError:
        return write(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_finite(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
