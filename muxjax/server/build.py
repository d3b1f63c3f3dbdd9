"""A service built of options: checkpoints read, and an engine that `launch` builds."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from muxjax.engine.options import UnitOptions
from muxjax.server.catalog import Catalog
from muxjax.server.model_files import ModelFiles
from muxjax.server.service import Service
from muxjax.whole_file import keeps_files

_log = logging.getLogger(__name__)


def build_service(options: UnitOptions, *, report: Callable[[str], Any] = print, progress: bool = True) -> Service:
    """A service of models that are loaded and compiled; it is not running yet.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    check_cache_folder(options.compilation_cache_dir)
    files = [ModelFiles.read(model) for model in options.models]
    from muxjax.launch.build import build  # imports JAX, which takes seconds

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):  # whoever reads this may have gone, or its disk be full: the models serve all the same
            report(line)

    built = build(options, report=tell, progress=progress)
    now = int(time.time())
    models = []
    for file in files:
        name = file.options.name
        models.append(file.served(built.models[name], max_model_len=built.models[name].max_len, created=now))
    return Service(built.engine, Catalog(models), built.options, built.lifecycle)


def check_cache_folder(folder: str) -> None:
    """Warns of a folder that keeps no compiled programs; one that cannot be written may still hold some.

    Raises:
      ConfigError: it is no folder.
    """
    if folder and not keeps_files(folder, field="compilation_cache_dir"):
        _log.warning("newly compiled programs are not kept for the next start: %s cannot be written", folder)
