"""`muxjax profile`: steps of models measured on this machine, into a cost table that is kept after every point."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from muxjax import origin
from muxjax.commands.profile_grid import Grid
from muxjax.cost.table import BEGINS as TABLE
from muxjax.cost.table import CostTable, Row, Shape, read_table, write_table
from muxjax.errors import ConfigError, require
from muxjax.model_spec import ModelSpec
from muxjax.progress import followed
from muxjax.server.build import check_cache_folder
from muxjax.specs import published
from muxjax.specs.config import read_spec
from muxjax.whole_file import require_writable


def run(models: Sequence[str], destination: Path, *, degrees: Sequence[int], grid: Grid, cache_dir: str = "") -> None:
    """Measures what the destination does not hold yet.

    Args:
      models: shapes by name, or folders with a config.json.
      degrees: of tensor parallelism.
      cache_dir: where compiled programs are kept; "" for nowhere.
    Raises:
      ConfigError: an unknown model, a degree that the machine or the model cannot have, or a destination from another machine.
    """
    require_writable(destination, field="output", begins=[TABLE])
    check_cache_folder(cache_dir)
    from muxjax.device.profile import Point, claim

    specs = {Path(model).name: _spec(model) for model in models}
    require(len(specs) == len(models), "models", ", ".join(models), "named once each")
    degrees = list(dict.fromkeys(degrees))
    require(all(tp >= 1 for tp in degrees), "tp", min(degrees), "1 or more")

    points = [Point(phase=phase, count=count, context=context) for phase, count, context in grid.points()]
    machine = claim()
    for spec, tp in itertools.product(specs.values(), degrees):
        require(1 <= tp <= machine.devices, "tp", tp, f"1 to {machine.devices}, the devices of this machine")
        spec.require_split(tp)
    table = _begun(destination, specs, machine.device_kind)
    known = {row.point for row in table.rows}
    with followed("measuring", " steps", len(specs) * len(degrees) * len(points), leave=True) as more:
        for (name, spec), tp in itertools.product(specs.items(), degrees):
            missing = [point for point in points if (name, point.phase, tp, point.count, point.mean_context) not in known]
            more(len(points) - len(missing))
            for row in _measured(name, spec, tp, missing, more, cache_dir):
                table = replace(table, rows=(*table.rows, row))
                write_table(table, destination)
    print(f"{destination}: {len(table.rows)} steps of {', '.join(table.shapes)} on {table.device}")


def _measured(name: str, spec: ModelSpec, tp: int, points: Sequence, more: Callable[..., None], cache_dir: str) -> Iterator[Row]:
    """Rows of those points, one after the other."""
    from muxjax.device.profile import Profiler
    from muxjax.models.sharding import Devices

    if not points:
        return
    more(0, f"{name}, tp {tp}: loading")
    profiler = Profiler(spec, points, devices=Devices.first(tp), programs=cache_dir)
    for i, _ in enumerate(profiler.compile()):
        more(0, f"{name}, tp {tp}: {i + 1} of {profiler.program_count} programs compiled")
    for point in points:
        seconds = profiler.seconds(point)
        yield Row(model=name, phase=point.phase, tp=tp, count=point.count, context=point.mean_context, seconds=seconds)
        more(1, f"{name}, tp {tp}")


def _spec(model: str) -> ModelSpec:
    if model in published.BY_NAME:
        return published.BY_NAME[model]
    known = f"a folder with config.json, or one of {', '.join(published.BY_NAME)}"
    require((Path(model) / "config.json").is_file(), "model", model, known)
    spec = read_spec(Path(model))
    require(spec.quantization is None, "model", model, "one that is not quantised, as tables of measured steps are of 16 bits")
    return spec


def _begun(destination: Path, specs: dict[str, ModelSpec], device: str) -> CostTable:
    """The table that is there, or one without rows.

    Raises:
      ConfigError: a table of another device, other versions or other shapes.
    """
    versions, shapes = origin.versions(), {name: Shape.of(spec) for name, spec in specs.items()}
    if not destination.exists():
        return CostTable(device=device, versions=versions, commits=(origin.commit(),), shapes=shapes, rows=())
    found = read_table(destination)
    for field, here in (("device", device), ("versions", versions)):
        there = getattr(found, field)
        if there != here:
            raise ConfigError(f"{destination} was measured with {field} {there}, and this is {here}: name another file", field="output")
    for name in shapes.keys() & found.shapes.keys():
        require(found.shapes[name] == shapes[name], "output", str(destination), f"without another model called {name}")
    return replace(found, commits=_added(found.commits, origin.commit()), shapes={**found.shapes, **shapes})


def _added(commits: Iterable[str], commit: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*commits, commit)))
