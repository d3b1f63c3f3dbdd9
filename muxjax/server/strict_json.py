"""JSON of what the server says: numbers that JSON does not know, which no client could read, are null."""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_quick = msgspec.json.Encoder().encode


def encode(value: object, *, default: Callable[[Any], Any] | None = None) -> str:
    """Compact JSON in ASCII; NaN and infinities are null.

    Args:
      default: in place of what JSON cannot say.
    """
    write = partial(json.dumps, separators=(",", ":"), allow_nan=False, default=default) if default else _encode
    try:
        return write(value)
    except ValueError:
        return write(_finite(value))


def encode_event(value: object) -> bytes:
    """Compact JSON in UTF-8, quickly, for what is said of every token."""
    try:
        return _quick(value)
    except (TypeError, ValueError, OverflowError):  # halves of surrogates, integers of more than 64 bits, keys that are no text
        return encode(value).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_finite(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
