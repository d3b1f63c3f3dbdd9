"""Size of what a client's grammar is made of, which is looked at before anything is made of it."""

from collections.abc import Iterable, Mapping
from typing import Any

from muxjax.errors import RequestError

_OTHER = 4
"""Characters that a number, a truth or the signs of a list or object count as."""


def require_small(value: Any, param: str, most: int) -> None:
    """Raises RequestError: a grammar, a schema, or several of them together have too many characters."""
    if characters(value, most) > most:
        raise RequestError(
            f"{param} has more than {most} characters, which is the most that a grammar may have (max_grammar_characters).",
            param=param,
            code="invalid_value",
        )


def is_nested_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects are in each other more than so many times."""
    level = [value]
    for _ in range(most + 1):
        level = [child for one in level for child in _children(one)]
    return bool(level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def characters(value: Any, most: int) -> int:
    """Of all texts and keys of a JSON value, with a few for each that is none; not counted much further than to `most`."""
    total, rest = 0, [value]
    while rest and total <= most:
        value = rest.pop()
        if isinstance(value, str):
            total += len(value)
            continue
        total += _OTHER
        if isinstance(value, Mapping):
            rest += value.values()
            total += sum(map(len, value)) + _OTHER * len(value)
        elif isinstance(value, list | tuple):
            rest += value
    return total
