"""A picture of how jobs of three models share one GPU, in turns and in lanes: `python -m scripts.colocation.picture`.

Drawn from the timelines in the last lines of `bench_colocation`; needs matplotlib. Writes docs/results/colocation/lanes.png.
"""

from typing import Any

from scripts import results
from scripts.colocation.ways import SHOWN_S
from scripts.paper.plots import pyplot

QUESTION = "colocation"
ROWS = (("turns", "x1"), ("mux", "x1"), ("mux", "x3"))
COLORS = {"8b": "#1f6f8b", "3b": "#e08e45", "1b": "#7a9e4b"}


def main() -> None:
    plt = pyplot()
    lines = {(run["config"]["way"], run["config"]["load"]): run for run in results.read_runs(QUESTION) if "timeline" in run["values"]}
    shown = [row for row in ROWS if row in lines]
    figure, axes = plt.subplots(len(shown), 1, figsize=(11, 1.7 * len(shown)), sharex=True, squeeze=False)
    for axis, row in zip(axes[:, 0], shown, strict=True):
        draw(axis, f"{row[0]}, {row[1]}", lines[row]["values"]["timeline"])
    axes[-1, 0].set_xlabel("milliseconds; a box is a step, hatched where it has prompts")
    figure.savefig(results.RESULTS / QUESTION / "lanes.png", dpi=110)


def draw(axis: Any, title: str, timeline: list[list[Any]]) -> None:
    """Every job a box in the row of its lane."""
    lanes = sorted({lane for lane, *_ in timeline})
    for lane, model, phase, start_s, end_s in timeline:
        hatch = None if phase == "decode" else "////"
        axis.barh(lane, 1e3 * (end_s - start_s), 0.8, 1e3 * start_s, color=COLORS[model], edgecolor="white", linewidth=0.5, hatch=hatch)
    named = {lane: " ".join(sorted({model for own, model, *_ in timeline if own == lane}, reverse=True)) for lane in lanes}
    axis.set_yticks(lanes, [named[lane] for lane in lanes])
    axis.set_xlim(0, 1e3 * SHOWN_S)
    axis.invert_yaxis()
    axis.set_title(title, loc="left", fontsize=9)


if __name__ == "__main__":
    main()
