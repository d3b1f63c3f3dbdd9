"""The programs of a unit compiled ahead of its start, from its models' configurations alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muxjax.device import memory
from muxjax.device.loader import ModelLoader
from muxjax.device.programs.filling import Filling, Wanted
from muxjax.device.programs.sources import Source, StepSource
from muxjax.engine.model.plan import CPU_CACHE_BYTES
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.progress import followed


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledAhead:
    """What a store holds of a unit's programs.

    Args:
      programs: that the unit needs and the store holds; compiled: those of them that were missing, tuned ones apart.
      tuned: steps for which kernels were tried.
      troubles: why others could not be compiled.
    """

    programs: int
    compiled: int
    total_bytes: int
    tuned: int = 0
    troubles: tuple[str, ...] = field(default=())


def compile_ahead(options: UnitOptions, chip: str, *, tune: bool = False) -> CompiledAhead:
    """Has the store hold all programs of a unit on so many chips of a name, or "" for those attached.

    Args:
      tune: XLA's kernels are tried first, for steps whose choices nobody has made.
    Raises:
      ConfigError: a model cannot be served there, the size of the cache is not known, or there is nothing to try kernels on.
    """
    folder = Path(options.compilation_cache_dir).expanduser()
    filling = Filling.of(chip, options.tensor_parallel_size, folder)
    programs = needed(options, ModelLoader.on(filling.devices, options))
    tuned = _tuned(filling, [source for source, _ in programs]) if tune else 0
    missing = [program for program in programs if filling.kept_bytes(*program) is None]
    troubles: list[str] = []
    with followed("compiling", " programs", len(missing), leave=True) as done:
        for _, trouble in filling.fill(missing):
            troubles += [trouble] if trouble else []
            done()
    sizes = [size for program in programs if (size := filling.kept_bytes(*program)) is not None]
    if len(sizes) < len(programs) and not troubles:
        troubles.append(f"programs cannot be kept in {folder}")
    return CompiledAhead(
        programs=len(sizes),
        compiled=len(sizes) - len(programs) + len(missing),
        total_bytes=sum(sizes),
        tuned=tuned,
        troubles=tuple(troubles),
    )


def _tuned(filling: Filling, sources: Sequence[Source]) -> int:
    """Tunes what may be tuned, and says for how many steps kernels were tried."""
    may_be = [source for source in sources if isinstance(source, StepSource) and source.tuned]
    steps = 0
    with followed("tuning", " steps", len(may_be), leave=True) as done:
        for _, tried in filling.tune(may_be):
            steps += tried
            done()
    return steps


def needed(options: UnitOptions, loader: ModelLoader) -> list[Wanted]:
    """All programs of all models, each once; those that a start waits for come first."""
    pool = loader.pool(_total_blocks(options, loader))
    needs = [(loader.needs(loader.plan(model)), options.devices_of(model)) for model in options.models]
    first = [(source, places) for each, places in needs for source in each.of(each.essential, pool)]
    return list(dict.fromkeys([*first, *((source, places) for each, places in needs for source in each.of(each.shapes, pool))]))


def _total_blocks(options: UnitOptions, loader: ModelLoader) -> int:
    """Head blocks of the arena, whose size is part of every step's program.

    Raises:
      ConfigError: it depends on how much memory a device has left.
    """
    on_cpu = loader.devices.each[0].platform == "cpu"
    if options.kv_cache_bytes is None and (not on_cpu or options.memory_bytes is not None):
        raise ConfigError(
            "kv_cache_size must be given, to this command and to the server: steps are compiled for one size of the cache, "
            "which is else what the device has left beside the weights",
            field="kv_cache_bytes",
        )
    return memory.blocks_in(options, options.kv_cache_bytes or CPU_CACHE_BYTES)
