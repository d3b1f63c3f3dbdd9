"""The figures of docs/results/paper-shape: MuxServe's above ours."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.paper.ablation import LARGE_SCALES, SHAPES
from scripts.paper.comparison import ALPHAS, RATE_SCALES, SCALES
from scripts.paper.plots import Axes, Lines, Point, bars, panels
from scripts.paper.tables import OURS, PAPERS, SLOS, Key, Read, Record, Values, ours, paper, weighted

RATE_OF_SCALES = 1.5
"""Rate of the figure over SLO scales: the rate scale in the middle of what is loaded and what is overloaded."""
COLUMNS = [f"alpha {alpha:g}" for alpha in ALPHAS]
WAYS = {
    "adbs": ("adbs", True),
    "adbs, one job at a time": ("adbs", False),
    "round_robin": ("round_robin", False),
    "fcfs": ("fcfs", False),
}
"""Policies of the ablations: name, and whether jobs run side by side."""

Found = Mapping[Key, Values]


def draw(records: Sequence[Record], folder: Path) -> None:
    """Writes all of them."""
    theirs, mine = paper(), ours(records)
    rate = Axes(x_label="rate scale (1: the most popular LLM gets 20 requests/s)", x_ticks=RATE_SCALES)
    share = (0.0, 104.0)
    demanded = [over_rates(mine, alpha, ["mux"], lambda values: values["demanded_rps"])["mux"] for alpha in ALPHAS]
    _draw_both(folder / "throughput.svg", "requests/s", theirs, mine, lambda values: values["rps"], rate, demanded)
    slo8 = Axes(x_label=rate.x_label, x_ticks=rate.x_ticks, y_limits=share)
    _draw_both(folder / "attainment.svg", "within SLO 8, %", theirs, mine, lambda values: 100 * values["slo8"], slo8)
    _draw_scales(folder / "slo-scales.svg", theirs, mine, Axes(x_label="SLO scale (times the latency alone)", y_limits=share))
    rows = {
        f"{name} p99, s": [over_rates(mine, alpha, OURS, lambda values, key=key: values[key]["p99"]) for alpha in ALPHAS]
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("latency", "latency_s"))
    }
    panels(folder / "latency.svg", rows, COLUMNS, Axes(x_label=rate.x_label, x_ticks=rate.x_ticks, y_log=True))
    _draw_ablations(folder / "ablation.svg", records)


def over_rates(found: Found, alpha: float, systems: Sequence[str], read: Read) -> Lines:
    """A line of each system."""
    return {
        name: [(rate, read(found[Key(alpha, rate, name)])) for rate in RATE_SCALES if Key(alpha, rate, name) in found] for name in systems
    }


def _draw_both(path: Path, what: str, theirs: Found, mine: Found, read: Read, axes: Axes, demanded: Sequence[Sequence[Point]] = ()) -> None:
    """Theirs above ours, and what is demanded for each alpha in both."""
    lines = [{"demanded": points} for points in demanded] or [{}] * len(ALPHAS)
    rows = {
        f"{who}: {what}": [dict(line) | dict(over_rates(found, alpha, names, read)) for line, alpha in zip(lines, ALPHAS, strict=True)]
        for who, found, names in (("paper", theirs, PAPERS), ("ours", mine, OURS))
    }
    panels(path, rows, COLUMNS, axes)


def _draw_scales(path: Path, theirs: Found, mine: Found, axes: Axes) -> None:
    def lines(found: Found, alpha: float, systems: Sequence[str], share: Callable[[Values], Sequence[Point]]) -> Lines:
        keys = {name: Key(alpha, RATE_OF_SCALES, name) for name in systems}
        return {name: share(found[key]) for name, key in keys.items() if key in found}

    def told(values: Values) -> list[tuple[float, float]]:
        return [(scale, 100 * values[f"slo{scale}"]) for scale in SLOS]

    def measured(values: Values) -> list[tuple[float, float]]:
        return [(scale, 100 * values["attainment"]["latency"][str(scale)]) for scale in SCALES]

    rows = {
        "paper: within SLO, %": [lines(theirs, alpha, PAPERS, told) for alpha in ALPHAS],
        "ours: within SLO, %": [lines(mine, alpha, OURS, measured) for alpha in ALPHAS],
    }
    panels(path, rows, COLUMNS, axes)


def _draw_ablations(path: Path, records: Sequence[Record]) -> None:
    groups = {
        shape.title: {"paper": dict(shape.paper)}
        | {
            f"ours, {scale:g} x": {label: weighted(records, shape.title, scale, *way) for label, way in WAYS.items()}
            for scale in LARGE_SCALES
        }
        for shape in SHAPES
    }
    bars(path, groups, "rate-weighted requests/s")
