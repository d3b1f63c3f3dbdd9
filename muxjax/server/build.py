"""A service built of options: checkpoints read, and an engine that `launch` builds."""

import time
from collections.abc import Callable
from typing import Any

from muxjax.engine.options import UnitOptions
from muxjax.server.catalog import Catalog
from muxjax.server.model_files import ModelFiles
from muxjax.server.service import Service


def build_service(options: UnitOptions, *, report: Callable[[str], Any] = print, progress: bool = True) -> Service:
    """A service of models that are loaded and compiled; it is not running yet.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    files = [ModelFiles.read(model) for model in options.models]
    from muxjax.launch.build import build  # imports JAX, which takes seconds

    built = build(options, report=report, progress=progress)
    now = int(time.time())
    models = []
    for file in files:
        name = file.options.name
        models.append(file.served(built.models[name], max_model_len=built.models[name].max_len, created=now))
    return Service(built.engine, Catalog(models), options, built.lifecycle)
