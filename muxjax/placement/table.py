"""Measured seconds of steps, in a file, and `Costs` that interpolate them."""

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from muxjax.errors import ConfigError, require
from muxjax.placement.cost import MeshSpec
from muxjax.placement.costs import Roofline
from muxjax.types import ModelSpec
from muxjax.whole_file import whole_file

VERSION = 1
PHASES = ("prefill", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measured step.

    Args:
      model: shape, by a name that the table's reader knows; phase: prefill or decode.
      count: new tokens of a prefill, sequences of a decode.
      context: positions that a new token attends to in the mean, of a prefill; of a sequence, of a decode.
    Raises:
      ConfigError: a value outside its range, NaN included.
    """

    model: str
    phase: str
    tp: int
    count: int
    context: float
    seconds: float

    def __post_init__(self):
        require(isinstance(self.model, str), "model", self.model, "a name")
        require(self.phase in PHASES, "phase", self.phase, " or ".join(PHASES))
        for field in ("tp", "count"):
            value = getattr(self, field)
            require(isinstance(value, int) and not isinstance(value, bool) and value >= 1, field, value, "a whole number, 1 or more")
        for field in ("context", "seconds"):
            value = getattr(self, field)
            require(_is_number(value) and 0 < value < math.inf, field, value, "over 0 and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """What was measured, where and by which code.

    Args:
      versions: of the packages that made the steps.
    """

    device: str
    versions: Mapping[str, str]
    commit: str
    rows: tuple[Row, ...]


def write_table(table: CostTable, path: Path) -> None:
    """Writes it as JSON, whole or not at all.

    Raises:
      ConfigError: the place cannot be written to.
    """
    with whole_file(path, field="table") as file:
        file.write(json.dumps({"version": VERSION, **asdict(table)}, indent=1) + "\n")


def read_table(path: Path) -> CostTable:
    """The table of a file.

    Raises:
      ConfigError: it is no such table; names the field, its value and its limit.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cost table {path}: {error}", field="table") from error
    found = _fields(found, "table", ("version", "device", "versions", "commit", "rows"))
    require(found["version"] == VERSION, "version", found["version"], str(VERSION))
    require(isinstance(found["device"], str), "device", found["device"], "a name")
    require(isinstance(found["commit"], str), "commit", found["commit"], "a name")
    require(isinstance(found["versions"], dict), "versions", found["versions"], "names and versions")
    require(isinstance(found["rows"], list) and bool(found["rows"]), "rows", found["rows"], "a list of at least one")
    rows = tuple(_row(row, f"rows[{i}]") for i, row in enumerate(found["rows"]))
    return CostTable(device=found["device"], versions=found["versions"], commit=found["commit"], rows=rows)


class TableCosts:
    """`Costs` that no measured step contradicts, but where noise made more work cheaper: then the later step costs what the earlier did.

    Both directions are linear between measurements. Above them, seconds are those at the edge times what the roofline says the rest
    of the way costs; below them, those at the edge. What was not measured at all costs what the roofline says.

    Args:
      specs: of the models that the table names.
    Raises:
      ConfigError: the table names a model that is not in specs.
    """

    def __init__(self, table: CostTable, specs: Mapping[str, ModelSpec]):
        grids: dict[tuple[ModelSpec, int, str], list[Row]] = {}
        for row in table.rows:
            require(row.model in specs, "model", row.model, f"one of {', '.join(specs)}")
            grids.setdefault((specs[row.model], row.tp, row.phase), []).append(row)
        self._device = table.device
        self._grids = {key: _monotone(rows) for key, rows in grids.items()}
        self._roofline = Roofline()

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        def roofline(count: float, context: float) -> float:
            return self._roofline.prefill_s(spec, mesh, round(count), context)

        grid = self._grid(spec, mesh, "prefill")
        return _interpolated(grid, tokens, context, roofline) if grid else roofline(tokens, context)

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        def roofline(count: float, context: float) -> float:
            return self._roofline.decode_s(spec, mesh, round(count), round(count * context))

        grid = self._grid(spec, mesh, "decode")
        return _interpolated(grid, batch, context_tokens / batch, roofline) if grid else roofline(batch, context_tokens / batch)

    def _grid(self, spec: ModelSpec, mesh: MeshSpec, phase: str) -> "_Grid | None":
        return self._grids.get((spec, mesh.tp, phase)) if mesh.chip.name in self._device else None


_Grid = dict[int, dict[float, float]]
"""Seconds by count and context, both ascending; they never fall in either."""


def _monotone(rows: Iterable[Row]) -> _Grid:
    """The rows, each raised to the dearest one of no more work: its own hull from below."""
    ordered = sorted(rows, key=lambda row: (row.count, row.context))
    grid: _Grid = {}
    for row in ordered:
        seconds = max(other.seconds for other in ordered if other.count <= row.count and other.context <= row.context)
        grid.setdefault(row.count, {})[row.context] = seconds
    return grid


def _interpolated(grid: _Grid, count: float, context: float, roofline: Callable[[float, float], float]) -> float:
    """Linear in context at the counts on either side, then between them. Less work than any measured costs what the least did."""
    counts = list(grid)
    contexts = sorted(set().union(*grid.values()))
    edge = min(max(count, counts[0]), counts[-1])
    inside = min(max(context, contexts[0]), contexts[-1])
    seconds = _linear({known: _linear(grid[known], inside) for known in _around(counts, edge)}, edge)
    return seconds * roofline(max(count, edge), max(context, inside)) / roofline(edge, inside)


def _linear(known: Mapping[float, float] | Mapping[int, float], at: float) -> float:
    """Between the two known places around `at`, at the nearest one outside all of them."""
    around = _around(list(known), at)
    low, high = around[0], around[-1]
    if not low < at < high:
        return known[low if at <= low else high]
    return known[low] + (known[high] - known[low]) * (at - low) / (high - low)


def _around(places: list, at: float) -> list:
    """The one or two of ascending places that lie around it."""
    right = bisect_right(places, at)
    return places[max(0, right - 1) : right + 1]


def _row(found: Any, where: str) -> Row:
    row = _fields(found, where, tuple(field.name for field in fields(Row)))
    try:
        return Row(**row)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}", field=f"{where}.{error.field}") from error


def _fields(found: Any, where: str, names: tuple[str, ...]) -> dict[str, Any]:
    require(isinstance(found, dict), where, found, f"an object with {', '.join(names)}")
    for name in sorted({*found} ^ {*names}):
        limit = f"one of {', '.join(names)}" if name in found else "there"
        require(False, f"{where}.{name}", found.get(name, "nothing"), limit)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
