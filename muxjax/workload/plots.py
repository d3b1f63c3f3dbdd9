"""A picture of what was served. Needs matplotlib, which is in the extra `plot`."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from muxjax.errors import ConfigError, require
from muxjax.whole_file import whole_file
from muxjax.workload.metrics import Attainment, Served

SUFFIXES = (".png", ".svg")
BEGINS = (b"\x89PNG", b"<?xml")
"""Beginnings of such files, without spaces."""
LABELS = {"ttft": "time to first token", "tpot": "time per token", "latency": "latency"}


def check(path: Path) -> None:
    """Raises ConfigError where `draw` would, before anything is computed."""
    require(path.suffix in SUFFIXES, "plot", str(path), "a file that ends in " + " or ".join(SUFFIXES))
    if find_spec("matplotlib") is None:
        raise ConfigError("plot needs matplotlib, which is not installed: pip install 'muxjax[plot]'", field="plot")


def draw(path: Path, served: Sequence[Served], demanded: Mapping[str, int], attained: Attainment) -> None:
    """Draws attainment by the objectives' scale, the distributions of the times, and how many of each model's requests were served.

    Raises:
      ConfigError: another kind of file, no matplotlib, or a place that cannot be written to.
    """
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    scales, times, counts = figure.subplots(1, 3)
    for name, label in LABELS.items():
        shares = getattr(attained, name)
        scales.plot(list(shares), list(shares.values()), marker=".", label=label)
        seconds = sorted(getattr(one, f"{name}_s") for one in served if name != "tpot" or one.output_tokens > 1)
        times.plot(seconds, [(i + 1) / len(seconds) for i in range(len(seconds))], label=label)
    scales.set(xlabel="objective, in times alone", ylabel="share of the requests within it", ylim=(0, 1.02))
    times.set(xlabel="seconds", ylabel="share of the served requests", xscale="log", ylim=(0, 1.02))
    for axes in (scales, times):
        axes.legend()
    _bars(counts, served, demanded)
    with whole_file(path, field="plot") as file:
        figure.savefig(file.buffer, format=path.suffix[1:])


def _bars(axes, served: Sequence[Served], demanded: Mapping[str, int]) -> None:
    got = {model: sum(one.model == model for one in served) for model in demanded}
    axes.barh(list(demanded), list(demanded.values()), color="lightgray", label="demanded")
    axes.barh(list(got), list(got.values()), height=0.5, label="served")
    axes.invert_yaxis()
    axes.set(xlabel="requests")
    axes.legend()
