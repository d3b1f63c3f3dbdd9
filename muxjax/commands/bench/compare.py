"""`muxjax bench compare`: the same load on one serving system after another, each started and stopped for it."""

import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from muxjax.bench.backends import engines
from muxjax.bench.backends.backend import Backend
from muxjax.bench.backends.check import Sample, disagreements, samples
from muxjax.bench.backends.fleet import Fleet, Member, in_proportion
from muxjax.bench.backends.known import BY_NAME
from muxjax.bench.backends.running import device_bytes, lacking, serving
from muxjax.bench.records import Run, by_load
from muxjax.bench.summary import summary
from muxjax.bench.targets import Targets
from muxjax.commands.bench.loads import asked
from muxjax.commands.bench.options import BenchOptions, CompareOptions, LoadOptions
from muxjax.commands.bench.serve import INTERRUPTED, INVALID
from muxjax.commands.bench.session import Session
from muxjax.commands.bench.sweep import kept
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError, require
from muxjax.specs.config import read_spec
from muxjax.units import show_s, show_table
from muxjax.workload.load import Load

MPS = "-mps"
"""End of the names of backends whose processes share the GPU through MPS."""
COLUMNS = ("backend", "requests/s", "served", "in target", "tokens/s", "TTFT p50", "p99", "TPOT p50", "p99", "fairness")


@dataclass(slots=True, kw_only=True)
class Came:
    """What a backend came to.

    Args:
      runs: complete ones; start_s: until it was ready, NaN where it was not started.
      trouble: why it could not be run, or not to its end; empty if nothing was wrong.
    """

    backend: Backend
    runs: list[Run]
    start_s: float = math.nan
    samples: list[Sample] = field(default_factory=list)
    trouble: str = ""


def run(unit: UnitOptions, load: LoadOptions, options: BenchOptions, targets: Targets, compare: CompareOptions) -> int:
    """Prints what each backend came to at each rate; runs that the file of records holds are not measured again.

    Args:
      unit: the models, and the size of the cache that all backends have together (`kv_cache_bytes`).
    1 if the client fell behind in a run, or a backend could not be run; 130 after Ctrl-C.
    Raises:
      ConfigError: a file or a model that is not there, or a value that cannot be.
    """
    came: list[Came] = []
    try:
        for one in compared(unit, load, options, targets, compare):
            came.append(one)
    except KeyboardInterrupt:
        print("INCOMPLETE: ended early; with --records it goes on where it was")
        return INTERRUPTED
    finally:
        print("\n".join(text(came, targets)))
    valid = all(summary([run], targets).lag.valid for one in came for run in one.runs)
    return 0 if valid and not any(one.trouble for one in came) else INVALID


def compared(unit: UnitOptions, load: LoadOptions, options: BenchOptions, targets: Targets, compare: CompareOptions) -> Iterator[Came]:
    """What each backend came to, as it comes; for the arguments and errors, see `run`."""
    fleet = fleet_of(unit, asked(load, [model.name for model in unit.models], options.seeds[0]).at(1.0), device_bytes())
    asking = replace(load, model=fleet.names)
    backends = [backend_of(name) for name in compare.backends]
    with _folder(compare.logs) as logs:
        for backend in backends:
            one = Came(backend=backend, runs=kept(replace(options, label=backend.name), asking))
            yield _measured(one, fleet, _Way(asking, options, targets, compare, logs))


def backend_of(name: str) -> Backend:
    """Raises ConfigError: there is none of that name."""
    own, equals, module = name.partition("=")
    if equals and own and module:
        mps = own.endswith(MPS)
        return engines.each(own, f"{module}, a process a model{', under MPS' if mps else ''}", engines.module(module), mps=mps)
    require(name in BY_NAME, "backends", name, "of " + ", ".join(BY_NAME) + ", or NAME=MODULE")
    return BY_NAME[name]


def fleet_of(unit: UnitOptions, load: Load, device_bytes: int) -> Fleet:
    """The fleet of a unit's models; where each has a share of its own, of the cache by the tokens that the load has it hold, of the
    multiprocessors by the products that it asks for.

    Raises:
      ConfigError: a model cannot be read, none is asked, or the size of the cache is not said.
    """
    require(unit.kv_cache_bytes is not None, "kv_cache_size", None, "given: all backends are to have the same cache")
    assert unit.kv_cache_bytes is not None
    first = unit.models[0]
    specs = {model.name: read_spec(Path(model.path), dtype=model.dtype, weights=model.load_format != "dummy") for model in unit.models}
    tokens = Counter[str]()
    for arrival in load.arrivals:
        tokens[arrival.model] += arrival.prompt_tokens + arrival.output_tokens
    held = in_proportion({name: tokens[name] * spec.layers * spec.kv_heads * spec.head_dim or 1.0 for name, spec in specs.items()})
    computed = in_proportion({name: tokens[name] * spec.params or 1.0 for name, spec in specs.items()})
    members = tuple(
        Member(
            name=model.name,
            path=Path(model.path),
            weight_bytes=specs[model.name].params * bytes_of(specs[model.name].dtype),
            cache_share=held[model.name],
            compute_share=computed[model.name],
        )
        for model in unit.models
    )
    return Fleet(
        members=members,
        cache_bytes=unit.kv_cache_bytes,
        device_bytes=device_bytes,
        dummy=first.load_format == "dummy",
        dtype=specs[first.name].dtype,
        max_model_len=first.max_model_len or min(spec.max_len for spec in specs.values()),
        max_num_seqs=first.max_num_seqs,
        programs=unit.compilation_cache_dir,
    )


def bytes_of(dtype: str) -> int:
    """Of an element; numpy does not know bfloat16 by itself."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


class _Way(NamedTuple):
    """How a backend is measured."""

    load: LoadOptions
    options: BenchOptions
    targets: Targets
    compare: CompareOptions
    logs: Path


def _measured(one: Came, fleet: Fleet, way: _Way) -> Came:
    """With what was missing; a backend that cannot be run is told of, and the others go on."""
    left = _left(one.runs, way)
    one.trouble = lacking(one.backend) if left else ""
    if not left or one.trouble:
        return one
    try:
        with serving(one.backend, fleet, way.logs, ready_s=way.compare.ready_s) as running:
            one.start_s = running.start_s
            one.trouble = f"{running.unattached} of its processes are not under MPS" if running.unattached else ""
            one.samples = samples(running.urls)
            urls = tuple(f"{model}={url}" for model, url in running.urls.items())
            session = Session(replace(way.options, label=one.backend.name), replace(way.load, model=urls))
            while left:
                one.runs.append(session.run(*left[0]))
                left = _left(one.runs, way)
    except ConfigError as error:
        one.trouble = str(error)
    return one


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


def text(came: Sequence[Came], targets: Targets) -> Iterator[str]:
    """A row for each backend and rate, and what is to be known of the comparison."""
    rows: list[Sequence[str]] = [COLUMNS]
    for one in came:
        rows += [_row(one.backend.name, runs, targets) for runs in by_load(one.runs)]
    yield from show_table(rows)
    for one in came:
        start = "" if math.isnan(one.start_s) else f"; ready in {show_s(one.start_s)}"
        yield f"{one.backend.name}: {one.backend.about}{start}{f'; NOT RUN TO ITS END: {one.trouble}' if one.trouble else ''}"
    yield from agreement(came)


def agreement(came: Sequence[Came]) -> Iterator[str]:
    """Of the first words that each answered, against those of the first backend with any."""
    told = [one for one in came if any(sample.text for sample in one.samples)]
    for other in told[1:]:
        count = disagreements(other.samples, told[0].samples)
        yield f"{other.backend.name}: {count} of {len(other.samples)} greedy answers differ from those of {told[0].backend.name}"


def _row(name: str, runs: Sequence[Run], targets: Targets) -> Sequence[str]:
    total = summary(runs, targets)
    every = total.all
    times = [show_s(getattr(every, kind).percentiles[at]) for kind in ("ttft", "tpot") for at in ("p50", "p99")]
    attained = "" if every.attained is None else f"{every.attained:.2%}"
    rate = "all at once" if runs[0].begin.rate_rps is None else f"{runs[0].begin.rate_rps:.4g}"
    behind = "" if total.lag.valid else " (the client FELL BEHIND)"
    served = f"{every.completed / total.duration_s:.4g}"
    return (name, rate, served, attained, f"{every.throughput.output_tokens_per_s:.5g}", *times, f"{total.fairness:.3f}{behind}")


@contextlib.contextmanager
def _folder(logs: Path | None) -> Iterator[Path]:
    """For what servers print."""
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        yield logs
        return
    with tempfile.TemporaryDirectory(prefix="muxjax-bench-") as folder:
        yield Path(folder)
