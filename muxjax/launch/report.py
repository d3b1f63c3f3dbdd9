"""The report of a start: what fits, and how long it took."""

from collections.abc import Sequence

from muxjax.engine.model.config import ModelConfig
from muxjax.engine.model.plan import show_dtypes, show_params
from muxjax.engine.options import UnitOptions
from muxjax.launch.worker import Worker
from muxjax.units import show_bytes, show_count, show_s


def start_report(options: UnitOptions, worker: Worker, configs: Sequence[ModelConfig]) -> tuple[str, ...]:
    """A line for each model, one for the cache, and those of the memory plan."""
    later = "" if options.wait_for_all else "; those that fit better follow"
    programs = f"programs that hold every step: compiled in {show_s(worker.compile_s)}{later}"
    return (*(_model_line(options, worker, config) for config in configs), programs, _cache_line(options, worker), *worker.memory.lines())


def _model_line(options: UnitOptions, worker: Worker, config: ModelConfig) -> str:
    name, layout, spec = config.name, config.layout, worker.models[config.name].spec
    tokens = worker.total_blocks // layout.column_blocks * layout.tokens_per_block
    return (
        f"{name}: {show_params(spec)}, {show_dtypes(spec, layout)}, up to {spec.max_len} tokens; a head block holds "
        f"{layout.tokens_per_block} tokens, the whole cache {show_count(tokens)}; "
        f"loaded in {show_s(worker.load_s[name])}{_where(options, name)}"
    )


def _where(options: UnitOptions, name: str) -> str:
    """On which devices a model is that leaves some out."""
    held = next(model.devices for model in options.models if model.name == name)
    if held is None or len(held) == options.tensor_parallel_size:
        return ""
    return f", on device{'s' * (len(held) > 1)} {', '.join(map(str, held))} of {options.tensor_parallel_size}"


def _cache_line(options: UnitOptions, worker: Worker) -> str:
    blocks, block_bytes = worker.total_blocks, options.block_bytes
    size = f"{blocks} head blocks of {show_bytes(block_bytes)} = {show_bytes(blocks * block_bytes)}"
    where = f" on each of {options.tensor_parallel_size} devices" if options.tensor_parallel_size > 1 else ""
    models = f"{len(options.models)} model{'s' * (len(options.models) > 1)}"
    beside = f" in {options.lanes} lanes" if options.most_lanes > 1 else ""
    return f"cache: {size}{where}, {worker.kv_dtype.name}, shared by {models}{beside}; policy {options.policy}"
