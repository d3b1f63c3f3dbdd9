"""A service built of options: checkpoints read, and an engine that `launch` builds."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.facts import spec_of
from muxjax.cluster.launcher import Launcher
from muxjax.cluster.lifecycle import ClusterLifecycle
from muxjax.cluster.options import SILENCE_S
from muxjax.cluster.plan import unit_specs
from muxjax.engine.options import UnitOptions
from muxjax.placement.problem import Placement
from muxjax.server.catalog import Catalog
from muxjax.server.model_files import ModelFiles, require_drafts_in_own_tokens
from muxjax.server.plans.placing import Placing
from muxjax.server.service import Service
from muxjax.whole_file import keeps_files

_log = logging.getLogger(__name__)


def build_service(
    options: UnitOptions, *, report: Callable[[str], Any] = print, progress: bool = True, told: Callable[[str], Any] = lambda phase: None
) -> Service:
    """A service of models that are loaded and compiled; it is not running yet.

    Args:
      report: is told what there is; told: what is done meanwhile, phase by phase, but for those that have a bar.
      progress: bars are drawn, where somebody looks at a terminal.
    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    check_cache_folder(options.compilation_cache_dir)
    told = _careful(told)
    told("reading tokenizers and templates")
    files = [ModelFiles.read(model) for model in options.models]
    require_drafts_in_own_tokens(files)
    told("importing JAX")
    from muxjax.launch.build import build  # imports JAX, which takes seconds

    built = build(options, report=_careful(report), progress=progress, told=told)
    now = int(time.time())
    models = []
    for file in files:
        name = file.options.name
        models.extend(file.served(built.models[name], max_model_len=built.models[name].max_len, created=now))
    return Service(built.engine, Catalog(models), built.options, built.lifecycle)


def build_cluster(
    placement: Placement,
    options: UnitOptions,
    launcher: Launcher,
    *,
    devices: int | None = None,
    silence_s: float = SILENCE_S,
    report: Callable[[str], Any] = print,
) -> Service:
    """A service of the units of a placement, whose workers start with it; models are there as soon as their unit is.

    Args:
      options: of all models, and what units have in common.
      devices: that there are; None where that is not known.
      silence_s: as of `ClusterEngine`.
    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    check_cache_folder(options.compilation_cache_dir)
    specs = unit_specs(placement, options, devices=devices)
    engine = ClusterEngine(specs, launcher, report=_careful(report), silence_s=silence_s)
    files = [ModelFiles.read(model) for model in options.models]
    require_drafts_in_own_tokens(files)
    models, now = [], int(time.time())
    for file in files:
        spec = spec_of(file.options)
        engine.learn(file.options, spec)
        models.extend(file.served(spec, max_model_len=spec.max_len, created=now))
    common = replace(options, lanes=None, sm_shares=())  # whatever each unit has come to have
    return Service(engine, Catalog(models), common, ClusterLifecycle(engine), Placing(engine, placement, options, devices))


def check_cache_folder(folder: str) -> None:
    """Warns of a folder that keeps no compiled programs; one that cannot be written may still hold some.

    Raises:
      ConfigError: it is no folder.
    """
    if folder and not keeps_files(folder, field="compilation_cache_dir"):
        _log.warning("newly compiled programs are not kept for the next start: %s cannot be written", folder)


def _careful(report: Callable[[str], Any]) -> Callable[[str], None]:
    """Whoever reads a report may have gone, or its disk be full: the models serve all the same."""

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):
            report(line)

    return tell
