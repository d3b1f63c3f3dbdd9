"""A JSON object that a client sent: a request's body, or a line of a batch."""

import json
from collections.abc import Mapping
from typing import Any

from muxjax.errors import RequestError


def read_object(body: bytes, *, called: str = "body") -> Mapping[str, Any]:
    """The object.

    Args:
      called: what errors call the bytes.
    Raises:
      RequestError: it is none, or holds NaN or infinity, which JSON does not know.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The {called} is no JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise RequestError(f"The {called} must be a JSON object, got {type(value).__name__}.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
