"""From options to an engine that is ready to serve: a worker with the models, and the unit, policy and thread that use it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from muxjax.engine.device_control import DeviceControl, Loaded
from muxjax.engine.engine import Engine
from muxjax.engine.grammar import Grammars
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.model.plan import layout_of
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.unit import Unit
from muxjax.errors import MuxError, RequestError
from muxjax.launch.lifecycle import ModelLifecycle
from muxjax.launch.report import start_report
from muxjax.launch.worker import start_worker
from muxjax.model_spec import ModelSpec
from muxjax.progress import Progress
from muxjax.scheduler.policies import by_name, default
from muxjax.specs.pooling import read_pooling
from muxjax.types import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine, not yet started, what its models turned out to be, and the report of what fits.

    Args:
      options: with policy and lanes as they have come to be.
      device: JAX's name of what they are on.
    """

    options: UnitOptions
    device: str
    engine: Engine
    lifecycle: ModelLifecycle
    models: Mapping[str, ModelSpec]
    report: tuple[str, ...]


def build(
    options: UnitOptions,
    *,
    report: Callable[[str], Any] = print,
    progress: bool = True,
    told: Callable[[str], Any] = lambda phase: None,
    doing: Callable[[str], Any] = lambda what: None,
) -> Built:
    """Starts a worker, reports what fits, and makes the engine that uses it.

    Args:
      progress, told, doing: as of `Progress`.
    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    following = Progress(bars=progress, told=told, doing=doing)
    worker = start_worker(options, following)
    lanes = len({loaded.lane for loaded in worker.models.values()})
    policy = options.policy or default(lanes)
    options = replace(options, lanes=lanes, policy=policy)
    following.phase("reading vocabularies for grammars")
    config_of = partial(model_config, options, worker.kv_dtype, worker.control)
    configs = [config_of(model, worker.models[model.name]) for model in options.models]
    lines = start_report(options, worker, configs)
    for line in lines:
        report(line)
    unit = Unit(
        configs,
        total_blocks=worker.total_blocks,
        token_budget=options.max_num_batched_tokens,
        shared_budget=options.max_num_shared_tokens,
        max_rows=options.max_num_prefill_seqs,
        look_ahead=options.look_ahead,
        prefix_caching=options.enable_prefix_caching,
        prefix_cache_fraction=options.prefix_cache_fraction,
    )
    engine = Engine(unit, by_name(policy), worker.executor, step_timeout_s=options.step_timeout_s)
    lifecycle = ModelLifecycle(engine, unit, worker.control, config_of)
    specs = {name: loaded.spec for name, loaded in worker.models.items()}
    return Built(options=options, device=worker.device, engine=engine, lifecycle=lifecycle, models=specs, report=lines)


def model_config(unit: UnitOptions, kv_dtype: np.dtype, devices: DeviceControl, model: ModelOptions, loaded: Loaded) -> ModelConfig:
    """A model as a unit knows it; reads its tokenizer, for grammars."""
    spec = loaded.spec
    return ModelConfig(
        name=model.name,
        layout=layout_of(unit, model, spec, kv_dtype.name),
        slots=model.max_num_seqs,
        max_tokens=spec.max_len,
        vocab=spec.vocab,
        grammars=Grammars.of(model.path, spec),
        pools=read_pooling(model.path, model.pooling) is not None,
        max_loras=model.lora_places,
        hold_adapter=partial(_hold_adapter, devices, model.name) if model.lora_places else None,
        rate=model.rate,
        weight=model.weight,
        ttft_s=model.ttft_s,
        tpot_s=model.tpot_s,
        speculation=Speculation.of(model),
        token_cost=spec.active_params,
        lane=loaded.lane,
        step_sizes=loaded.step_sizes,
        sm_shares=loaded.sm_shares,
    )


def _hold_adapter(devices: DeviceControl, model: str, adapter: Adapter) -> object:
    """As `DeviceControl.hold_adapter`.

    Raises:
      RequestError: it cannot be read any more (503).
    """
    try:
        return devices.hold_adapter(model, adapter)
    except MuxError as error:
        raise RequestError(str(error), param="model", code="adapter_unreadable", status=503) from error
