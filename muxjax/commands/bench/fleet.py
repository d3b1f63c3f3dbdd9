"""The fleet of a comparison, of a unit's options and the load that its models are to get."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from muxjax.bench.backends.fleet import Fleet, Member, shares
from muxjax.commands.bench.loads import require_known
from muxjax.commands.bench.options import TOLD
from muxjax.engine.model.plan import ITEM_BYTES
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import require
from muxjax.model_spec import ModelSpec
from muxjax.specs.config import read_spec
from muxjax.workload.load import Load

PAGE_TOKENS = 256
"""To which what a sequence has of a cache is rounded up, at most."""


def fleet_of(unit: UnitOptions, load: Load, device_bytes: int) -> Fleet:
    """The fleet of a unit's models. Where each has a share of its own, it is room for one longest sequence, and of what is left as much
    as the load has it hold; of the multiprocessors, by the products that the load asks for.

    Raises:
      ConfigError: a model cannot be read, or one is asked that is not there; an option that backends cannot be told, or that is not the
        same for all models; the size of the cache is not said, or is too small.
    """
    _require_told(unit)
    require(unit.kv_cache_bytes is not None, "kv_cache_size", None, "given: all backends are to have the same cache")
    assert unit.kv_cache_bytes is not None
    specs = {model.name: _spec(model) for model in unit.models}
    require_known((arrival.model for arrival in load.arrivals), specs)
    dtype = _same("dtype", {name: spec.dtype for name, spec in specs.items()})
    asked = _same("max_model_len", {model.name: model.max_model_len for model in unit.models})
    max_model_len = asked or min(spec.max_len for spec in specs.values())
    kv_cache_dtype = _same("kv_cache_dtype", {model.name: model.kv_cache_dtype for model in unit.models})
    element_bytes = ITEM_BYTES[dtype] if kv_cache_dtype == "auto" else 1
    token_bytes = {name: spec.layers * spec.kv_elements * element_bytes for name, spec in specs.items()}
    held = _held(load, token_bytes, max_model_len, unit.kv_cache_bytes)
    tokens = _tokens(load)
    computed = shares({name: tokens[name] * spec.active_params for name, spec in specs.items()}, dict.fromkeys(specs, 0.0))
    members = tuple(
        Member(
            name=model.name,
            path=Path(model.path),
            weight_bytes=int(specs[model.name].weight_bytes(ITEM_BYTES[dtype])),
            token_bytes=token_bytes[model.name],
            cache_share=held[model.name],
            compute_share=computed[model.name],
        )
        for model in unit.models
    )
    return Fleet(
        members=members,
        cache_bytes=unit.kv_cache_bytes,
        device_bytes=device_bytes,
        dummy=_same("load_format", {model.name: model.load_format for model in unit.models}) == "dummy",
        dtype=dtype,
        quantization=_same("quantization", {model.name: model.quantization for model in unit.models}),
        kv_cache_dtype=kv_cache_dtype,
        max_model_len=max_model_len,
        max_num_seqs=_same("max_num_seqs", {model.name: model.max_num_seqs for model in unit.models}),
        programs=unit.compilation_cache_dir,
    )


def _require_told(unit: UnitOptions) -> None:
    """Raises ConfigError: an option says what not every backend can be told, so that they would differ in it."""
    for options in (unit, *unit.models):
        for field in fields(options):
            value, told = getattr(options, field.name), field.name in TOLD or field.name in ("models", "name", "path")
            require(told or value == field.default, field.name, value, "left out: not every backend has it")


def _spec(model: ModelOptions) -> ModelSpec:
    return read_spec(Path(model.path), **replace(model, max_model_len=None).reading)


def _same(field: str, values: Mapping[str, Any]) -> Any:
    """The value that all models have."""
    require(len(set(values.values())) == 1, field, dict(values), "the same for all models")
    return next(iter(values.values()))


def _tokens(load: Load) -> Counter[str]:
    """Of prompts and answers, by model."""
    tokens = Counter[str]()
    for arrival in load.arrivals:
        tokens[arrival.model] += arrival.prompt_tokens + arrival.output_tokens
    return tokens


def _held(load: Load, token_bytes: Mapping[str, int], max_model_len: int, cache_bytes: int) -> dict[str, float]:
    """Shares of the cache."""
    longest = -(-max_model_len // PAGE_TOKENS) * PAGE_TOKENS
    floors = {name: longest * each / cache_bytes for name, each in token_bytes.items()}
    least = f"at least {longest * sum(token_bytes.values())} bytes, which are {longest} tokens of each model"
    require(sum(floors.values()) <= 1, "kv_cache_size", cache_bytes, least)
    tokens = _tokens(load)
    return shares({name: tokens[name] * each for name, each in token_bytes.items()}, floors)
