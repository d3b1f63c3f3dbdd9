"""Sampling that a checkpoint prefers, from its generation_config.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError
from muxjax.server.text.config_files import read_config

MOST_TEMPERATURE = 2
"""Of a request; a checkpoint may prefer a higher one, which then its requests may name too."""
MOST_TOP_K = 2**31 - 1
MOST_REPETITION_PENALTY = 1e6
NO_TOP_K = -1
"""All tokens, as 0."""
_MOST_PREFERRED_TEMPERATURE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingDefaults:
    """Sampling of a request that does not say; see `types.Sampling`."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


def load_defaults(folder: Path) -> SamplingDefaults:
    """The defaults of generation_config.json; OpenAI's where a value is null or missing.

    Raises:
      ConfigError: a value is no number in its range.
    """
    path = folder / "generation_config.json"
    config = read_config(path)
    return SamplingDefaults(
        temperature=_number(path, config, "temperature", 1.0, 0, _MOST_PREFERRED_TEMPERATURE),
        top_p=_number(path, config, "top_p", 1.0, 0, 1) or 1.0,
        top_k=max(int(_number(path, config, "top_k", 0, NO_TOP_K, MOST_TOP_K)), 0),
        min_p=_number(path, config, "min_p", 0.0, 0, 1),
        repetition_penalty=_number(path, config, "repetition_penalty", 1.0, 0, MOST_REPETITION_PENALTY) or 1.0,
    )


def _number(path: Path, config: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{path}: {name} must be a number from {low} to {high}, got {value!r}", field=name)
    return value
