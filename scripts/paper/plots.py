"""Grids of line plots and of bars, as SVG, one colour and mark a system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Point = tuple[float, float]
Lines = Mapping[str, Sequence[Point]]
"""Points of each system."""

COLORS = {
    "spatial": "#4477aa",
    "spatial, aware": "#77bbdd",
    "temporal": "#ddaa33",
    "mux": "#aa3355",
    "lanes": "#228844",
    "adbs": "#aa3355",
    "adbs, one job at a time": "#dd99aa",
    "round_robin": "#ddaa33",
    "fcfs": "#888888",
    "demanded": "#999999",
}
"""Also the order of the legend."""
MARKS = {"spatial": "o-", "spatial, aware": "s-", "temporal": "^-", "mux": "D-", "lanes": "v-", "demanded": "--"}
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "figure.constrained_layout.use": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "muxjax",
}
"""The salt makes equal plots equal files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Axes of the panels of a grid: x is shared by all of them, y by all if it has limits or is logarithmic, else by those of a column.

    Args:
      x_ticks: chosen by matplotlib if there are none.
    """

    x_label: str
    x_ticks: Sequence[float] = ()
    y_limits: Point | None = None
    y_log: bool = False


def panels(path: Path, rows: Mapping[str, Sequence[Lines]], columns: Sequence[str], axes: Axes) -> None:
    """Line plots: a row for each label of y, a column for each title."""
    plt = pyplot()
    size = (0.8 + 1.7 * len(columns), 0.7 + 1.6 * len(rows))
    share_y = "row" if axes.y_log else bool(axes.y_limits) or "col"
    figure, grid = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, sharex=True, sharey=share_y)
    for row, (label, cells) in zip(grid, rows.items(), strict=True):
        row[0].set_ylabel(label)
        for axis, lines in zip(row, cells, strict=True):
            for system, points in lines.items():
                xs, ys = zip(*points, strict=True) if points else ((), ())
                axis.plot(xs, ys, MARKS[system], color=COLORS[system], label=system, markersize=3.5, linewidth=1.3)
    for axis in figure.axes:
        _scale(axis, axes)
    for axis, title in zip(grid[0], columns, strict=True):
        axis.set_title(title)
    figure.supxlabel(axes.x_label, fontsize=8)
    _finish(figure, path)


def bars(path: Path, groups: Mapping[str, Mapping[str, Mapping[str, float]]], y_label: str) -> None:
    """Bars, one a system: a panel for each title, and in it the groups by their labels."""
    plt = pyplot()
    figure, grid = plt.subplots(1, len(groups), figsize=(7.5, 2.8), squeeze=False, sharey=True)
    for axis, (title, found) in zip(grid[0], groups.items(), strict=True):
        for x, values in enumerate(found.values()):
            width = 0.84 / len(values)
            for i, (system, value) in enumerate(values.items()):
                at = x + (i - (len(values) - 1) / 2) * width
                drawn = axis.bar(at, value, 0.92 * width, color=COLORS[system], label=system)
                axis.bar_label(drawn, fmt="%.1f", fontsize=6, padding=1)
        axis.set_xticks(range(len(found)), list(found))
        axis.set_title(title)
        axis.grid(visible=False, axis="x")
    grid[0][0].set_ylabel(y_label)
    _finish(figure, path)


def _scale(axis: Any, axes: Axes) -> None:
    if axes.x_ticks:
        axis.set_xticks(axes.x_ticks)
    if axes.y_log:
        axis.set_yscale("log")
        axis.set_yticks([step * 10.0**power for power in range(-3, 3) for step in (1, 2, 3, 5)])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
        axis.autoscale_view()
    elif axes.y_limits:
        axis.set_ylim(*axes.y_limits)
    else:
        axis.set_ylim(bottom=0)


def _finish(figure: Any, path: Path) -> None:
    """One legend for all panels; written without a date."""
    drawn = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    handles = {label: drawn[label] for label in COLORS if label in drawn}
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def pyplot() -> Any:
    """matplotlib without a screen; only who draws needs to have it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    plt.rcParams.update(STYLE)
    return plt
