"""Cost model that interpolates a table of measured steps."""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from muxjax.cost.chip import Chip, MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import Roofline
from muxjax.cost.table import CostTable, Row, Shape, read_table
from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec


class TableCosts:
    """Cost model that no measured step contradicts, but where noise made more work cheaper: then the later step costs what the earlier did.

    Both directions are linear between measurements. Above them, seconds are those at the edge times what the roofline says the rest
    of the way costs; below them, those at the edge. What was not measured at all costs what the roofline says.

    Args:
      tables: of one device, no step in two of them.
    Raises:
      ConfigError: of a model, not every context was measured with every count: a profile that was cut off.
    """

    def __init__(self, *tables: CostTable):
        rows: dict[tuple[Shape, int, str], list[Row]] = {}
        for table in tables:
            for row in table.rows:
                rows.setdefault((table.shapes[row.model], row.tp, row.phase), []).append(row)
        self._device = tables[0].device
        self._grids = {key: _grid(found) for key, found in rows.items()}
        self._roofline = Roofline()

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        def roofline(count: float, context: float) -> float:
            return self._roofline.prefill_s(spec, mesh, round(count), context)

        grid = self._measured(spec, mesh, "prefill")
        return _interpolated(grid, tokens, context, roofline) if grid else roofline(tokens, context)

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        def roofline(count: float, context: float) -> float:
            return self._roofline.decode_s(spec, mesh, round(count), round(count * context))

        grid = self._measured(spec, mesh, "decode")
        return _interpolated(grid, batch, context_tokens / batch, roofline) if grid else roofline(batch, context_tokens / batch)

    def _measured(self, spec: ModelSpec, mesh: MeshSpec, phase: str) -> "_Grid | None":
        measured = mesh.usual and spec.quantization is None and of_chip(mesh.chip, self._device)
        return self._grids.get((Shape.of(spec), mesh.tp, phase)) if measured else None


def of_chip(chip: Chip, device: str) -> bool:
    """Whether a device is such a chip, by JAX's name of it: "NVIDIA A100-SXM4-80GB" is an "A100-80GB"."""
    return chip.family in device


def costs_of(chips: Iterable[Chip], table: Path | None = None) -> CostModel:
    """Costs of devices of several kinds: of a file that `muxjax profile` wrote, for the kind that it is of; else of what was measured
    for the package, else the roofline."""
    written = read_table(table) if table else None
    return CostsByChip({chip.name: TableCosts(written) if written and of_chip(chip, written.device) else shipped(chip) for chip in chips})


class CostsByChip:
    """Cost model of several kinds of devices, each with one of its own, by its name; the roofline of others."""

    def __init__(self, costs: Mapping[str, CostModel]):
        self._costs = costs

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        return self._of(mesh).prefill_s(spec, mesh, tokens, context)

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        return self._of(mesh).decode_s(spec, mesh, batch, context_tokens)

    def _of(self, mesh: MeshSpec) -> CostModel:
        return self._costs.get(mesh.chip.name) or Roofline()


def shipped(chip: Chip) -> CostModel:
    """Costs of such a chip by the tables that come with the package; the roofline where there is none."""
    folder = Path(__file__).with_name("tables")
    tables = [table for table in map(read_table, sorted(folder.glob("*.json"))) if of_chip(chip, table.device)]
    return TableCosts(*tables) if tables else Roofline()


class _Grid(NamedTuple):
    """Seconds [counts, contexts], all ascending."""

    counts: Sequence[float]
    contexts: Sequence[float]
    seconds: np.ndarray


def _grid(rows: Iterable[Row]) -> _Grid:
    """The rows, each raised to the dearest one of no more work.

    Raises:
      ConfigError: a count lacks a context that another has.
    """
    measured = {(row.count, row.context): row for row in rows}
    counts, contexts = sorted({count for count, _ in measured}), sorted({context for _, context in measured})
    for count, context in itertools.product(counts, contexts):
        if (count, context) not in measured:
            one = next(iter(measured.values()))
            lacking = f"{one.model}'s {one.phase} of {count} at context {context:g}, tp {one.tp}, as they have of other counts"
            raise ConfigError(f"rows must have {lacking}: run the profile to its end", field="rows")
    seconds = np.array([[measured[count, context].seconds for context in contexts] for count in counts])
    return _Grid(counts, contexts, np.maximum.accumulate(np.maximum.accumulate(seconds, axis=0), axis=1))


def _interpolated(grid: _Grid, count: float, context: float, roofline: Callable[[float, float], float]) -> float:
    """Linear in context at the counts on either side, then between them. Less work than any measured costs what the least did."""
    edge = min(max(count, grid.counts[0]), grid.counts[-1])
    inside = min(max(context, grid.contexts[0]), grid.contexts[-1])
    (low, share), (left, across) = _place(grid.counts, edge), _place(grid.contexts, inside)
    corners = grid.seconds[low : low + 2, left : left + 2]
    sides = corners[:, 0] + across * (corners[:, -1] - corners[:, 0])
    seconds = float(sides[0] + share * (sides[-1] - sides[0]))
    if (edge, inside) == (count, context):
        return seconds
    return seconds * roofline(max(count, edge), max(context, inside)) / roofline(edge, inside)


def _place(places: Sequence[float], at: float) -> tuple[int, float]:
    """The place at or below `at`, and how far on the way to the next one it is, in [0, 1)."""
    low = bisect_right(places, at) - 1
    if low == len(places) - 1:
        return low, 0.0
    return low, (at - places[low]) / (places[low + 1] - places[low])
