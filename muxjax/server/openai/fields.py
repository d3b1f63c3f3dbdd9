"""A client's JSON object read field by field: the right type and range, or an error that names the field."""

import math
import reprlib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from muxjax.errors import RequestError

MOST_BAD_WORDS = 1000
MOST_BAD_WORD_CHARACTERS = 256
D = TypeVar("D")
_MOST_NAME = 100  # characters of a field's name that are told


class Fields:
    """A JSON object; a null is as good as no field.

    Args:
      at: its own name in the request, "" for the whole body.
    """

    def __init__(self, body: Mapping[str, Any], at: str = ""):
        self._body = body
        self._at = f"{at}." if at else ""
        self._read: set[str] = set()

    @property
    def raw(self) -> Mapping[str, Any]:
        """The whole object as it is."""
        return self._body

    def get(self, name: str) -> Any:
        """The value as it is."""
        self._read.add(name)
        return self._body.get(name)

    def required(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise self.error(name, "is required")
        return value

    def text(self, name: str) -> str | None:
        return self._typed(name, None, str, "a string")

    def required_text(self, name: str) -> str:
        self.required(name)
        return self.text(name) or ""

    def flag(self, name: str, default: bool = False) -> bool:
        return self._typed(name, default, bool, "true or false")

    def integer(self, name: str, default: D, low: int, high: int) -> int | D:
        value = self._typed(name, default, int, "an integer")
        return self._within(name, value, low, high) if value is not default else default

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._typed(name, default, (int, float), "a number")
        return float(self._within(name, value, low, high))

    def object(self, name: str) -> "Fields | None":
        value = self._typed(name, None, dict, "an object")
        return None if value is None else Fields(value, self._at + name)

    def required_object(self, name: str) -> "Fields":
        self.required(name)
        return Fields(self._typed(name, {}, dict, "an object"), self._at + name)

    def objects(self, name: str) -> "list[Fields]":
        """A list of objects, each of which knows its place; empty without one."""
        value = self._typed(name, [], list, "a list")
        for place, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.error(f"{name}[{place}]", f"must be an object, got {show(item)}")
        return [Fields(item, f"{self._at}{name}[{place}]") for place, item in enumerate(value)]

    def unread(self, most: int) -> list[str]:
        """Beginnings of the names of fields that nothing asked for, at most so many."""
        return [name[:_MOST_NAME] for name in islice((name for name in self._body if name not in self._read), most)]

    def where(self, name: str) -> str:
        """The field's name from the whole body on, as errors have it."""
        return self._at + name

    def error(self, name: str, problem: str, *, code: str | None = None) -> RequestError:
        return RequestError(f"{self._at}{name} {problem}", param=self._at + name, code=code)

    def _typed(self, name: str, default: Any, kind: type | tuple[type, ...], what: str) -> Any:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(name, f"must be {what}, got {show(value)}")
        return value

    def _within(self, name: str, value: Any, low: float, high: float) -> Any:
        if not low <= value <= high or (isinstance(value, float) and not math.isfinite(value)):
            raise self.error(name, f"must be {low} to {high}, got {show(value)}", code="invalid_value")
        return value


class _Beginning(reprlib.Repr):
    """Shows the first entries of an object, where its base would sort them all."""

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        return super().repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)


_beginning = _Beginning()


def show(value: object) -> str:
    """A client's value, cut to a length that an error may have."""
    return _beginning.repr(value)[:200]


def is_token(value: object, vocab: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocab


def token_ids(fields: Fields, name: str, vocab: int) -> tuple[int, ...]:
    """A list of token ids; empty without one.

    Raises:
      RequestError: anything else.
    """
    value = fields.get(name)
    value = [] if value is None else value
    if not isinstance(value, list) or not all(is_token(token, vocab) for token in value):
        raise fields.error(name, f"must be a list of token ids from 0 to {vocab - 1}, got {show(value)}")
    return tuple(value)


def strings(fields: Fields, name: str, most: int, characters: int) -> tuple[str, ...]:
    """A string or a short list of them, none empty.

    Args:
      characters: most of one string.
    Raises:
      RequestError: anything else.
    """
    value = fields.get(name)
    texts: Sequence[object] = [] if value is None else value if isinstance(value, list) else [value]
    if len(texts) > most or not all(isinstance(text, str) and text for text in texts):
        raise fields.error(name, f"must be a string or a list of at most {most}, none of them empty, got {show(value)}")
    longest = max((len(str(text)) for text in texts), default=0)
    if longest > characters:
        raise fields.error(name, f"must have at most {characters} characters each, got {longest}", code="invalid_value")
    return tuple(str(text) for text in texts)
