"""JSON files beside a checkpoint's weights, such as tokenizer_config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError


def read_config(path: Path) -> Mapping[str, Any]:
    """A JSON object of a file; empty where there is no file.

    Raises:
      ConfigError: the file is no JSON object.
    """
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must be a JSON object, got {type(value).__name__}")
    return value
