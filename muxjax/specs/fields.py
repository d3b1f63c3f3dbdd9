"""The fields of a JSON object, each checked as it is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError

MOST_SIZE = 2**22
"""Largest width, head, FFN or vocabulary: some sixteen times the largest that is published."""

_SAID_BY_NULL = frozenset(
    {"attn_logit_softcapping", "final_logit_softcapping", "num_key_value_heads", "partial_rotary_factor", "q_lora_rank"}
)
"""Fields of which a null is no lack, but says: no cap, a kv head for each query head, heads that are rotated whole, queries without a
latent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A JSON object that knows where it stands and which of its fields were asked for; a null field counts as absent.

    Raises (all methods): ConfigError, naming place, field, value and what would be right.
    """

    where: str
    values: Mapping[str, Any]
    asked: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path) -> "Fields":
        try:
            values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist: a Hugging Face or Orbax folder has one", field="path") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read as JSON: {error}", field="path") from error
        except RecursionError:
            raise ConfigError(f"{path} cannot be read as JSON: it is nested too deeply", field="path") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must hold a JSON object, got {shorten(values)}", field="path")
        return cls(where=str(path), values=values)

    def with_defaults(self, defaults: Mapping[str, Any]) -> "Fields":
        """The same object, with values for fields that it lacks."""
        said = {name for name, value in self.values.items() if value is not None or name in _SAID_BY_NULL}
        lacking = {name: value for name, value in defaults.items() if name not in said}
        return Fields(where=self.where, values={**self.values, **lacking}, asked=self.asked)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        value = self.values.get(name)
        return default if value is None else value

    def integer(self, name: str, default: int | None = None, *, most: int | None = None) -> int:
        """A whole number over 0, and at most `most`; required where there is no default."""
        value = self._required(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self.wrong(name, value, "a whole number over 0")
        if most is not None and value > most:
            raise self.wrong(name, value, f"at most {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number over 0; required where there is no default."""
        value = self._required(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise self.wrong(name, value, "a number over 0")
        return float(value)

    def flag(self, name: str) -> bool:
        """Absent is False."""
        value = self.get(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def child(self, name: str) -> "Fields":
        """The object in a field; absent is empty."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, value, "an object")
        return Fields(where=f"{self.where}: {name}", values=value)

    def wrong(self, name: str, value: object, supported: str) -> ConfigError:
        """The error to raise."""
        return ConfigError(f"{self.where}: {name} must be {supported}, got {shorten(value)}", field=name)

    def never_asked(self) -> list[str]:
        """Names of fields with a value that nobody read."""
        return sorted(name for name, value in self.values.items() if value is not None and name not in self.asked)

    def _required(self, name: str, default: Any) -> Any:
        value = self.get(name, default)
        if value is None:
            raise ConfigError(f"{self.where}: {name} is missing", field=name)
        return value


def shorten(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys say one thing each."""
    values = dict(pairs)
    for name, value in pairs:
        if len(values) < len(pairs) and values[name] != value:
            raise ValueError(f"{shorten(name)} stands twice, as {shorten(value)} and as {shorten(values[name])}")
    return values
