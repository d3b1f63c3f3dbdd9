"""A picture of runs over their rates. Needs matplotlib, which is in the extra `plot`."""

from collections.abc import Sequence
from pathlib import Path

from muxjax.bench.records import Run, by_load
from muxjax.bench.summary import Summary, summary
from muxjax.bench.targets import Targets
from muxjax.whole_file import whole_file
from muxjax.workload.metrics import GOOD
from muxjax.workload.plots import check


def points(runs: Sequence[Run], targets: Targets) -> dict[str, list[tuple[float, Summary]]]:
    """Requests a second that were demanded, and what came of them, ascending, by label; runs of several seeds are one point."""
    found: dict[str, list[tuple[float, Summary]]] = {}
    for group in by_load(runs):
        begin, total = group[0].begin, summary(group, targets)
        found.setdefault(begin.label, []).append((begin.rate_rps or total.all.throughput.rps, total))
    return {label: sorted(own, key=lambda point: point[0]) for label, own in found.items()}


def draw(path: Path, runs: Sequence[Run], targets: Targets) -> None:
    """Draws attainment, times to the first token and per token, and throughput over the rate; a line for each label.

    Raises:
      ConfigError: another kind of file, no matplotlib, or a place that cannot be written to.
    """
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(18, 4.5), layout="constrained")
    attained, firsts, steps, served = figure.subplots(1, 4)
    for number, (label, own) in enumerate(points(runs, targets).items()):
        color = f"C{number % 10}"
        rates, totals = [rate for rate, _ in own], [total.all for _, total in own]
        shares = [(rate, one.attained) for rate, one in zip(rates, totals, strict=True) if one.attained is not None]
        attained.plot([rate for rate, _ in shares], [share for _, share in shares], marker=".", color=color, label=label)
        for axes, name in ((firsts, "ttft"), (steps, "tpot")):
            for at, style in (("p50", "-"), ("p99", ":")):
                values_ms = [1e3 * getattr(one, name).percentiles[at] for one in totals]
                axes.plot(rates, values_ms, style, marker=".", color=color, label=f"{label} {at}")
        served.plot(rates, [one.throughput.output_tokens_per_s for one in totals], marker=".", color=color, label=label)
    attained.axhline(GOOD, color="lightgray", zorder=0)
    attained.set(ylabel="share of the requests within their targets", ylim=(0, 1.02))
    for axes, name in ((firsts, "time to first token"), (steps, "time per token")):
        some = any(value > 0 for line in axes.lines for value in line.get_ydata())
        axes.set(ylabel=f"{name}, ms", yscale="log" if some else "linear")
    served.set(ylabel="output tokens/s")
    for axes in (attained, firsts, steps, served):
        axes.set(xlabel="requests/s")
        axes.legend()
    with whole_file(path, field="plot") as file:
        figure.savefig(file.buffer, format=path.suffix[1:])
