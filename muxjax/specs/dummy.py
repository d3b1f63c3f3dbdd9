"""Folders of models whose weights are random."""

import json
from collections.abc import Mapping
from pathlib import Path

from muxjax.model_spec import ModelSpec
from muxjax.specs.config import to_hf_config


def write_dummy_models(folder: Path, specs: Mapping[str, ModelSpec]) -> dict[str, Path]:
    """A folder for each model with nothing but a config.json, which is all that `load_format: dummy` needs."""
    paths = {name: folder / name for name in specs}
    for name, path in paths.items():
        path.mkdir()
        (path / "config.json").write_text(json.dumps(to_hf_config(specs[name])))
    return paths
