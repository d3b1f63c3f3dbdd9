"""`muxjax bench compare`: the same load on one serving system after another, each started and stopped for it."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from muxjax.bench.backends.backend import Backend
from muxjax.bench.backends.check import samples
from muxjax.bench.backends.fleet import Fleet
from muxjax.bench.backends.known import backend_of
from muxjax.bench.backends.running import device_bytes, lacking, serving
from muxjax.bench.records import Run, require_appendable
from muxjax.bench.summary import summary
from muxjax.bench.targets import Targets
from muxjax.commands.bench.came import Came, text
from muxjax.commands.bench.fleet import fleet_of
from muxjax.commands.bench.loads import asked
from muxjax.commands.bench.options import BenchOptions, CompareOptions, LoadOptions
from muxjax.commands.bench.serve import INTERRUPTED, INVALID
from muxjax.commands.bench.session import Session
from muxjax.commands.bench.sweep import kept
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError, MuxError, first_line, require


class _Way(NamedTuple):
    """How a backend is measured."""

    load: LoadOptions
    options: BenchOptions
    targets: Targets
    compare: CompareOptions
    logs: Path


def run(unit: UnitOptions, load: LoadOptions, options: BenchOptions, targets: Targets, compare: CompareOptions) -> int:
    """Prints what each backend came to at each rate; runs that the file of records holds are not measured again.

    Args:
      unit: the models, and the size of the cache that all backends have together (`kv_cache_bytes`).
    1 if the client fell behind in a run, or a backend could not be run; 130 after Ctrl-C.
    Raises:
      ConfigError: a file or a model that is not there, or a value that cannot be; OSError: records cannot be written any more. What was
        measured before is printed.
    """
    came: list[Came] = []
    try:
        for one in compared(unit, load, options, targets, compare):
            came.append(one)
    except (KeyboardInterrupt, MuxError, OSError) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if interrupted or any(one.runs for one in came):
            print("\n".join(text(came, targets)))
            print("INCOMPLETE: ended early; with --records it goes on where it was")
        if interrupted:
            return INTERRUPTED
        raise
    print("\n".join(text(came, targets)))
    valid = all(summary([run], targets).lag.valid for one in came for run in one.runs)
    return 0 if valid and not any(one.trouble for one in came) else INVALID


def compared(unit: UnitOptions, load: LoadOptions, options: BenchOptions, targets: Targets, compare: CompareOptions) -> Iterator[Came]:
    """What each backend came to, as it comes; for the arguments and errors, see `run`."""
    backends = [backend_of(name) for name in compare.backends]
    names = [backend.name for backend in backends]
    require(len(set(names)) == len(names), "backends", ", ".join(names), "named once each")
    fleet = fleet_of(unit, asked(load, [model.name for model in unit.models], options.seeds[0]).at(1.0), device_bytes())
    with _folder(compare.logs) as logs:
        way = _Way(replace(load, model=fleet.names), options, targets, compare, logs)
        for backend in backends:
            one = Came(backend=backend, runs=_kept(backend, fleet, way))
            try:
                _measure(one, fleet, way)
            except (KeyboardInterrupt, MuxError, OSError) as error:
                one.trouble = f"NOT RUN TO ITS END: {'interrupted' if isinstance(error, KeyboardInterrupt) else first_line(error)}"
                yield one  # with what was measured of it
                raise
            yield one


def _measure(one: Came, fleet: Fleet, way: _Way) -> None:
    """Adds what is missing; a backend that cannot be run is told of, and the others go on."""
    left = _left(one.runs, way)
    if not left:
        return
    if missing := lacking(one.backend):
        one.trouble = f"NOT RUN: {missing}"
        return
    if way.options.records is not None:
        require_appendable(way.options.records)
    try:
        with serving(one.backend, fleet, way.logs, ready_s=way.compare.ready_s) as running:
            one.start_s, one.used_bytes = running.start_s, running.used_bytes
            one.trouble = f"NOT UNDER MPS: {running.unattached} of its processes" if running.unattached else ""
            one.samples = samples(running.urls)
            load = replace(way.load, model=tuple(f"{model}={url}" for model, url in running.urls.items()))
            session = Session(_options(one.backend, way), load, about=_about(fleet), watch=running.check)
            while left:
                one.runs.append(session.run(*left[0]))
                left = _left(one.runs, way)
    except ConfigError as error:
        where = f"are in {way.compare.logs}" if way.compare.logs else "are kept with --logs"
        one.trouble = f"NOT RUN TO ITS END: {error} (its servers' logs {where})"


def _left(runs: Sequence[Run], way: _Way) -> list[tuple[float, int]]:
    """Scales and seeds that are still to be asked, ascending: none beyond a scale at which too few are good."""
    there = {(run.begin.scale, run.begin.seed): run for run in runs}
    for scale in sorted(way.compare.rate_scales):
        own = {seed: (scale * way.load.rate_scale, seed) for seed in way.options.seeds}
        if missing := [(scale, seed) for seed, key in own.items() if key not in there]:
            return missing
        attained = summary([there[key] for key in own.values()], way.targets).all.attained
        if attained is not None and attained < way.compare.enough:
            break
    return []


def _kept(backend: Backend, fleet: Fleet, way: _Way) -> list[Run]:
    """Whole runs of the scales and seeds that are asked for, the last of each, with the same models and the same load."""
    wanted = {(scale * way.load.rate_scale, seed) for scale in way.compare.rate_scales for seed in way.options.seeds}
    there = {(run.begin.scale, run.begin.seed): run for run in kept(_options(backend, way), way.load.written | _about(fleet))}
    return [run for key, run in there.items() if key in wanted]


def _options(backend: Backend, way: _Way) -> BenchOptions:
    return replace(way.options, label=backend.name)


def _about(fleet: Fleet) -> dict[str, object]:
    return {"fleet": fleet.written}


@contextlib.contextmanager
def _folder(logs: Path | None) -> Iterator[Path]:
    """For what servers print."""
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        yield logs
        return
    with tempfile.TemporaryDirectory(prefix="muxjax-bench-") as folder:
        yield Path(folder)
