"""JSON files beside a checkpoint's weights, such as tokenizer_config.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxjax.specs.fields import Fields


def read_config(path: Path) -> Mapping[str, Any]:
    """A JSON object of a file; empty where there is no file.

    Raises:
      ConfigError: the file is no JSON object.
    """
    return Fields.load(path).values if path.exists() else {}
